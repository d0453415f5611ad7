import os
import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pytest

from continuum.atomic_file import atomic_hdf5, atomic_path, stored_hdf5, write_atomically


def test_a_written_file_holds_what_was_given_and_nothing_is_left_beside_it(tmp_path):
    write_atomically(tmp_path / "text", "µ\n")
    write_atomically(tmp_path / "bytes", b"\x00\xff")
    assert (tmp_path / "text").read_bytes() == b"\xc2\xb5\n"
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff"
    assert sorted(os.listdir(tmp_path)) == ["bytes", "text"]


def test_the_file_appears_only_when_the_block_is_over(tmp_path):
    path = tmp_path / "a.h5"
    with atomic_hdf5(path, "snapshot") as file:
        file["values"] = np.arange(3)
        assert not path.exists()
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["values"], np.arange(3))


@pytest.mark.parametrize("failure", [ValueError, OSError, KeyboardInterrupt])
def test_an_error_in_the_block_keeps_the_previous_file_and_leaves_no_other(tmp_path, failure):
    path = tmp_path / "a.h5"
    path.write_bytes(b"before")

    def write_and_fail():
        with atomic_hdf5(path, "snapshot") as file:
            file["values"] = np.arange(3)
            raise failure("stop")

    with pytest.raises(failure, match="stop"):
        write_and_fail()
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a.h5"]


def test_file_then_name_then_folder_are_made_durable_in_that_order(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda d: (done.append(os.readlink(f"/proc/self/fd/{d}")), fsync(d))
    )
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("rename"), replace(a, b)))
    with atomic_path(tmp_path / "a") as temporary:
        temporary.write_bytes(b"1")
    assert done == [str(temporary), "rename", str(tmp_path)]


# A file size limit fails writes as a full disk does, and needs no mount.
FULL_DISK = """
    import resource
    from pathlib import Path
    import numpy as np
    from continuum.atomic_file import atomic_hdf5, write_atomically

    path = Path("a.h5")
    path.write_bytes(b"before")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, resource.RLIM_INFINITY))
    noise = np.random.default_rng(0).random(1 << 17)
    try:
        {write}
    except OSError as error:
        print(error)
"""
WRITES = {
    "text": "write_atomically(path, noise.tobytes())",
    "one array": """
        with atomic_hdf5(path, "snapshot") as file:
            file["a"] = noise""",
    "compressed chunks in pieces": """
        with atomic_hdf5(path, "snapshot") as file:
            a = file.create_dataset(
                "a", (1 << 17,), "f8", chunks=(4096,), compression="gzip", fletcher32=True
            )
            for i in range(0, 1 << 17, 1000):
                a[i : i + 1000] = noise[i : i + 1000]""",
    "metadata": """
        with atomic_hdf5(path, "snapshot") as file:
            for i in range(1000):
                file[f"a{i}"] = noise[:100]""",
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_a_full_disk_is_one_error_that_names_the_file_and_changes_nothing(tmp_path, write):
    program = textwrap.dedent(FULL_DISK).format(
        write=textwrap.indent(textwrap.dedent(write), "    ")
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert run.stdout == "[Errno 27] no room to write a.h5 (File too large); nothing changed\n"
    assert (tmp_path / "a.h5").read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a.h5"]


def test_a_folder_that_does_not_exist_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        write_atomically(tmp_path / "absent" / "a", "text")


def test_a_reader_refuses_what_is_not_of_its_kind_and_names_the_file(tmp_path):
    path = tmp_path / "a.h5"
    with pytest.raises(FileNotFoundError, match=r"a\.h5"), stored_hdf5(path, "patches"):
        pass
    path.write_text("not HDF5")
    with pytest.raises(ValueError, match=r"a\.h5 is not a whole patches file"):
        stored_hdf5(path, "patches").__enter__()
    with h5py.File(path, "w") as file:
        file["density"] = 1
    with pytest.raises(ValueError, match=r"a\.h5 is not a patches file .* no schema"):
        stored_hdf5(path, "patches").__enter__()
    with atomic_hdf5(path, "snapshot"):
        pass
    with pytest.raises(ValueError, match=r"a\.h5 is not a patches file .*bilayer/snapshot/1"):
        stored_hdf5(path, "patches").__enter__()


def test_what_a_killed_writer_left_does_not_stop_the_next(tmp_path):
    path = tmp_path / "a.h5"
    (tmp_path / ".a.h5.partial").write_bytes(b"half of a file that was longer than the next" * 99)
    with atomic_hdf5(path, "snapshot") as file:
        file["values"] = 1
    with stored_hdf5(path, "snapshot") as file:
        assert file["values"][()] == 1
    assert os.listdir(tmp_path) == ["a.h5"]
