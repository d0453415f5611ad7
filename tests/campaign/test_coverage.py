"""What a campaign's selection covers, against as many patches chosen at random."""

import numpy as np
import pytest

from campaign.report_figures import EmbeddedPatches, coverage_figure, coverage_numbers


def patches_of(z, selected, kind=None):
    return EmbeddedPatches(
        z=np.asarray(z, np.float32),
        kind=np.ones(len(z), np.uint8) if kind is None else np.asarray(kind, np.uint8),
        selected=np.asarray(selected),
    )


def test_coverage_is_the_distance_to_the_nearest_selected_patch():
    z = np.array([[0.0], [1.0], [2.0], [10.0]])
    found = coverage_numbers(patches_of(z, [True, False, False, True]))
    assert found["campaign"]["fill_distance"] == pytest.approx(2.0)
    assert found["campaign"]["mean"] == pytest.approx((1 + 2) / 2)  # of those not selected
    everything = coverage_numbers(patches_of(z, np.ones(4, bool)))
    assert everything["campaign"]["fill_distance"] == everything["random"]["fill_distance"] == 0


def test_rare_patches_are_covered_by_who_selects_them_and_not_by_chance():
    generator = np.random.default_rng(0)
    z = np.concatenate([generator.normal(0, 1, (990, 2)), generator.normal(20, 1, (10, 2))])
    selected = np.zeros(1000, bool)
    selected[[*range(15), *range(990, 1000)]] = True
    found = coverage_numbers(patches_of(z, selected))
    assert found["selected"] == 25
    assert found["campaign"]["fill_distance"] < 5 < found["random"]["fill_distance"]


def test_kinds_that_are_never_selected_are_left_out():
    z = np.array([[0.0], [1.0], [50.0], [60.0]])
    found = coverage_numbers(patches_of(z, [True, False, False, False], kind=[1, 1, 3, 3]))
    assert (found["patches"], found["left_out"]) == (2, 2)
    assert found["campaign"]["fill_distance"] == pytest.approx(1.0)
    assert "2 of kinds never selected left out" in coverage_figure(found).axes[0].get_title()
