"""Linear algebra on one thread: the same bits on any number of cores, all but one left alone."""

from contextlib import AbstractContextManager

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]


def single_threaded() -> AbstractContextManager[None]:
    """A block in which BLAS keeps to the calling thread."""
    limits: AbstractContextManager[None] = threadpool_limits(1)
    return limits
