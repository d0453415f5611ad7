import numpy as np
import pytest

from campaign.analysis.time_course import (
    course_lines,
    draw_time_courses,
    period_means,
    running_mean,
    standard_error,
)
from campaign.report_data import PatchHistory, patch_history
from tests.campaign.md_laboratory import MRAFA, RASA, RASB, patch_of, write_batch


def history_of(mean, largest=None, lipid=None):
    count = len(mean)
    return PatchHistory(
        time_us=[2.0 * i for i in range(count)],
        mean_proteins=list(mean),
        largest_proteins=[4] * count if largest is None else list(largest),
        lipid=[0.04] * count if lipid is None else list(lipid),
        version=[0] * count,
        neighbours=[0.1] * count,
    )


def test_the_error_of_a_mean_allows_for_correlation():
    """x_t = a x_{t-1} + noise has 2τ = (1 + a) / (1 - a), against the spread of many means."""
    rng = np.random.default_rng(0)
    a, count = 0.8, 2000
    means, errors = [], []
    for _ in range(60):
        x = np.empty(count)
        x[0] = rng.normal() / np.sqrt(1 - a * a)
        for t, kick in enumerate(rng.normal(size=count - 1), start=1):
            x[t] = a * x[t - 1] + kick
        means.append(x.mean())
        errors.append(standard_error(x))
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.25)
    white = rng.normal(size=count)
    assert standard_error(white) == pytest.approx(1 / np.sqrt(count), rel=0.25)


def test_a_running_mean_keeps_what_is_constant_and_halves_a_step():
    np.testing.assert_allclose(running_mean([3.0] * 7, 4), 3.0)
    np.testing.assert_allclose(running_mean([1.0, 5.0, 2.0], 1), [1.0, 5.0, 2.0])
    smooth = running_mean([0.0] * 10 + [1.0] * 10, 5)
    assert smooth[10] == pytest.approx(0.6)
    assert (smooth[:8], smooth[12:]) == (pytest.approx(0.0), pytest.approx(1.0))


def test_periods_are_equal_stretches_of_a_run():
    history = history_of([1.0] * 4 + [2.0] * 4 + [3.0] * 4, largest=[2, 3, 9, 1] * 3)
    periods = period_means(history, 3)
    assert [period["mean_proteins"] for period in periods] == [1.0, 2.0, 3.0]
    assert [period["mean_proteins_error"] for period in periods] == [0.0, 0.0, 0.0]
    assert [period["most_proteins"] for period in periods] == [9.0, 9.0, 9.0]
    assert (periods[1]["from_us"], periods[1]["to_us"]) == (8.0, 14.0)
    first, last = course_lines({"coupled": periods}, "inner PAP6")
    assert first.startswith("coupled, 0 to 6 µs: 1.00 ± 0.00 proteins per patch")
    assert "16 to 22 µs: 3.00" in last
    with pytest.raises(ValueError, match="13 periods need as many snapshots, got 12"):
        period_means(history, 13)


def test_time_courses_are_drawn(tmp_path):
    courses = {"reference": history_of([1.0] * 9), "coupled": history_of([1.0, 2.0, 4.0])}
    path = tmp_path / "courses.png"
    draw_time_courses(path, courses, lipid="inner PAP6", bulk_per_nm2=0.0363)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_near_neighbours_are_other_primaries(tmp_path):
    """Two RAS 4 nm apart see each other; a ligand at 3 nm and a RAS at 6 nm do not count."""
    patches = [
        patch_of(RASA, beads=[(RASB, 4.0, 0.0), (MRAFA, 0.0, 3.0)]),
        patch_of(RASB, beads=[(RASA, -4.0, 0.0), (RASA, 0.0, 6.0)]),
        patch_of(RASA, beads=[(RASB, 0.0, -6.0)]),
        patch_of(-1),
    ]
    (tmp_path / "patches").mkdir()
    write_batch(tmp_path / "patches" / "0000000000.h5", patches)
    history = patch_history(tmp_path, "inner PAP6")
    assert history.neighbours == [pytest.approx(2 / 3)]
