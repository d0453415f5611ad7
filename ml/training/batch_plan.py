"""Which samples make up which batch: a function of (seed, epoch) alone, not of the workers."""

import math

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]

_SHUFFLE = 1


def training_batches(size: int, batch_size: int, seed: int, epoch: int) -> list[Positions]:
    """A permutation of all samples cut into batches of at most `batch_size`, alike within one."""
    order = np.random.default_rng([seed, _SHUFFLE, epoch]).permutation(size)
    return _cut(order.astype(np.int64), batch_size)


def validation_batches(size: int, batch_size: int) -> list[Positions]:
    """The samples in order, cut the same way."""
    return _cut(np.arange(size, dtype=np.int64), batch_size)


def share_of(batch: Positions, rank: int, workers: int) -> Positions:
    """The consecutive part of a batch that one worker computes."""
    return np.array_split(batch, workers)[rank]


def share_sizes(length: int, workers: int) -> list[int]:
    """How many samples of a batch each worker has."""
    return [length // workers + (rank < length % workers) for rank in range(workers)]


def _cut(order: Positions, batch_size: int) -> list[Positions]:
    return np.array_split(order, max(1, math.ceil(len(order) / batch_size)))
