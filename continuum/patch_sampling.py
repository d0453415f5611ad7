"""Densities at the nodes of patches, by the tensor product of cubic Lagrange interpolation.

Why cubic: cell values of the finite-volume grid are second-order (a cell average is the value at
the centre plus h²/24 ∇²ρ, an error of the grid's own order, so averages are taken as values at
centres). Linear interpolation would add an error of that same order which changes with the place of
the protein inside its cell: equal surroundings would give different patches. The four-point cubic
has error O(h⁴), is that of the prolongation between grids, and its stencil needs two halo rows.
"""

import numpy as np
from numpy.typing import NDArray

from continuum.compilation import exact_inlined, exact_kernel
from continuum.patch_batch import CENTRE_NODE, NODE_SPACING_NM, NODES

Quanta = NDArray[np.int32] | NDArray[np.int64]

HALO_ROWS = 2


def sample_patches(
    density: Quanta,
    quantum: float,
    centre_nm: NDArray[np.float64],
    side_nm: float,
    *,
    first_row: int = 0,
    halo: int = 0,
    rotation: float | NDArray[np.float64] = 0.0,
) -> NDArray[np.float32]:
    """Densities (N, S, 37, 37) in nm⁻² of the patches around `centre_nm` (N, 2).

    `density` (S, rows + 2 halo, nx) counts quanta in the rows [first_row, first_row + rows) and in
    `halo` >= 2 exchanged rows on either side; halo 0 means that it is the whole periodic membrane.
    Nodes whose stencil starts outside the rows of this slab stay 0: sum the result over the slabs.
    `rotation` (one angle, or one for each patch) turns the patch from x to y, in radians. Values
    are >= 0: where the cubic would undershoot an almost empty cell, 0.

    Raises ValueError if the halo is too thin for the stencil or the shapes do not fit.
    """
    rows, nx = density.shape[1] - 2 * halo, density.shape[2]
    if halo < HALO_ROWS and not (halo == 0 and first_row == 0 and rows == nx):
        raise ValueError(
            f"patches need {HALO_ROWS} halo rows, or the whole membrane, "
            f"got {rows} of {nx} rows and a halo of {halo}"
        )
    if centre_nm.ndim != 2 or centre_nm.shape[1] != 2:
        raise ValueError(f"centre_nm must be (N, 2), got shape {centre_nm.shape}")
    if not np.isfinite(centre_nm).all():
        raise ValueError("centre_nm must be finite")
    out = np.zeros((len(centre_nm), len(density), NODES, NODES), dtype=np.float32)
    if np.any(rotation):
        angle = np.ascontiguousarray(np.broadcast_to(rotation, len(centre_nm)), dtype=np.float64)
        _sample_turned(density, quantum, first_row, halo, rows, side_nm / nx, centre_nm, angle, out)
    else:
        _sample_aligned(density, quantum, first_row, halo, rows, side_nm / nx, centre_nm, out)
    return out


@exact_kernel
def _sample_turned(
    density: Quanta,  # (S, rows + 2 halo, nx)   quanta
    quantum: float,  # nm⁻²
    first_row: int,
    halo: int,
    rows: int,
    spacing_nm: float,
    centre_nm: NDArray[np.float64],  # (N, 2)
    rotation: NDArray[np.float64],  # (N,)             radians
    out: NDArray[np.float32],  # (N, S, 37, 37)   nm⁻², only own nodes are written
) -> None:
    """ρ(x, y) = Σ_b w_b(t_x) Σ_a w_a(t_y) ρ[row + a, column + b],  a, b = -1..2."""
    species, height, nx = density.shape
    node = np.empty(NODES * NODES, dtype=np.int64)
    row = np.empty((NODES * NODES, 4), dtype=np.int64)
    column = np.empty((NODES * NODES, 4), dtype=np.int64)
    weight_y = np.empty((NODES * NODES, 4))
    weight_x = np.empty((NODES * NODES, 4))
    for n in range(len(centre_nm)):
        cosine, sine = np.cos(rotation[n]), np.sin(rotation[n])
        count = 0
        for iy in range(NODES):
            for ix in range(NODES):
                u_nm = (ix - CENTRE_NODE) * NODE_SPACING_NM
                v_nm = (iy - CENTRE_NODE) * NODE_SPACING_NM
                x = (centre_nm[n, 0] + cosine * u_nm - sine * v_nm) / spacing_nm - 0.5
                y = (centre_nm[n, 1] + sine * u_nm + cosine * v_nm) / spacing_nm - 0.5
                base_y = np.floor(y)
                own_row = (int(base_y) - first_row) % nx
                if own_row >= rows:
                    continue
                base_x = np.floor(x)
                _lagrange(y - base_y, weight_y[count])
                _lagrange(x - base_x, weight_x[count])
                for a in range(4):
                    row[count, a] = (own_row + halo + a - 1) % height
                    column[count, a] = (int(base_x) + a - 1) % nx
                node[count] = iy * NODES + ix
                count += 1
        for s in range(species):
            field = density[s]
            nodes = out[n, s].reshape(NODES * NODES)
            for i in range(count):
                r0, r1, r2, r3 = row[i, 0], row[i, 1], row[i, 2], row[i, 3]
                w0, w1, w2, w3 = weight_y[i, 0], weight_y[i, 1], weight_y[i, 2], weight_y[i, 3]
                total = 0.0
                for b in range(4):
                    c = column[i, b]
                    total += weight_x[i, b] * (
                        w0 * field[r0, c]
                        + w1 * field[r1, c]
                        + w2 * field[r2, c]
                        + w3 * field[r3, c]
                    )
                nodes[node[i]] = max(quantum * total, 0.0)


@exact_kernel
def _sample_aligned(
    density: Quanta,  # (S, rows + 2 halo, nx)   quanta
    quantum: float,  # nm⁻²
    first_row: int,
    halo: int,
    rows: int,
    spacing_nm: float,
    centre_nm: NDArray[np.float64],  # (N, 2)
    out: NDArray[np.float32],  # (N, S, 37, 37)   nm⁻², only own nodes are written
) -> None:
    """As `_sample_turned` at angle 0 and bit for bit the same, but columns are blended once."""
    species, height, nx = density.shape
    base_row = np.empty(NODES, dtype=np.int64)
    base_column = np.empty(NODES, dtype=np.int64)
    weight_y = np.empty((NODES, 4))
    weight_x = np.empty((NODES, 4))
    blend = np.empty(int(np.ceil((NODES - 1) * NODE_SPACING_NM / spacing_nm)) + 5)
    for n in range(len(centre_nm)):
        for i in range(NODES):
            offset_nm = (i - CENTRE_NODE) * NODE_SPACING_NM
            y = (centre_nm[n, 1] + offset_nm) / spacing_nm - 0.5
            x = (centre_nm[n, 0] + offset_nm) / spacing_nm - 0.5
            base_row[i], base_column[i] = int(np.floor(y)), int(np.floor(x))
            _lagrange(y - np.floor(y), weight_y[i])
            _lagrange(x - np.floor(x), weight_x[i])
        first_column = base_column[0] - 1
        width = base_column[NODES - 1] + 3 - first_column
        for s in range(species):
            field = density[s]
            for iy in range(NODES):
                own_row = (base_row[iy] - first_row) % nx
                if own_row >= rows:
                    continue
                w0, w1, w2, w3 = weight_y[iy]
                done = 0
                while done < width:
                    start = (first_column + done) % nx
                    end = min(start + width - done, nx)
                    above = field[(own_row + halo - 1) % height, start:end]
                    line_0 = field[own_row + halo, start:end]
                    line_1 = field[(own_row + halo + 1) % height, start:end]
                    below = field[(own_row + halo + 2) % height, start:end]
                    piece = blend[done : done + end - start]
                    for i in range(end - start):
                        piece[i] = w0 * above[i] + w1 * line_0[i] + w2 * line_1[i] + w3 * below[i]
                    done += end - start
                for ix in range(NODES):
                    b = base_column[ix] - base_column[0]
                    total = 0.0
                    for k in range(4):
                        total += weight_x[ix, k] * blend[b + k]
                    out[n, s, iy, ix] = max(quantum * total, 0.0)


@exact_inlined
def _lagrange(t: float, weight: NDArray[np.float64]) -> None:
    """Weights of the values at -1, 0, 1, 2 for the cubic through them, taken at t in [0, 1)."""
    weight[0] = -t * (t - 1.0) * (t - 2.0) / 6.0
    weight[1] = (t + 1.0) * (t - 1.0) * (t - 2.0) / 2.0
    weight[2] = -(t + 1.0) * t * (t - 2.0) / 2.0
    weight[3] = (t + 1.0) * t * (t - 1.0) / 6.0
