"""Joining a Ray cluster, or starting one on this machine, with errors that say what to do."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]
from ray.exceptions import AuthenticationError

from ml.training.errors import ClusterError

_REACH_S = 5.0


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
    refresh_authentication()
    try:
        if wanted is None:
            _start(cpus)
        else:
            _check_reachable(wanted)
            ray.init(address=wanted, logging_level=logging.WARNING)
    except AuthenticationError as error:
        raise ClusterError(f"Ray has no usable token: {_first_sentences(error)}") from error
    except ConnectionError as error:
        raise ClusterError(_refusal(wanted, error)) from error
    try:
        yield
    finally:
        ray.shutdown()


def _start(cpus: int) -> None:
    try:
        ray.init(
            address="local",  # or Ray joins whatever cluster it last saw on this machine
            num_cpus=max(cpus, os.cpu_count() or 1),
            include_dashboard=False,
            logging_level=logging.WARNING,
        )
    except AuthenticationError:
        raise
    except Exception as error:  # of no other class where a node has not come up in 30 s
        raise ClusterError(
            f"a local Ray cluster does not start: {_first_sentences(error)}"
        ) from error


def refresh_authentication() -> None:
    """Ray keeps the mode and token that it found first, which may be those of another cluster."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def cluster_cpus() -> float:
    """CPUs of the nodes that have joined by now."""
    return _resource("CPU")


def cluster_gpus() -> float:
    """GPUs of the nodes that have joined by now."""
    return _resource("GPU")


def _resource(name: str) -> float:
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources.get(name, 0.0)


def _check_reachable(address: str) -> None:
    if address == "auto":
        return
    if address.startswith("ray://"):
        raise ClusterError(
            f"{address}: a Ray client address cannot train; give host:port of the head,"
            " or run the command on the cluster with ray job submit"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ClusterError(f"--address must be 'auto' or host:port of a Ray head, got {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=_REACH_S).close()
    except OSError as error:
        raise ClusterError(f"no Ray head listens at {address}: {error}") from error


def _refusal(address: str | None, error: ConnectionError) -> str:
    if address in (None, "auto"):
        return f"no running Ray was found on this machine: {error}"
    mode = os.environ.get("RAY_AUTH_MODE", "not set")
    return (
        f"Ray at {address} does not accept this process: its token is missing or wrong, or another"
        f" version of Ray runs there. RAY_AUTH_MODE is {mode} (a cluster with tokens needs token);"
        f" the token is looked for in {_token_source()}"
    )


def _token_source() -> str:
    if "RAY_AUTH_TOKEN" in os.environ:
        return "RAY_AUTH_TOKEN"
    return os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")


def _first_sentences(error: Exception) -> str:
    return ". ".join(" ".join(str(error).split()).split(". ")[:2])
