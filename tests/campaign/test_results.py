from dataclasses import replace

import h5py
import numpy as np
import pytest

from campaign.molecular_dynamics.job import BadOutput
from campaign.molecular_dynamics.results import (
    MdResult,
    Surroundings,
    read_result,
    write_result,
)


def result_of(counts=None, **changes):
    if counts is None:
        counts = np.zeros((9, 8, 600))
        counts[2] = np.random.default_rng(1).poisson(3.0, (8, 600))
    values = {"frames": 50, "effective_frames": 12.5, "simulated_us": 2.0}
    return MdResult(counts=counts, **(values | changes))


def surroundings():
    return Surroundings(
        bead_state=np.array([4, 7, 1], dtype=np.int8),
        bead_position_nm=np.array([[15.0, 15.0], [18.0, 15.5], [3.0, 29.0]]),
        counted=np.array([0, 1]),
        box_nm=30.0,
    )


def test_a_result_comes_back_as_it_was(tmp_path):
    result = result_of(surroundings=surroundings(), summary={"acceptance": 0.97})
    path = tmp_path / "0000000000000007.h5"
    crc = write_result(path, result, "0000000000000007", 2, 7, seed=2**63 + 5)
    stored = read_result(path)
    assert (stored.job, stored.attempt, stored.patch_id) == ("0000000000000007", 2, 7)
    assert stored.seed == 2**63 + 5
    back = stored.result
    np.testing.assert_array_equal(back.counts, result.counts)
    assert back.counts.dtype == np.float64
    assert (back.frames, back.effective_frames, back.simulated_us) == (50, 12.5, 2.0)
    assert back.summary == {"acceptance": 0.97}
    for name in ("bead_state", "bead_position_nm", "counted", "box_nm"):
        np.testing.assert_array_equal(
            getattr(back.surroundings, name), getattr(result.surroundings, name)
        )
    assert back.crc32() == result.crc32() == crc


def test_fractions_of_counts_survive(tmp_path):
    counts = np.zeros((2, 3, 600))
    counts[1, 2, 5] = 0.1
    path = tmp_path / "a.h5"
    write_result(path, result_of(counts), "a", 1, 1)
    np.testing.assert_array_equal(read_result(path).result.counts, counts)


def test_a_result_without_counts_comes_back(tmp_path):
    path = tmp_path / "a.h5"
    write_result(path, result_of(np.zeros((9, 8, 600))), "a", 1, 1)
    assert not read_result(path).result.counts.any()


def test_the_same_result_is_the_same_file_and_the_attempt_is_not_in_its_checksum(tmp_path):
    first, again, later = (tmp_path / name for name in ("first", "again", "later"))
    crcs = {write_result(p, result_of(), "a", 1, 1) for p in (first, again)}
    crcs.add(write_result(later, result_of(), "a", 2, 1))
    assert len(crcs) == 1
    assert first.read_bytes() == again.read_bytes()


def test_results_written_one_after_the_other_leave_nothing_in_each_other(tmp_path):
    bound, alone = result_of(surroundings=surroundings()), result_of()
    none = result_of(np.zeros((9, 8, 600)))
    for number, result in enumerate([bound, alone, none, bound, none, alone]):
        path = tmp_path / f"{number}"
        name = "j" * (1 + 300 * (number % 2))  # headers of two lengths
        write_result(path, result, name, 1, 1)
        stored = read_result(path)
        assert stored.job == name
        np.testing.assert_array_equal(stored.result.counts, result.counts)
        assert len(stored.result.surroundings.bead_state) == len(result.surroundings.bead_state)
        with h5py.File(path) as file:
            assert file.attrs["schema"] == "bilayer/md/1"


def test_everything_feedback_uses_is_in_the_checksum():
    base = result_of(surroundings=surroundings())
    counts = base.counts.copy()
    counts[2, 0, 0] += 1.0
    moved = np.add(surroundings().bead_position_nm, 1e-9)
    others = [
        replace(base, counts=counts),
        replace(base, frames=51),
        replace(base, effective_frames=12.6),
        replace(base, surroundings=replace(surroundings(), counted=np.array([0, 2]))),
        replace(base, surroundings=replace(surroundings(), bead_position_nm=moved)),
    ]
    assert len({base.crc32(), *(other.crc32() for other in others)}) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": np.zeros((9, 8, 599))}, "got float64"),
        ({"counts": np.zeros((9, 8, 600), dtype=np.float32)}, "got float32"),
        ({"counts": np.full((1, 1, 600), np.nan)}, "finite and >= 0"),
        ({"counts": np.full((1, 1, 600), -1.0)}, "finite and >= 0"),
        ({"frames": 0}, "frames must be >= 1"),
        ({"effective_frames": 50.1}, "<= frames = 50"),
        ({"effective_frames": np.nan}, "got nan"),
        ({"simulated_us": 0.0}, "simulated_us must be > 0"),
        ({"simulated_us": np.inf}, "simulated_us must be > 0"),
    ],
)
def test_impossible_results_are_refused(changes, message):
    with pytest.raises(BadOutput, match=message):
        result_of(**changes)


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "a.h5"
    with pytest.raises(FileNotFoundError, match=r"a\.h5"):
        read_result(path)
    write_result(path, result_of(), "a", 1, 1)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"a\.h5 is not a whole"):
        read_result(path)
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        file["counts"][0, 3, 17] += 1
    with pytest.raises(ValueError, match=r"a\.h5 is damaged: its checksum"):
        read_result(path)
    with h5py.File(path, "w") as file:
        file.attrs["schema"] = "bilayer/patches/1"
    with pytest.raises(ValueError, match="is not a bilayer/md/1 file"):
        read_result(path)
