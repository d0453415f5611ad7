"""Joining a Ray cluster, or starting one on this machine, with errors that say what to do."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from ml.training.ray_connection import join, start


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
        start(num_cpus=max(cpus, os.cpu_count() or 1), include_dashboard=False)
    else:
        join(wanted)
    try:
        yield
    finally:
        ray.shutdown()


def cluster_cpus() -> float:
    """CPUs of the nodes that have joined by now."""
    return _resource("CPU")


def cluster_gpus() -> float:
    """GPUs of the nodes that have joined by now."""
    return _resource("GPU")


def _resource(name: str) -> float:
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources.get(name, 0.0)
