"""Where the protein-free control patches of a snapshot lie (membrane-physics section 3).

A control is the first of 100 random points that keeps its distance from every protein and from the
controls before it, else the farthest of the 100; it is dropped if its square holds a protein.
"""

import math

import numpy as np
from numpy.typing import NDArray

from continuum.compilation import exact_inlined, exact_kernel
from continuum.philox import CONTROL_PATCH, key_of, philox, uniform

TRIALS = 100


def place_controls(
    protein_nm: NDArray[np.float64],
    side_nm: float,
    *,
    window_nm: float,
    count: int,
    distance_nm: float,
    seed: int,
    snapshot_index: int,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Points (count, 2) in nm and whether each was placed (count,).

    A pure function of its arguments: trial t of control j of snapshot n is the draw
    (n, t, j, CONTROL_PATCH) of the seed. Raises ValueError for a negative count, distance or index.
    """
    if not count >= 0:
        raise ValueError(f"the number of control patches must be >= 0, got {count}")
    if not distance_nm >= 0:
        raise ValueError(f"control_distance_nm must be >= 0, got {distance_nm}")
    if not 0 <= snapshot_index < 1 << 44:
        raise ValueError(f"snapshot_index must be in [0, 2^44), got {snapshot_index}")
    point_nm = np.zeros((count, 2))
    placed = np.zeros(count, dtype=np.bool_)
    key_low, key_high = key_of(seed)
    _place(
        np.ascontiguousarray(protein_nm, dtype=np.float64),
        side_nm,
        window_nm / 2,
        distance_nm,
        np.uint32(snapshot_index & 0xFFFFFFFF),
        np.uint32(snapshot_index >> 32),
        key_low,
        key_high,
        point_nm,
        placed,
    )
    return point_nm, placed


@exact_kernel
def _place(
    protein_nm: NDArray[np.float64],  # (M, 2)
    side_nm: float,
    half_window_nm: float,
    distance_nm: float,
    index_low: np.uint32,
    index_high: np.uint32,
    key_low: np.uint32,
    key_high: np.uint32,
    point_nm: NDArray[np.float64],  # (count, 2)  out
    placed: NDArray[np.bool_],  # (count,)    out
) -> None:
    for j in range(len(point_nm)):
        farthest_nm = -1.0
        for trial in range(TRIALS):
            word_x, word_y, _, _ = philox(
                index_low,
                np.uint32(index_high << np.uint32(16) | np.uint32(trial)),
                np.uint32(j),
                np.uint32(CONTROL_PATCH),
                key_low,
                key_high,
            )
            x_nm, y_nm = side_nm * uniform(word_x), side_nm * uniform(word_y)
            nearest_nm = math.inf
            for p in range(len(protein_nm)):
                dx_nm = _nearest_image(protein_nm[p, 0] - x_nm, side_nm)
                dy_nm = _nearest_image(protein_nm[p, 1] - y_nm, side_nm)
                nearest_nm = min(nearest_nm, math.sqrt(dx_nm * dx_nm + dy_nm * dy_nm))
            for other in range(j):
                if placed[other]:
                    dx_nm = _nearest_image(point_nm[other, 0] - x_nm, side_nm)
                    dy_nm = _nearest_image(point_nm[other, 1] - y_nm, side_nm)
                    nearest_nm = min(nearest_nm, math.sqrt(dx_nm * dx_nm + dy_nm * dy_nm))
            if nearest_nm > farthest_nm:
                farthest_nm = nearest_nm
                point_nm[j, 0], point_nm[j, 1] = x_nm, y_nm
            if nearest_nm >= distance_nm:
                break
        placed[j] = True
        for p in range(len(protein_nm)):
            dx_nm = _nearest_image(protein_nm[p, 0] - point_nm[j, 0], side_nm)
            dy_nm = _nearest_image(protein_nm[p, 1] - point_nm[j, 1], side_nm)
            if abs(dx_nm) <= half_window_nm and abs(dy_nm) <= half_window_nm:
                placed[j] = False


@exact_inlined
def _nearest_image(difference_nm: float, side_nm: float) -> float:
    return float(difference_nm - side_nm * np.rint(difference_nm / side_nm))
