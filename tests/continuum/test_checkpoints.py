import os
from itertools import pairwise

import numpy as np
import pytest

from continuum.checkpoints import (
    checkpoint_files,
    checkpoint_path,
    checkpoint_writer,
    discard_partial_files,
    latest_checkpoint,
    open_checkpoint,
    verify_checkpoint,
)

SCALARS = {"step": 2**40, "seed": 2**64 - 1, "time_us": 0.1, "name": "µ", "noise": True}
POSITION = np.array([[1.25, 2.5], [3.75, 4.5], [np.nan, np.nan]])


def density_of(seed=0):
    return np.random.default_rng(seed).integers(-(2**31), 2**31, (3, 24, 20), dtype=np.int32)


def save(folder, index, hash_="abc", cuts=(0, 4, 16, 24), **options):
    density = density_of(index)
    with checkpoint_writer(folder, index, hash_, SCALARS, **options) as writer:
        writer.declare("density", density.shape, np.int32)
        for first, last in pairwise(cuts):
            writer.write_rows("density", first, density[:, first:last])
        writer.write("position", POSITION)
        writer.write("empty", np.zeros(0))


def test_arrays_and_scalars_come_back_bit_for_bit(tmp_path):
    save(tmp_path, 7)
    with open_checkpoint(checkpoint_path(tmp_path, 7), "abc") as checkpoint:
        assert checkpoint.index == 7
        assert checkpoint.attributes == SCALARS
        assert {name: type(value) for name, value in checkpoint.attributes.items()} == {
            name: type(value) for name, value in SCALARS.items()
        }
        np.testing.assert_array_equal(checkpoint.read("density"), density_of(7), strict=True)
        np.testing.assert_array_equal(checkpoint.read("position"), POSITION)
        assert checkpoint.read("empty").shape == (0,)
        rows = checkpoint.read_rows("density", 5, 6)
        np.testing.assert_array_equal(rows, density_of(7)[:, 5:11])


def test_the_slabs_in_which_an_array_is_written_do_not_matter(tmp_path):
    for cuts in ((0, 24), (0, 12, 24), (0, 8, 12, 20, 24)):
        save(tmp_path, 7, cuts=cuts)
        with open_checkpoint(checkpoint_path(tmp_path, 7)) as checkpoint:
            np.testing.assert_array_equal(checkpoint.read("density"), density_of(7))


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_only_the_last_few_are_kept(tmp_path, keep):
    for index in range(5):
        save(tmp_path, index, keep=keep)
    kept = [checkpoint_path(tmp_path, index) for index in range(5 - keep, 5)]
    assert checkpoint_files(tmp_path) == kept
    assert latest_checkpoint(tmp_path, "abc") == kept[-1]


def test_writing_an_older_index_removes_no_newer_checkpoint(tmp_path):
    for index in (5, 6, 2):
        save(tmp_path, index)
    assert [path.name for path in checkpoint_files(tmp_path)] == [
        f"{index:010d}.h5" for index in (2, 5, 6)
    ]


def test_damage_anywhere_is_found_or_changes_nothing(tmp_path):
    save(tmp_path, 1)
    path = checkpoint_path(tmp_path, 1)
    whole = path.read_bytes()
    harmless = unnamed = 0
    anywhere = np.random.default_rng(0).choice(len(whole), 400, replace=False)
    aimed = [whole.index(part) for part in (POSITION.tobytes(), b"abc", "µ".encode())]
    for offset in [*anywhere, *aimed]:
        damaged = bytearray(whole)
        damaged[offset] ^= 0x10
        path.write_bytes(damaged)
        try:
            verify_checkpoint(path)
        except ValueError as error:
            unnamed += str(path) not in str(error)
            continue
        harmless += 1
        with open_checkpoint(path) as checkpoint:
            np.testing.assert_array_equal(checkpoint.read("density"), density_of(1))
            np.testing.assert_array_equal(checkpoint.read("position"), POSITION)
            assert checkpoint.attributes == SCALARS
            assert checkpoint.configuration_hash == "abc"
    assert unnamed == 0
    assert harmless < len(anywhere) / 2


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, damage):
    save(tmp_path, 1)
    save(tmp_path, 2)
    newest = checkpoint_path(tmp_path, 2)
    content = bytearray(newest.read_bytes())
    at = content.index(density_of(2)[1, 3].tobytes())
    content[at + 5] ^= 1
    replacement = {
        "truncated": content[:-100],
        "flipped": content,
        "empty": b"",
        "foreign": b"PK\x03\x04" * 1000,
    }
    newest.write_bytes(replacement[damage])
    assert latest_checkpoint(tmp_path, "abc") == checkpoint_path(tmp_path, 1)


def test_if_all_are_damaged_that_is_an_error_and_none_is_none(tmp_path):
    assert latest_checkpoint(tmp_path / "absent", "abc") is None
    assert latest_checkpoint(tmp_path, "abc") is None
    save(tmp_path, 1)
    checkpoint_path(tmp_path, 1).write_bytes(b"")
    with pytest.raises(ValueError, match=r"all 1 checkpoints .* damaged: .*0000000001\.h5"):
        latest_checkpoint(tmp_path, "abc")


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    save(tmp_path, 1, hash_="other")
    with pytest.raises(
        ValueError, match=r"0000000001\.h5 is a checkpoint of another configuration"
    ):
        latest_checkpoint(tmp_path, "abc")
    assert latest_checkpoint(tmp_path) == checkpoint_path(tmp_path, 1)


def test_a_failed_checkpoint_removes_none_and_leaves_nothing(tmp_path):
    save(tmp_path, 1)
    save(tmp_path, 2)

    def interrupted():
        with checkpoint_writer(tmp_path, 3, "abc", SCALARS) as writer:
            writer.declare("density", (3, 24, 20), np.int32)
            writer.write_rows("density", 0, density_of(3)[:, :4])

    with pytest.raises(ValueError, match="density is 1200 values from that"):
        interrupted()
    assert sorted(os.listdir(tmp_path)) == ["0000000001.h5", "0000000002.h5"]


def test_leftovers_of_a_killed_writer_are_ignored_and_can_be_discarded(tmp_path):
    save(tmp_path, 1)
    (tmp_path / ".0000000002.h5.partial").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    assert latest_checkpoint(tmp_path) == checkpoint_path(tmp_path, 1)
    discard_partial_files(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["0000000001.h5", "notes.txt"]


def test_errors_of_the_reader_of_a_checkpoint_stay_what_they_are(tmp_path):
    save(tmp_path, 1)

    def misuse():
        with open_checkpoint(checkpoint_path(tmp_path, 1)):
            raise OSError("unrelated")

    with pytest.raises(OSError, match="unrelated"):
        misuse()
    with pytest.raises(ValueError, match="keep = 0"):
        save(tmp_path, 2, keep=0)


def test_a_single_number_is_no_array(tmp_path):
    def misuse():
        with checkpoint_writer(tmp_path, 1, "abc", SCALARS) as writer:
            writer.write("step", np.array(3))

    with pytest.raises(ValueError, match="step is a single number"):
        misuse()
