"""Tasks of an analysis on a Ray cluster that is there already."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import RayTaskError

from campaign.ray_cluster import attached

Result = TypeVar("Result")

_AHEAD = 2  # tasks in flight for each CPU: results that nobody has asked for yet stay few


def each_on_ray(
    address: str, function: Callable[..., Result], tasks: Sequence[tuple[Any, ...]]
) -> Iterator[Result]:
    """`function(*task)` of every task, one CPU each, in the order of the tasks.

    Raises ClusterError where there is no cluster, and what the function raises; a task whose node
    is lost is done again elsewhere.
    """
    with attached(Path.cwd(), address):
        remote = ray.remote(function).options(num_cpus=1)
        cpus = ray.cluster_resources().get("CPU", 1)  # type: ignore[no-untyped-call]
        running: deque[Any] = deque()
        for task in tasks:
            running.append(remote.remote(*task))
            if len(running) >= _AHEAD * cpus:
                yield _result(running.popleft())
        while running:
            yield _result(running.popleft())


def _result(asked: Any) -> Any:
    try:
        return ray.get(asked)
    except RayTaskError as error:
        raise error.cause or error from error
