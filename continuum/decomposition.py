"""The membrane cut into horizontal slabs of whole rows, one per MPI rank."""

from dataclasses import dataclass
from itertools import pairwise

ROW_BLOCK = 4  # slab borders fall between cells of the coarsest auxiliary grid


@dataclass(frozen=True, slots=True, kw_only=True)
class Slab:
    """Rows [first_row, first_row + rows) of a periodic membrane of cells x cells."""

    cells: int
    first_row: int
    rows: int
    rank: int = 0
    ranks: int = 1

    def owns_row(self, row: int) -> bool:
        return self.first_row <= row < self.first_row + self.rows

    def coarsened(self, factor: int) -> "Slab":
        """The same slab on a grid `factor` times coarser."""
        return Slab(
            cells=self.cells // factor,
            first_row=self.first_row // factor,
            rows=self.rows // factor,
            rank=self.rank,
            ranks=self.ranks,
        )


def fitting_rank_counts(cells: int, halo_rows: int) -> list[int]:
    """Every number of ranks whose thinnest slab still holds `halo_rows` rows."""
    blocks = cells // ROW_BLOCK
    return [n for n in range(1, blocks + 1) if n == 1 or (blocks // n) * ROW_BLOCK >= halo_rows]


def cut_into_slabs(cells: int, ranks: int, halo_rows: int) -> list[Slab]:
    """Cut `cells` rows into `ranks` slabs whose heights differ by at most one block of rows.

    Raises ValueError when a slab would be thinner than the halo its neighbours need.
    """
    if cells % ROW_BLOCK:
        raise ValueError(f"cells must be a multiple of {ROW_BLOCK}, got {cells}")
    if ranks not in (fitting := fitting_rank_counts(cells, halo_rows)):
        raise ValueError(
            f"{ranks} ranks do not fit {cells} rows with slabs of at least {halo_rows} rows:"
            f" use 1 to {fitting[-1]} ranks"
        )
    blocks = cells // ROW_BLOCK
    borders = [ROW_BLOCK * (blocks * rank // ranks) for rank in range(ranks + 1)]
    return [
        Slab(cells=cells, first_row=low, rows=high - low, rank=rank, ranks=ranks)
        for rank, (low, high) in enumerate(pairwise(borders))
    ]
