"""Independent Brownian particles in fixed fields, by Metropolis steps (Kikuchi et al. 1991).

A particle tries a Gaussian step of variance 2 D dt along each axis and takes it with probability
min(1, exp(-ΔW)). The stationary density is exactly exp(-W) at any dt, and for small steps the
motion is dr = -D ∇W dt + sqrt(2 D dt) N(0, 1).
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuum.compilation import exact_inlined, exact_kernel
from continuum.philox import normal_pair, philox, uniform

Array = NDArray[np.float64]

LIPID_MOVE = 101


@exact_inlined
def field_at(field: Any, x_nm: float, y_nm: float, nodes_per_nm: float) -> float:
    """Bilinear interpolation on a periodic square of nodes (n, n) at [y, x], 0 <= x, y < n h."""
    n = field.shape[0]
    u, v = x_nm * nodes_per_nm, y_nm * nodes_per_nm
    i, j = int(u), int(v)
    du, dv = u - i, v - j
    if i >= n:
        i -= n
    if j >= n:
        j -= n
    i1 = i + 1 if i + 1 < n else 0
    j1 = j + 1 if j + 1 < n else 0
    low = field[j, i] + du * (field[j, i1] - field[j, i])
    high = field[j1, i] + du * (field[j1, i1] - field[j1, i])
    value: float = low + dv * (high - low)
    return value


@exact_inlined
def wrapped(x_nm: float, box_nm: float) -> float:
    """x in [0, box); steps are shorter than the box."""
    if x_nm < 0.0:
        x_nm += box_nm
    elif x_nm >= box_nm:
        x_nm -= box_nm
    # adding the box to a tiny negative number gives the box itself
    return x_nm if x_nm < box_nm else 0.0


@exact_kernel
def advance(
    position: Array,  # (P, 2)  nm, in [0, box), moved in place
    lipid: NDArray[np.int64],  # (P,)
    field: Array,  # (L, n, n)  kT at [y, x]
    step_nm: Array,  # (L,)  sqrt(2 D dt)
    centre: Array,  # (C, 2)  nm, the beads lipids are counted around
    counts: NDArray[np.int64],  # (C, L, bins), added to
    near: NDArray[np.int64],  # (frames, L), added to: lipids within near_nm of the first centre
    first_frame: int,
    frames: int,
    steps_per_frame: int,
    box_nm: float,
    bin_nm: float,
    near_nm: float,
    key_0: np.uint32,
    key_1: np.uint32,
) -> int:
    """Move all particles through `frames` frames, counting at the end of each; moves accepted.

    Noise depends on (key, step, particle) alone, so that it does not matter how a trajectory is cut
    into calls.
    """
    nodes_per_nm = field.shape[1] / box_nm
    bins = counts.shape[2]
    accepted = 0
    for p in range(position.shape[0]):
        x, y = position[p, 0], position[p, 1]
        kind = lipid[p]
        own, length = field[kind], step_nm[kind]
        energy = field_at(own, x, y, nodes_per_nm)
        for frame in range(first_frame, first_frame + frames):
            for substep in range(steps_per_frame):
                step = frame * steps_per_frame + substep
                w0, w1, w2, _ = philox(
                    np.uint32(step & 0xFFFFFFFF),
                    np.uint32(step >> 32),
                    np.uint32(p),
                    np.uint32(LIPID_MOVE),
                    key_0,
                    key_1,
                )
                dx, dy = normal_pair(w0, w1)
                new_x = wrapped(x + length * dx, box_nm)
                new_y = wrapped(y + length * dy, box_nm)
                new_energy = field_at(own, new_x, new_y, nodes_per_nm)
                if new_energy <= energy or uniform(w2) < math.exp(energy - new_energy):
                    x, y, energy = new_x, new_y, new_energy
                    accepted += 1
            for c in range(centre.shape[0]):
                away_x, away_y = x - centre[c, 0], y - centre[c, 1]
                away_x -= box_nm * math.floor(away_x / box_nm + 0.5)
                away_y -= box_nm * math.floor(away_y / box_nm + 0.5)
                distance = math.sqrt(away_x * away_x + away_y * away_y)
                ring = int(distance / bin_nm)
                if ring < bins:
                    counts[c, kind, ring] += 1
                if c == 0 and distance < near_nm:
                    near[frame - first_frame, kind] += 1
        position[p, 0], position[p, 1] = x, y
    return accepted


@exact_kernel
def add_radial_fields(
    field: Array,  # (L, n, n)  kT at [y, x], added to
    position: Array,  # (B, 2)  nm
    state: NDArray[np.int64],  # (B,)
    table: Array,  # (states, L, m)  kT at r = 0, dr, ...; 0 beyond
    dr_nm: float,
    box_nm: float,
) -> None:
    """field[i, y, x] += Σ_b table[state_b, i](|r - R_b|), nearest images, linear interpolation."""
    lipids, n, last = field.shape[0], field.shape[1], table.shape[2] - 1
    spacing = box_nm / n
    for bead in range(position.shape[0]):
        rows = table[state[bead]]
        for j in range(n):
            away_y = j * spacing - position[bead, 1]
            away_y -= box_nm * math.floor(away_y / box_nm + 0.5)
            for i in range(n):
                away_x = i * spacing - position[bead, 0]
                away_x -= box_nm * math.floor(away_x / box_nm + 0.5)
                u = math.sqrt(away_x * away_x + away_y * away_y) / dr_nm
                k = int(u)
                if k >= last:
                    continue
                part = u - k
                for lipid in range(lipids):
                    low, high = rows[lipid, k], rows[lipid, k + 1]
                    field[lipid, j, i] += low + part * (high - low)
