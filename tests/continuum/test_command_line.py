import re
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from continuum.__main__ import main
from continuum.membrane import Membrane
from continuum.patch_files import read_patches
from continuum.snapshots import read_snapshot

SMALL = (
    "membrane.side_nm=60.0",
    "membrane.cells=72",
    "duration_us=0.06",
    "output.snapshot_interval_us=0.02",
    "output.checkpoint_every=1",
    "output.control_patches=2",
    "output.control_distance_nm=5.0",
    "proteins.count=3",
    "numerics.protein_substep_us=0.0025",
)


def setting(overrides):
    return [f"--set={override}" for override in overrides]


def invoke(*arguments):
    """Exit code and stderr of a command run in this process; never a traceback."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return result.exit_code, result.stderr, result.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("command") / "run"
    code, error, out = invoke("run", "laptop", "--out", folder, *setting(SMALL))
    assert (code, error.count("Error")) == (0, 0)
    assert re.search(r"run: 0.06 µs, snapshots 0 to 3, on 1 rank in \d+ s", out)
    return folder


def test_a_run_says_how_far_it_is_and_leaves_its_configuration(tmp_path):
    folder = tmp_path / "run"
    code, error, _ = invoke(
        "run",
        "laptop",
        "--out",
        folder,
        *setting(SMALL),
        "--snapshots=2",
        "--seed=5",
        "--patches=none",
    )
    assert code == 0
    assert "snapshot 1: 0.0" in error
    assert "of 0.04 µs" in error
    assert (folder / "config.yaml").read_text() == "preset: laptop\n"
    assert "seed: 5\n" in (folder / "config.resolved.yaml").read_text()
    assert not (folder / "patches").exists()
    assert len(list((folder / "snapshots").glob("*.h5"))) == 3


def test_a_run_can_be_continued_for_longer_and_equals_one_that_was_long(finished, tmp_path):
    folder = tmp_path / "run"
    shorter = [*SMALL, "duration_us=0.04"]
    assert invoke("run", "laptop", "--out", folder, *setting(shorter))[0] == 0
    assert invoke("resume", folder, "--duration-us", "0.06")[0] == 0
    for name in ("0000000002.h5", "0000000003.h5"):
        a, b = (read_snapshot(f / "snapshots" / name) for f in (folder, finished))
        np.testing.assert_array_equal(a.density, b.density)
        c, d = (read_patches(f / "patches" / name) for f in (folder, finished))
        np.testing.assert_array_equal(c.density, d.density)
    assert invoke("resume", folder, "--duration-us", "0.06")[0] == 0  # nothing left to do


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        ("labtop", (), r"labtop is neither a file nor a preset; .*laptop"),
        ("laptop", ("numerics.time_stepus=0.01",), r"numerics\.time_stepus.*time_step_us"),
        ("laptop", ("numerics.time_step_us=.nan",), r"time_step_us.*nan"),
        ("laptop", ("duration_us=.inf",), r"duration_us.*inf"),
        ("laptop", ("lipids.inner.POPC.density_per_nm2=-0.2",), r"density_per_nm2.*-0\.2"),
        ("laptop", ("lipids.inner.POPC.diffusivity_nm2_per_us=0",), r"diffusivity_nm2_per_us"),
        ("laptop", ("membrane.side_nm=40.0", "membrane.cells=48"), r"membrane\.side_nm.*>= 60"),
        ("laptop", ("membrane.cells=301",), r"membrane\.cells must be a multiple of 4, got 301"),
        ("laptop", ("numerics.time_step_us=0.05",), r"time_step_us must be below 0\.04\d+"),
        ("laptop", ("correlation.same_leaflet.amplitudes_at_range_nm=4.0",), r"unstable.*M\(k\)"),
        (
            "laptop",
            (
                "correlation.repulsion=null",
                "correlation.same_leaflet.range_nm=1.7",
                "correlation.same_leaflet.pairs.CHOL-CHOL=-8.0",
            ),
            r"time_step_us must be at most 0\.00\d+, the stability limit .* got 0\.01",
        ),
    ],
)
def test_bad_configurations_are_one_sentence_and_leave_nothing(
    tmp_path, config, overrides, message
):
    for command in (["run", config, "--out", tmp_path / "run"], ["validate", config]):
        code, error, _ = invoke(*command, *setting(overrides))
        assert code == 2
        assert re.search(message, error), error
        assert len(error.strip().splitlines()) <= 3
    assert not list(tmp_path.iterdir())


def test_rank_counts_that_do_not_fit_are_refused_with_those_that_do():
    code, error, _ = invoke("validate", "laptop", "--ranks", 40)
    assert code == 2
    assert "40 ranks do not fit 300 rows" in error
    assert "use 1 to 15 ranks" in error
    assert invoke("validate", "laptop", "--ranks", 15)[0] == 0


def test_a_used_folder_is_refused_and_left_alone(finished):
    before = sorted((path, path.stat().st_mtime_ns) for path in finished.rglob("*"))
    code, error, _ = invoke("run", "laptop", "--out", finished, *setting(SMALL))
    assert code == 2
    assert "already holds a run: continue it with `continuum resume" in error
    assert sorted((path, path.stat().st_mtime_ns) for path in finished.rglob("*")) == before


def test_resuming_what_is_no_run_is_refused(tmp_path):
    code, error, _ = invoke("resume", tmp_path)
    assert code == 2
    assert "holds no run" in error
    code, error, _ = invoke("resume", tmp_path / "nowhere")
    assert code == 2
    assert not (tmp_path / "nowhere").exists()


def copy_of(folder, target):
    for path in folder.rglob("*"):
        if path.is_file():
            new = target / path.relative_to(folder)
            new.parent.mkdir(parents=True, exist_ok=True)
            new.write_bytes(path.read_bytes())
    return target


def test_a_checkpoint_of_another_configuration_is_refused(finished, tmp_path):
    folder = copy_of(finished, tmp_path / "run")
    resolved = folder / "config.resolved.yaml"
    resolved.write_text(resolved.read_text().replace("seed: 1\n", "seed: 2\n"))
    code, error, _ = invoke("resume", folder)
    assert code == 2
    assert "is a checkpoint of another configuration" in error


def test_damaged_checkpoints_are_passed_over_and_named_when_none_is_left(finished, tmp_path):
    folder = copy_of(finished, tmp_path / "run")
    older, latest = sorted((folder / "checkpoints").iterdir())
    latest.write_bytes(latest.read_bytes()[:5000])
    (folder / "patches" / "0000000003.h5").unlink()
    assert invoke("resume", folder)[0] == 0
    a, b = (read_patches(f / "patches" / "0000000003.h5") for f in (folder, finished))
    np.testing.assert_array_equal(a.density, b.density)
    for path in (older, latest):
        path.write_bytes(b"")
    code, error, _ = invoke("resume", folder)
    assert code == 2
    assert "checkpoints in" in error
    assert "are damaged" in error


def python(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


COMPILED_IN_VAIN = """
import sys
from numba.core.caching import NullCache
from numba.core.dispatcher import Dispatcher
from continuum.__main__ import main

main(sys.argv[1:], standalone_mode=False)
modules = [module for name, module in sys.modules.items() if name.startswith("continuum.")]
kernels = [each for module in modules for each in vars(module).values()]
compiled = [each for each in kernels if isinstance(each, Dispatcher) and each.signatures]
assert compiled
print(*{each.__name__ for each in compiled if isinstance(each._cache, NullCache)})
"""


def test_a_run_compiles_nothing_that_no_cache_keeps(tmp_path):
    """Else every process of every run would compile it anew."""
    words = ["run", "laptop", "--out", tmp_path / "run", *setting(SMALL), "--snapshots=1"]
    ended = python(COMPILED_IN_VAIN, *words)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == ""


FULL_DISK = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.argv[:2] = ["continuum"]
runpy.run_module("continuum", run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("part", "room"), [("checkpoints", 500_000), ("snapshots", 290_000)])
def test_a_full_disk_is_one_error_and_the_run_resumes_bit_for_bit(finished, tmp_path, part, room):
    folder = tmp_path / "run"
    patches = "--patches=none" if part == "snapshots" else "--patches=directory"
    first = invoke("run", "laptop", "--out", folder, *setting(SMALL), "--snapshots=1", patches)
    assert first[0] == 0
    checkpoint = folder / "checkpoints" / "0000000001.h5"
    assert checkpoint.stat().st_size > room
    whole = checkpoint.read_bytes()
    ended = python(FULL_DISK, room, "resume", folder)
    assert ended.returncode == 1, ended.stderr
    assert re.search(rf"Error: .*{part}/0000000002\.h5", ended.stderr)
    assert "Traceback" not in ended.stderr
    assert checkpoint.read_bytes() == whole
    assert not (folder / part / "0000000002.h5").exists()
    assert not list(folder.rglob("*.partial"))
    assert invoke("resume", folder)[0] == 0
    for name in ("0000000002.h5", "0000000003.h5"):
        a, b = (read_snapshot(f / "snapshots" / name) for f in (folder, finished))
        np.testing.assert_array_equal(a.density, b.density)


def test_a_failure_on_the_way_ends_with_one_and_what_to_do(tmp_path, monkeypatch):
    def advance_and_tear(membrane):
        advance(membrane)
        if membrane.step == 4:
            membrane.fields.own_density()[2, 5, 7] = -1

    advance = Membrane.advance
    monkeypatch.setattr(Membrane, "advance", advance_and_tear)
    folder = tmp_path / "run"
    code, error, _ = invoke("run", "laptop", "--out", folder, *setting(SMALL))
    assert code == 1
    assert "the lipids lost their positive densities" in error
    assert "use a smaller numerics.time_step_us, or weaker potentials" in error
    written = [int(path.stem) for path in sorted((folder / "snapshots").glob("*.h5"))]
    assert written == list(range(len(written)))
    assert len(written) == 2
    assert np.isfinite(read_snapshot(folder / "snapshots" / "0000000000.h5").density).all()


def test_the_other_commands_name_what_they_were_given(finished, tmp_path):
    code, _, out = invoke("inspect", finished / "snapshots" / "0000000000.h5")
    assert code == 0
    assert "inner POPC" in out
    for command, message in (
        (["inspect", tmp_path / "none.h5"], "none.h5"),
        (["render", tmp_path], "holds no snapshots to draw"),
        (["validate", tmp_path / "none.yaml"], "none.yaml is neither a file nor a preset"),
    ):
        code, error, _ = invoke(*command)
        assert code == 2
        assert message in error
