"""Counter-based random numbers: Philox4x32-10 (Salmon et al., SC11), the same on every rank.

A draw is a pure function of (seed, what, when, where), so results depend neither on the number of
ranks nor on the order of calls, and a restart needs no generator state.
"""

import math

import numpy as np

from continuum.compilation import exact_inlined

LIPID_NOISE = 1
PROTEIN_KICK = 2
STATE_CHANGE = 3
LIGAND_PLACEMENT = 4
INITIAL_POSITION = 5
INITIAL_STATE = 6
CONTROL_PATCH = 7

_MULTIPLIER_0 = np.uint64(0xD2511F53)
_MULTIPLIER_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = np.uint32(0x9E3779B9)
_WEYL_1 = np.uint32(0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def key_of(seed: int) -> tuple[np.uint32, np.uint32]:
    """Split a 64-bit seed into the two key words."""
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must be in [0, 2^64), got {seed}")
    return np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32)


@exact_inlined
def philox(
    c0: np.uint32, c1: np.uint32, c2: np.uint32, c3: np.uint32, k0: np.uint32, k1: np.uint32
) -> tuple[np.uint32, np.uint32, np.uint32, np.uint32]:
    """Ten rounds: counter (c0, c1, c2, c3), key (k0, k1) -> four independent 32-bit words."""
    for _ in range(10):
        product_0 = _MULTIPLIER_0 * np.uint64(c0)
        product_1 = _MULTIPLIER_1 * np.uint64(c2)
        c0, c2 = (
            np.uint32(product_1 >> _SHIFT) ^ c1 ^ k0,
            np.uint32(product_0 >> _SHIFT) ^ c3 ^ k1,
        )
        c1 = np.uint32(product_1 & _LOW)
        c3 = np.uint32(product_0 & _LOW)
        k0 = np.uint32(k0 + _WEYL_0)
        k1 = np.uint32(k1 + _WEYL_1)
    return c0, c1, c2, c3


@exact_inlined
def uniform(word: np.uint32) -> float:
    """A word as a number in (0, 1), both ends excluded."""
    return (np.float64(word) + 0.5) * 2.0**-32


@exact_inlined
def normal_pair(word_0: np.uint32, word_1: np.uint32) -> tuple[float, float]:
    """Two words -> two independent standard normals (Box-Muller)."""
    radius = math.sqrt(-2.0 * math.log(uniform(word_0)))
    angle = 2.0 * math.pi * uniform(word_1)
    return radius * math.cos(angle), radius * math.sin(angle)
