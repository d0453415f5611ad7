"""Bootstrap intervals from blocks of data, the only samples that are independent."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def resampled_weights(blocks: int, resamples: int, seed: int) -> Iterator[Array]:
    """How often each of `blocks`, two or more, is drawn, (blocks,), `resamples` times.

    Draws of a single block, which say nothing of how blocks differ, are not counted.
    """
    generator = np.random.Generator(np.random.Philox(key=seed))
    while resamples:
        weight = np.bincount(generator.integers(blocks, size=blocks), minlength=blocks)
        if np.count_nonzero(weight) > 1:
            resamples -= 1
            yield weight.astype(np.float64)


def central_interval(samples: Array) -> tuple[Array, Array]:
    """The bounds of the central 95 % of `samples`, along their first axis; NaN are left out."""
    low, high = np.nanpercentile(samples, [2.5, 97.5], axis=0)
    return low, high
