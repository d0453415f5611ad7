"""Counting over all pairs on a CPU: one compiled pass for ranks, one for pairs of distances."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]

CUT_BITS = 10
OWN = np.uint32(0xFFFFFFFF)


def count_matches(
    distances: Floats,  # (B, N) of points first .. first + B - 1 to all, none negative
    row_type: NDArray[np.int64],  # (B,)
    types: NDArray[np.int64],  # (N,)
    first: int,
    same_at_rank: NDArray[np.float64],  # (T, N - 1), added to: [type of the point, rank]
) -> NDArray[np.float64]:
    """Count the neighbours that share a point's type, by rank; see `neighbourhoods` for ties.

    Returns, for each of the B points, the sum over ranks of same(k) (precision(k) +
    precision(k-1)) / 2. One sort of 32 bits does it: the 31 bits of a distance keep their order as
    an integer, and the last bit says "same".
    """
    keys = np.empty(distances.shape, np.uint32)
    _write_keys(distances.view(np.uint32), row_type, types, first, keys)
    keys.sort(axis=1)
    areas = np.zeros(len(keys))
    _count_sorted(keys, row_type, same_at_rank, 1.0 / np.arange(1, len(types)), areas)
    return areas


@njit(cache=True, nogil=True, error_model="numpy")
def _write_keys(
    bits: NDArray[np.uint32],
    row_type: NDArray[np.int64],
    types: NDArray[np.int64],
    first: int,
    keys: NDArray[np.uint32],
) -> None:
    for b in range(bits.shape[0]):
        own = row_type[b]
        for j in range(bits.shape[1]):
            keys[b, j] = (bits[b, j] << np.uint32(1)) | np.uint32(types[j] == own)
        keys[b, first + b] = OWN


@njit(cache=True, nogil=True, error_model="numpy")
def _count_sorted(
    keys: NDArray[np.uint32],  # (B, N) sorted, the last of each row is the point itself
    row_type: NDArray[np.int64],
    same_at_rank: NDArray[np.float64],
    reciprocal: NDArray[np.float64],  # (N - 1,) 1 / k
    areas: NDArray[np.float64],
) -> None:
    one = np.uint32(1)
    others = keys.shape[1] - 1
    for b in range(keys.shape[0]):
        counts = same_at_rank[row_type[b]]
        found, last_precision, area = 0.0, -1.0, 0.0
        start = 0
        while start < others:
            distance = keys[b, start] >> one
            matches = np.int64(keys[b, start] & one)
            end = start + 1
            while end < others and keys[b, end] >> one == distance:
                matches += np.int64(keys[b, end] & one)
                end += 1
            share = matches / (end - start)
            for rank in range(start, end):
                counts[rank] += share
                found += share
                precision = found * reciprocal[rank]
                if rank == 0:
                    last_precision = precision
                area += share * (precision + last_precision)
                last_precision = precision
            start = end
        areas[b] = area / 2


@njit(cache=True, nogil=True, error_model="numpy")
def count_pairs(
    distance: Floats,  # (B, M)
    reference: Floats,  # (B, M)
    factor: np.float32,
    threshold: np.float32,
    distance_bins_per_unit: np.float32,
    reference_bins_per_unit: np.float32,
    residuals: NDArray[np.int64],  # (2^21,) by the leading 21 of 31 bits
    joint: NDArray[np.int64],  # (bins, bins): [reference, distance]
    by_bin: NDArray[np.float64],  # (2, bins): sums of distance and of its square
    sums: NDArray[np.float64],  # (5,): z, r, z², r², zr
    counts: NDArray[np.int64],  # (2,): pairs, pairs within the threshold
) -> None:
    """Add the pairs [b, c] with c > b to all the tallies."""
    bins = joint.shape[0]
    residual = np.empty(distance.shape[1], np.float32)
    bits = residual.view(np.uint32)
    for b in range(distance.shape[0]):
        sum_z, sum_r, sum_zz, sum_rr, sum_zr = 0.0, 0.0, 0.0, 0.0, 0.0
        within = 0
        for c in range(b + 1, distance.shape[1]):
            residual[c] = abs(distance[b, c] - factor * reference[b, c])
        for c in range(b + 1, distance.shape[1]):
            z, r = distance[b, c], reference[b, c]
            residuals[bits[c] >> np.uint32(CUT_BITS)] += 1
            row = min(np.int64(r * reference_bins_per_unit), bins - 1)
            joint[row, min(np.int64(z * distance_bins_per_unit), bins - 1)] += 1
            within += z <= threshold
            wide_z, wide_r = np.float64(z), np.float64(r)
            by_bin[0, row] += wide_z
            by_bin[1, row] += wide_z * wide_z
            sum_z += wide_z
            sum_r += wide_r
            sum_zz += wide_z * wide_z
            sum_rr += wide_r * wide_r
            sum_zr += wide_z * wide_r
        sums[0] += sum_z
        sums[1] += sum_r
        sums[2] += sum_zz
        sums[3] += sum_rr
        sums[4] += sum_zr
        counts[0] += max(distance.shape[1] - b - 1, 0)
        counts[1] += within


def leading_bits(values: Any) -> Any:
    """The bin of `residuals` of float32 values that are not negative."""
    return np.asarray(values, np.float32).view(np.uint32) >> CUT_BITS
