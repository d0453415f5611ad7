"""Counter-based randomness: a draw is a hash of (seed, purpose, what), never a hidden state.

The mixer is SplitMix64's finaliser (Steele, Lea, Flood 2014), chained over the words of the key.
"""

from typing import Any

import numpy as np
from numba import njit

WARM_UP, RANDOM_CHOICE, BIN_CHOICE, MEMBER_CHOICE = range(1, 5)


@njit(cache=True, error_model="numpy")
def mix(word: Any) -> Any:
    """A bijection of 64-bit words whose output bits all depend on every input bit."""
    word = np.uint64(word) + np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


@njit(cache=True, error_model="numpy")
def draw(seed: Any, purpose: Any, high: Any, low: Any) -> Any:
    """64 random bits for one purpose and one 128-bit subject."""
    return mix(mix(mix(mix(seed) ^ np.uint64(purpose)) ^ np.uint64(high)) ^ np.uint64(low))


@njit(cache=True, error_model="numpy")
def uniform(seed: Any, purpose: Any, high: Any, low: Any) -> Any:
    """A float64 uniform on [0, 1) for one purpose and one 128-bit subject."""
    return np.float64(draw(seed, purpose, high, low) >> np.uint64(11)) * 2.0**-53
