"""What runs lack is said in one sentence, with what can still be done; the rest is analysed."""

import json
import shutil

import numpy as np
import pytest

from campaign.analysis.embedding import SHIPPED
from tests.campaign.analysis_laboratory import call, write_run

ONE = ("--workers", 1)
FROM_0 = ("--first-us", 0)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("analysis") / "run", range(24))


@pytest.fixture
def run(whole_run, tmp_path):
    return shutil.copytree(whole_run, tmp_path / "run")


def refused(result, *parts):
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    told = " ".join(result.output.split())
    for part in parts:
        assert part in told


@pytest.mark.parametrize("name", ["decorrelation", "space", "metric"])
def test_a_folder_without_patches_is_refused(name, tmp_path):
    refused(call(name, tmp_path, *ONE), "patch")


def test_times_that_no_snapshot_has_are_refused(run):
    refused(call("metric", run, *ONE), "no patch files from 1 µs on", "24 end at 0.23 µs")
    bounds = ("--first-us", 0.05, "--last-us", 0.049)
    refused(call("decorrelation", run, *ONE, *bounds), "no patch files from 0.05 to 0.049 µs")


def test_a_whole_run_has_a_decorrelation_time_and_a_curve(run):
    done = call("decorrelation", run, *ONE, *FROM_0, "--resamples", 5)
    assert done.exit_code == 0, done.output
    found = json.loads((run / "report" / "decorrelation.json").read_text())
    assert (found["histories"], found["frames"], found["mixed_versions"]) == (6, 24, "")
    modes = found["composition_modes_us"]
    assert len(modes) == 12  # of 14 lipids, less the total density of two leaflets
    assert modes == sorted(modes, reverse=True)
    assert 0.25 < modes[-1] < np.median(modes) < modes[0] < 1.5
    assert len(found["composition"]["theory"]) == len(found["composition"]["measured"])
    assert "keep to linear theory" in done.output
    assert (run / "report" / "decorrelation.png").is_file()


def test_the_map_of_one_run_gives_times_to_another(run, tmp_path):
    assert call("decorrelation", run, *ONE, *FROM_0, "--resamples", 5).exit_code == 0
    source = run / "report" / "decorrelation.json"
    other = write_run(tmp_path / "other", range(30))
    done = call("evolution", other, *ONE, *FROM_0, "--map", source, "--every", 3)
    assert done.exit_code == 0, done.output
    found = json.loads((other / "report" / "evolution.json").read_text())
    assert found["pairs"] == 9 * 6
    assert found["true_us"] == pytest.approx(0.03)
    assert 0.015 < found["estimated_us"] < 0.06
    assert found["within_bounds"] > 0.5


def test_a_map_that_cannot_serve_is_refused(run, tmp_path):
    empty = tmp_path / "empty.json"
    empty.write_text("{}")
    refused(call("evolution", run, *ONE, *FROM_0, "--map", empty), "holds no map of evolution")
    inverse = {name: [0.0, 1.0] for name in ("dz", "time_us", "low_us", "high_us")}
    limits = {"limit_dz": 1.0, "limit_us": 1.0, "encoder_version": "another"}
    empty.write_text(json.dumps({"evolution_time": inverse | limits}))
    refused(call("evolution", run, *ONE, *FROM_0, "--map", empty), "is of the encoder another")


def test_a_gap_is_named_with_the_stretch_that_can_be_used(run):
    (run / "patches" / "0000000005.h5").unlink()
    refused(
        call("decorrelation", run, *ONE, *FROM_0),
        "after snapshot 4 the next is 6 where 5 was expected",
        "18 snapshots, is --first-us 0.06 --last-us 0.23",
    )
    whole = ("--first-us", 0.06, "--last-us", 0.23)
    assert call("decorrelation", run, *ONE, *whole, "--resamples", 5).exit_code == 0
    assert json.loads((run / "report" / "decorrelation.json").read_text())["frames"] == 18


def test_one_snapshot_has_no_time_but_space(run):
    for path in sorted((run / "patches").iterdir())[1:]:
        path.unlink()
    refused(call("decorrelation", run, *ONE, *FROM_0), "there are 1;", "`analyse space`")
    assert call("space", run, *ONE, *FROM_0).exit_code == 0
    refused(call("drift", run, "--reference", run, *ONE), "3 periods need", "use --periods 1")


def test_proteins_that_come_and_go_make_no_histories(tmp_path):
    run = write_run(tmp_path / "run", range(8), slots=lambda index, n: range(n - index % 2))
    refused(call("decorrelation", run, *ONE, *FROM_0), "the same proteins throughout")
    bare = write_run(tmp_path / "bare", range(8), proteins=0)
    refused(call("decorrelation", bare, *ONE, *FROM_0), "no protein patches")
    refused(call("space", bare, *ONE, *FROM_0), "at least two protein patches")


def test_versions_that_mix_are_noted_with_what_keeps_one_alone(tmp_path):
    run = write_run(tmp_path / "run", range(20), version=lambda index: index // 8)
    done = call("decorrelation", run, *ONE, *FROM_0, "--resamples", 5)
    assert done.exit_code == 0
    assert "mix the parameter versions 0 to 2" in done.output
    assert (
        "--first-us 0 --last-us 0.07 keeps the longest stretch of one, 8 snapshots" in done.output
    )
    found = json.loads((run / "report" / "decorrelation.json").read_text())
    assert found["parameter_versions"] == [0, 1, 2]
    short = write_run(tmp_path / "short", range(10), version=lambda index: index)
    done = call("decorrelation", short, *ONE, *FROM_0, "--resamples", 5)
    assert "versions 0 to 9" in done.output
    assert "none lasts 8 snapshots" in done.output


def test_a_run_with_several_encoders_asks_for_one(run):
    for name in ("aaa", "bbb"):
        shutil.copytree(SHIPPED, run / "encoders" / name)
    refused(call("space", run, *ONE, *FROM_0), "holds the encoders aaa, bbb", "--encoder")
    own = ("--encoder", run / "encoders" / "aaa")
    assert call("space", run, *ONE, *FROM_0, *own).exit_code == 0


def test_a_damaged_file_is_named(run):
    path = run / "patches" / "0000000003.h5"
    path.write_bytes(path.read_bytes()[:5000])
    refused(call("space", run, *ONE, *FROM_0), path.name)


def test_a_membrane_without_a_side_is_refused(run):
    (run / "config.resolved.yaml").unlink()
    refused(call("space", run, *ONE, *FROM_0), "must hold config.resolved.yaml")


def test_patches_that_moved_are_a_drift_and_the_other_half_is_none(run, tmp_path):
    moved = write_run(tmp_path / "moved", range(6), pap6=0.5)
    bounds = ("--reference", run, "--periods", 1, *ONE)
    assert "(alarm" in call("drift", moved, *bounds).output
    found = json.loads((moved / "report" / "drift.json").read_text())["periods"]
    assert found[0]["outside"] < 0.15 < 0.9 < found[1]["outside"]
    assert found[1]["alarm"]
    assert found[1]["lipid"]["mean_after"] > found[1]["lipid"]["mean_before"] + 0.05
    assert found[1]["lipid"]["ks_statistic"] == 1.0
    assert np.isclose(found[0]["lipid"]["wasserstein"], 0, atol=0.01)
