import json
import os

import h5py
import numpy as np
import pytest

from continuum.parameter_versions import (
    ParameterVersion,
    latest_version,
    read_parameter_version,
    version_path,
    write_parameter_version,
)
from continuum.parameters import RadialPotentials


def parameters(version=17):
    u = np.random.default_rng(2).normal(size=(2, 3, 51))
    u[:, :, -1] = 0.0
    return ParameterVersion(
        version=version,
        potentials=RadialPotentials(u=u, dr_nm=0.2, cutoff_nm=10.0),
        state_names=("RASa", "RASb"),
        lipid_labels=("inner POPC", "inner CHOL", "outer CHOL"),
        provenance=json.dumps({"feedback": 17, "frames": 2000.5}),
    )


def test_what_is_written_is_read_back_to_the_bit(tmp_path):
    written = parameters()
    path = write_parameter_version(tmp_path / "parameters", written)
    assert path == tmp_path / "parameters" / "v000017.h5"
    read = read_parameter_version(path)
    np.testing.assert_array_equal(read.potentials.u, written.potentials.u)
    assert read.potentials.u.dtype == np.float64
    for name in ("version", "state_names", "lipid_labels", "provenance"):
        assert getattr(read, name) == getattr(written, name)
    assert (read.potentials.dr_nm, read.potentials.cutoff_nm) == (0.2, 10.0)


def test_plain_h5py_reads_the_file(tmp_path):
    with h5py.File(write_parameter_version(tmp_path, parameters()), "r") as file:
        assert file.attrs["schema"] == "bilayer/parameters/1"
        assert file["u_kt"].shape == (2, 3, 51)
        assert file["lipids"].asstr()[2] == "outer CHOL"


def test_the_latest_version_ignores_what_is_not_a_version(tmp_path):
    assert latest_version(tmp_path / "none") is None
    assert latest_version(tmp_path) is None
    for version in (3, 12, 7):
        write_parameter_version(tmp_path, parameters(version))
    for name in ("v000099.h5.partial", ".v000098.h5", "v99.h5", "w000097.h5", "v000096.h5x"):
        (tmp_path / name).write_bytes(b"")
    assert latest_version(tmp_path) == 12


def test_a_version_is_never_rewritten(tmp_path):
    path = write_parameter_version(tmp_path, parameters())
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"never rewritten, and .*v000017\.h5 exists"):
        write_parameter_version(tmp_path, parameters())
    assert path.read_bytes() == before


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_parameter_version(tmp_path, parameters())
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_file_is_one_clear_error(tmp_path):
    path = write_parameter_version(tmp_path, parameters())
    whole = path.read_bytes()
    for length in (0, 7, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"v000017\.h5 is not a whole parameters file"):
            read_parameter_version(path)


def test_a_flipped_bit_in_the_table_is_noticed(tmp_path):
    path = write_parameter_version(tmp_path, parameters())
    with h5py.File(path, "r") as file:
        chunk = file["u_kt"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="is not a whole parameters file"):
        read_parameter_version(path)


def test_a_foreign_file_is_one_clear_error(tmp_path):
    foreign = tmp_path / "foreign.h5"
    with h5py.File(foreign, "w") as file:
        file["u_kt"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"foreign\.h5 is not a parameters file .* no schema"):
        read_parameter_version(foreign)
    with pytest.raises(FileNotFoundError, match=r"missing\.h5"):
        read_parameter_version(tmp_path / "missing.h5")
    for name in ("u_kt", "states", "lipids"):
        path = write_parameter_version(tmp_path, parameters())
        with h5py.File(path, "a") as file:
            del file[name]
        with pytest.raises(ValueError, match="is not a whole parameters file"):
            read_parameter_version(path)
        path.unlink()


def test_a_table_that_is_no_potential_is_one_clear_error(tmp_path):
    path = write_parameter_version(tmp_path, parameters())
    with h5py.File(path, "a") as file:
        file["u_kt"][0, 0, 0] = np.nan
    with pytest.raises(
        ValueError, match=r"v000017\.h5 holds no usable parameters: u must be finite"
    ):
        read_parameter_version(path)


def test_names_must_fit_the_table():
    with pytest.raises(ValueError, match=r"potentials must be of \(states, lipids\) = \(1, 3\)"):
        ParameterVersion(
            version=1,
            potentials=parameters().potentials,
            state_names=("RASa",),
            lipid_labels=("a", "b", "c"),
            provenance="",
        )
    with pytest.raises(ValueError, match="version must be 0 to 999999, got -1"):
        parameters(-1)


def test_versions_sort_by_name(tmp_path):
    assert version_path(tmp_path, 5).name < version_path(tmp_path, 40).name
