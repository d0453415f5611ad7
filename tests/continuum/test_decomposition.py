import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuum.decomposition import ROW_BLOCK, Slab, cut_into_slabs, fitting_rank_counts

BLOCKS, HALO_ROWS = st.integers(1, 60), st.integers(0, 20)


@given(blocks=BLOCKS, halo=HALO_ROWS, data=st.data())
def test_slabs_cover_every_row_once_in_order_and_are_even(blocks, halo, data):
    cells = blocks * ROW_BLOCK
    ranks = data.draw(st.sampled_from(fitting_rank_counts(cells, halo)))
    slabs = cut_into_slabs(cells, ranks, halo)
    assert [slab.rank for slab in slabs] == list(range(ranks))
    assert [row for slab in slabs for row in range(cells) if slab.owns_row(row)] == list(
        range(cells)
    )
    rows = [slab.rows for slab in slabs]
    assert max(rows) - min(rows) <= ROW_BLOCK
    assert all(slab.first_row % ROW_BLOCK == 0 and slab.ranks == ranks for slab in slabs)
    assert ranks == 1 or min(rows) >= halo


@given(blocks=BLOCKS, halo=HALO_ROWS, ranks=st.integers(1, 70))
def test_any_other_number_of_ranks_is_refused_with_those_that_fit(blocks, halo, ranks):
    cells = blocks * ROW_BLOCK
    fitting = fitting_rank_counts(cells, halo)
    assert fitting == list(range(1, fitting[-1] + 1))
    if ranks in fitting:
        return
    with pytest.raises(ValueError, match=f"{ranks} ranks do not fit .* 1 to {fitting[-1]} ranks"):
        cut_into_slabs(cells, ranks, halo)


def test_rows_that_cannot_be_halved_twice_are_refused():
    with pytest.raises(ValueError, match="cells must be a multiple of 4, got 30"):
        cut_into_slabs(30, 1, 4)


def test_a_coarsened_slab_covers_the_same_part_of_the_membrane():
    slabs = cut_into_slabs(72, 4, 4)
    assert [slab.rows for slab in slabs] == [16, 20, 16, 20]
    for slab in slabs:
        for factor in (1, 2, 4):
            coarse = slab.coarsened(factor)
            assert coarse == Slab(
                cells=72 // factor,
                first_row=slab.first_row // factor,
                rows=slab.rows // factor,
                rank=slab.rank,
                ranks=4,
            )
            assert coarse.first_row * factor == slab.first_row
            assert coarse.rows * factor == slab.rows
