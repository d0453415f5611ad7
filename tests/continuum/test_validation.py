from dataclasses import replace

import numpy as np
import pytest

from continuum.configuration import load_model
from continuum.decomposition import cut_into_slabs
from continuum.lipid_step import rows_of_thinnest_slab
from continuum.validation import check_model, describe_model
from tests.continuum.laboratory import correlation, lipids, model_of

LAPTOP = load_model("laptop")


def test_a_description_tells_what_a_configuration_means():
    text = describe_model(LAPTOP, 2)
    for part in (
        "250 nm, 300 x 300 cells of 0.8333 nm, 14 lipid species, 19 proteins",
        "0.399",
        "step limit      none",
        "0.0238 to 1.24 µs at a wavelength of 30 nm",
        "ranks           2 of at most 15",
    ):
        assert part in text
    limited = model_of(lipids([50.0]), correlation((1.7, [[-2.0]])), dt_us=0.0005)
    assert "step limit      0.00" in describe_model(limited, 1)


def test_steps_above_the_limit_and_ranks_that_do_not_fit_are_refused():
    check_model(LAPTOP, 1)
    with pytest.raises(ValueError, match=r"40 ranks do not fit 300 rows .* use 1 to 15 ranks"):
        check_model(LAPTOP, 40)
    unstable = model_of(lipids([50.0]), correlation((1.7, [[-2.0]])), dt_us=0.05)
    with pytest.raises(ValueError, match=r"time_step_us must be at most 0\.00\d+, the stability"):
        check_model(unstable, 1)


@pytest.mark.parametrize("dt_us", [0.005, 0.01, 0.04])
def test_every_slab_that_fits_holds_what_its_neighbours_copy(dt_us):
    quiet = replace(LAPTOP.numerics, time_step_us=dt_us, noise_amplitude=0.0)
    model = replace(LAPTOP, numerics=quiet)
    least = rows_of_thinnest_slab(model)
    assert 10 < least < 100
    largest = 300 // (4 * int(np.ceil(least / 4)))
    for slab in cut_into_slabs(300, largest, least):
        assert slab.rows >= least
    with pytest.raises(ValueError, match="do not fit"):
        cut_into_slabs(300, largest + 1, least)
