"""Joining a Ray cluster, or starting one on this machine, with errors that say what to do."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from ml.training.errors import ClusterError
from ml.training.ray_address import join, one_line, refresh_authentication


@contextmanager
def connected(address: str | None, cpus: int) -> Iterator[None]:
    """Within the block this process is a Ray driver.

    With `address` ("auto" or host:port), or RAY_ADDRESS as `ray job submit` sets it, a cluster is
    joined; otherwise one with at least `cpus` CPUs is started here and stopped afterwards.
    Raises ClusterError.
    """
    if ray.is_initialized():
        yield
        return
    wanted = address or os.environ.get("RAY_ADDRESS")
    if wanted is None:
        _start(cpus)
    else:
        join(wanted)
    try:
        yield
    finally:
        ray.shutdown()


def _start(cpus: int) -> None:
    refresh_authentication()
    try:
        ray.init(
            address="local",  # or Ray joins whatever cluster it last saw on this machine
            num_cpus=max(cpus, os.cpu_count() or 1),
            include_dashboard=False,
            logging_level=logging.WARNING,
        )
    except Exception as error:  # of no other class where a node has not come up in 30 s
        raise ClusterError(f"a local Ray cluster does not start: {one_line(error)}") from error


def cluster_cpus() -> float:
    """CPUs of the nodes that have joined by now."""
    return _resource("CPU")


def cluster_gpus() -> float:
    """GPUs of the nodes that have joined by now."""
    return _resource("GPU")


def _resource(name: str) -> float:
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources.get(name, 0.0)
