"""Connections to Ray clusters, or one sentence that says why there is none.

Ray itself tries for a long time where nothing answers or a token is wrong, and then does not say
which.
"""

import logging
import os
import socket
from pathlib import Path
from typing import Any

from ml.training.errors import ClusterError

LOGGER = logging.getLogger(__name__)
TOKEN_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_ANSWER_S = 5.0


def join(address: str, **options: Any) -> None:
    """Make this process a driver of the cluster at host:port or auto; `options` of ray.init.

    Raises ClusterError where nothing answers there, or refuses the token.
    """
    import ray

    found = _answering(address)
    try:
        ray.init(address=found, logging_level=logging.WARNING, **options)
    except (RuntimeError, ConnectionError, ValueError) as error:
        raise ClusterError(f"no connection to Ray at {found}: {_one_line(error)}") from error


def start(**options: Any) -> None:
    """Start a cluster on this machine and connect to it; `options` of ray.init.

    Raises ClusterError.
    """
    import ray

    refresh_authentication()
    try:
        # Not "auto", or Ray joins whatever cluster it last saw on this machine.
        ray.init(address="local", logging_level=logging.WARNING, **options)
    except Exception as error:  # of no other class where a node has not come up in 30 s
        raise ClusterError(f"a local Ray cluster does not start: {_one_line(error)}") from error


def refresh_authentication() -> None:
    """Ray keeps the mode and token that it found first, which may be those of another cluster."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def check_port(address: str) -> None:
    """Raise ClusterError unless something listens at host:port."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
    except OSError as error:
        raise ClusterError(
            f"no Ray cluster answers at {address} ({error.strerror or error})"
        ) from error


def _answering(address: str) -> str:
    """host:port of the cluster at an address, which accepts this process."""
    if address.startswith("ray://"):
        raise ClusterError(
            f"--address {address}: Ray Client is too slow for patches; give the address of the"
            " cluster itself (host:port), or submit the command with `ray job submit`"
        )
    found = _known_address(address)
    check_port(found)
    _use_token_if_there_is_one()
    refresh_authentication()
    _check_token(found)
    return found


def _one_line(error: Exception) -> str:
    """The first two sentences of what Ray says, or the name of an error that says nothing."""
    return ". ".join(" ".join(str(error).split()).split(". ")[:2]) or type(error).__name__


def _use_token_if_there_is_one() -> None:
    """Turn tokens on where there is one; without the one it expects, Ray ends the process."""
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(given) if given else Path.home() / ".ray" / "auth_token"
    there = bool(os.environ.get("RAY_AUTH_TOKEN")) or (path.is_file() and path.stat().st_size > 0)
    if "RAY_AUTH_MODE" not in os.environ and there:
        os.environ["RAY_AUTH_MODE"] = "token"
    mode = os.environ.get("RAY_AUTH_MODE", "not set")
    if mode.lower() == "token" and not there:
        raise ClusterError(
            "RAY_AUTH_MODE is token, but there is no token: set RAY_AUTH_TOKEN_PATH to the"
            f" cluster's, or copy it to {path}"
        )
    if mode == "not set":
        LOGGER.warning("no Ray token is set: this works with an open cluster only")


def _known_address(address: str) -> str:
    """host:port of an address, which may be `auto`."""
    if address != "auto":
        host, colon, port = address.rpartition(":")
        if not (colon and host and port.isdigit()):
            raise ClusterError(f"--address must be host:port or auto, got {address!r}")
        return address
    from ray._private.services import canonicalize_bootstrap_address

    found = canonicalize_bootstrap_address("auto")
    if not found:
        raise ClusterError("--address auto: no Ray cluster runs on this machine")
    return str(found)


def _check_token(address: str) -> None:
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.exceptions import AuthenticationError, RpcError

    try:
        GcsClient(address=address)
    except AuthenticationError as error:
        mode = os.environ.get("RAY_AUTH_MODE", "not set")
        raise ClusterError(
            f"the Ray cluster at {address} refuses the token (RAY_AUTH_MODE is {mode}): set"
            " RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN to the cluster's token, or copy it to"
            " ~/.ray/auth_token"
        ) from error
    except RpcError as error:
        raise ClusterError(
            f"what answers at {address} is no Ray cluster of this version: {_one_line(error)}"
        ) from error
