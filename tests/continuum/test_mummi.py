import numpy as np
import pytest

from continuum.mummi import KEYS, export_mummi, import_mummi, mummi_path
from continuum.patch_batch import PatchBatch

STATES = ("RASa", "mRASa", "mRAFa")


def batch_of(count=3):
    rng = np.random.default_rng(0)
    offset = np.arange(count + 1, dtype=np.int64) * np.arange(count + 1)
    beads = int(offset[-1])
    return PatchBatch(
        patch_id=np.uint64(9 << 20) + np.arange(count, dtype=np.uint64),
        density=rng.random((count, 14, 37, 37)).astype(np.float32),
        centre_nm=rng.random((count, 2)) * 100,
        central_state=np.zeros(count, dtype=np.int8),
        n_ras=np.ones(count, dtype=np.uint8),
        n_raf=np.ones(count, dtype=np.uint8),
        kind=np.ones(count, dtype=np.uint8),
        bead_offset=offset,
        bead_position_nm=rng.random((beads, 2)),
        bead_state=rng.integers(0, 3, beads).astype(np.int8),
        time_us=4.5,
        snapshot_index=9,
        parameter_version=0,
    )


def test_channels_come_last_and_pickle_is_not_needed(tmp_path):
    batch = batch_of()
    paths = export_mummi(tmp_path, batch, STATES)
    assert paths == [mummi_path(tmp_path, (9 << 20) + n) for n in range(3)]
    assert paths[0].name == "pfpatch_000009437184.npz"
    with np.load(paths[1], allow_pickle=False) as stored:
        assert set(stored) == set(KEYS)
        assert stored["concentrations"].shape == (37, 37, 14)
        assert stored["concentrations"][5, 30, 6] == batch.density[1, 6, 5, 30]
        assert stored["id"] == (9 << 20) + 1


def test_what_is_imported_is_what_was_exported(tmp_path):
    batch = batch_of()
    for n, path in enumerate(export_mummi(tmp_path, batch, STATES, source="run 3")):
        patch = import_mummi(path)
        beads = slice(batch.bead_offset[n], batch.bead_offset[n + 1])
        assert patch.patch_id == batch.patch_id[n]
        assert patch.time_us == 4.5
        assert patch.source == "run 3"
        np.testing.assert_array_equal(patch.density, batch.density[n], strict=True)
        np.testing.assert_array_equal(patch.centre_nm, batch.centre_nm[n])
        np.testing.assert_array_equal(patch.bead_position_nm, batch.bead_position_nm[beads])
        assert patch.bead_state == tuple(STATES[s] for s in batch.bead_state[beads])


def test_a_state_without_a_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match="state 2, there are 2 names"):
        export_mummi(tmp_path, batch_of(), STATES[:2])
    assert list(tmp_path.iterdir()) == []


def rewritten(path, **changes):
    with np.load(path) as stored:
        values = {**stored, **changes}
    np.savez(path, **{key: value for key, value in values.items() if value is not None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"center": None, "ids": None}, "lacks center, ids"),
        ({"tunit": np.array("fs")}, "must be in us and nm, it is in fs and nm"),
        ({"concentrations": np.zeros((73, 73, 14))}, r"37 x 37 nodes .* \(73, 73, 14\)"),
        ({"states": np.array(["RASa", "RASb"])}, "2 states and positions"),
        ({"filenames": np.array([{}], dtype=object)}, "pickle"),
    ],
)
def test_what_is_no_mummi_patch_is_refused_by_name(tmp_path, changes, message):
    path = export_mummi(tmp_path, batch_of(), STATES)[1]
    rewritten(path, **changes)
    with pytest.raises(ValueError, match=rf"pfpatch_\d+\.npz .*{message}"):
        import_mummi(path)


def test_truncated_and_foreign_files_are_refused_by_name(tmp_path):
    path = export_mummi(tmp_path, batch_of(), STATES)[1]
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"text"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"pfpatch_\d+\.npz is not a MuMMI patch"):
            import_mummi(path)
    with pytest.raises(FileNotFoundError):
        import_mummi(tmp_path / "absent.npz")
