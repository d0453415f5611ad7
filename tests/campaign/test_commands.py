"""Commands: clear errors, exit codes, JSON, and nothing half-written."""

import json
import os

import h5py
import pytest
import yaml
from click.testing import CliRunner

from campaign.__main__ import main
from campaign.configuration import read_campaign
from campaign.control import FolderControls
from campaign.encoder_store import encoder_folder
from campaign.run_folder import open_run, read_setup
from continuum.__main__ import run_command as run_membrane
from continuum.configuration import resolved_yaml
from ml.encoder import load_encoder
from tests.campaign.laboratory import LinearEncoder, carry_on, setup_of, start


@pytest.fixture
def run(copied_run):
    return copied_run


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(result, code, *parts):
    assert result.exit_code == code, result.output
    assert result.output.startswith(("Error: ", "Usage: "))
    assert "Traceback" not in result.output
    for part in parts:
        assert part in result.output


def test_every_command_is_listed_and_explains_itself():
    shown = call("--help").output
    names = ["run", "resume", "status", "audit", "validate", "drain", "stop", "set", "why"]
    for name in (*names, "report", "analyse", "replay", "continuum-rank"):
        assert f"  {name} " in shown
    for name in names:
        assert call(name, "--help").exit_code == 0


def test_validate_says_what_a_configuration_means():
    shown = call("validate", "small").output
    assert "snapshots 0 to 8, 0.4 µs" in shown
    assert "selection: 18 patches" in shown
    assert "feedback: 4 versions, lockstep, from snapshot 2 on every 2" in shown
    tree = json.loads(call("validate", "small", "--json", "--set", "seed=5").output)
    assert tree["seed"] == 5


@pytest.mark.parametrize("command", ["validate", "run"])
def test_a_bad_configuration_is_one_error_and_leaves_nothing(command, tmp_path):
    options = ["--out", tmp_path / "out", "--local"] if command == "run" else []
    refused(call(command, "smal", *options), 2, "did you mean 'small'?")
    refused(call(command, "small", "--set", "sed=1", *options), 2, "did you mean 'seed'?")
    assert not (tmp_path / "out").exists()


def test_an_engine_whose_program_is_missing_is_refused_before_anything_is_made(tmp_path):
    engine = "molecular_dynamics={mix: {command: 1.0}, engines: {command: {argv: [no-such-one]}}}"
    result = call("run", "small", "--local", "--out", tmp_path / "out", "--set", engine)
    refused(result, 2, "no-such-one")
    assert not (tmp_path / "out").exists()


def test_an_encoder_that_is_missing_is_refused(tmp_path):
    result = call(
        *("run", "small", "--local", "--out", tmp_path / "out"),
        *("--set", f"encoder.path={tmp_path / 'none'}"),
    )
    refused(result, 2, "none")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_campaign_trains_the_metric_that_it_begins_with(tmp_path):
    before, made, config = tmp_path / "before", tmp_path / "made", tmp_path / "config.yaml"
    membrane = tmp_path / "membrane.yaml"
    membrane.write_text(resolved_yaml(read_campaign("small").membrane))
    assert CliRunner().invoke(run_membrane, [str(membrane), "--out", str(before)]).exit_code == 0
    settings = {"epochs": 1, "batch_size": 16, "learning_rates": [1e-3], "switch_epochs": []}
    train = {"preset": "invariant", "data": {"sources": [str(before)]}, "training": settings}
    config.write_text(yaml.safe_dump({"preset": "small", "encoder": {"train": train}}))
    result = call("run", config, "--local", "--out", made, "--snapshots", 0)
    assert result.exit_code == 0, result.output
    trained = load_encoder(made / "encoder-training" / "encoder").version
    assert encoder_folder(made).name == trained != load_encoder().version
    with h5py.File(made / "embeddings" / "0000000000.h5") as file:
        assert file.attrs["encoder_version"] == trained


def test_a_folder_with_a_run_is_not_overwritten(run):
    before = (run / "config.resolved.yaml").read_bytes()
    refused(call("run", "small", "--local", "--out", run), 2, "holds a run already")
    assert (run / "config.resolved.yaml").read_bytes() == before


@pytest.mark.parametrize("command", ["resume", "status", "audit", "drain", "stop"])
def test_a_folder_without_a_run_is_named(command, tmp_path):
    options = ["--local"] if command == "resume" else []
    refused(call(command, tmp_path, *options), 2, f"{tmp_path} holds no campaign")


def test_local_and_an_address_exclude_each_other(run):
    result = call("resume", run, "--local", "--address", "127.0.0.1:1")
    refused(result, 2, "--local runs without Ray")


def test_status_needs_no_live_campaign(run):
    shown = call("status", run).output
    assert "complete (nobody works on it)" in shown
    assert "24 ingested" in shown
    assert "parameters version 1" in shown
    tree = json.loads(call("status", run, "--json").output)
    assert tree["status"]["jobs"]["done"] == 8
    assert tree["live"] is None


def test_status_tells_a_live_campaign_from_an_abandoned_one(tmp_path):
    run = tmp_path / "run"
    start(run, setup_of())
    setup = read_setup(run)
    carry_on(run, setup, steps=3)
    assert f"continue with `campaign resume {run}`" in call("status", run).output
    with open_run(run, setup, LinearEncoder.version):
        shown = call("status", run).output
        assert f"running (process {os.getpid()}" in shown
        assert "its coordinator is gone" not in shown


def test_audit_exits_with_1_on_any_break_and_0_without(run):
    sound = call("audit", run)
    assert sound.exit_code == 0
    assert "24 patches ingested = 24 embedded + 0 quarantined + 0 waiting" in sound.output
    assert json.loads(call("audit", run, "--json").output)["sound"] is True
    next((run / "md").glob("*.h5")).unlink()
    broken = call("audit", run)
    assert broken.exit_code == 1
    assert "BREAK: result lost" in broken.output
    assert "NOT SOUND: 1 breaks" in broken.output
    tree = json.loads(call("audit", run, "--json").output)
    assert (tree["sound"], len(tree["breaks"])) == (False, 1)
    assert call("audit", run, "--journal-only").exit_code == 0


def test_a_damaged_journal_is_one_error_that_names_the_way_out(run):
    path = run / "journal" / "00000000.seg"
    content = bytearray(path.read_bytes())
    content[300] ^= 0xFF
    path.write_bytes(content)
    refused(call("status", run), 2, "is damaged at byte", "--repair")
    refused(call("resume", run, "--local"), 2, "--repair")


def test_why_goes_back_to_the_jobs_behind_the_membrane(run):
    _, job = min((p.stat().st_mtime_ns, p.stem) for p in (run / "md").glob("*.h5"))
    last = max(run.glob("md/*.h5"), key=lambda p: p.stem).stem
    shown = call("why", run, last).output.splitlines()
    assert shown[0].startswith(f"job {last}: done, engine poisson, attempt 1")
    assert "importance" in shown[1]
    assert "snapshot 3" in shown[2]
    assert shown[3].startswith("parameter version 1, taken up at snapshot 2: 4 new jobs")
    assert "initial potentials" in call("why", run, job).output
    refused(call("why", run, "ffff"), 2, "no job '000000000000ffff' was selected")


@pytest.mark.parametrize("command", [["drain"], ["stop"], ["set", "mix.poisson=2"]])
def test_commands_to_a_campaign_that_is_not_live_are_refused(run, command):
    name, *arguments = command
    refused(call(name, run, *arguments), 1, "no live campaign works on")
    assert FolderControls(run).poll(0) == []


def test_commands_reach_a_live_campaign_in_order(run):
    with open_run(run, read_setup(run), LinearEncoder.version):
        for arguments in (["set", run, "mix.poisson=2"], ["drain", run], ["stop", run]):
            assert call(*arguments).exit_code == 0
    received = FolderControls(run).poll(0)
    assert [event.command for event in received] == ["set", "drain", "stop"]
    assert received[0].arguments == ("mix.poisson", "2")
    assert FolderControls(run).poll(2) == received[2:]


@pytest.mark.parametrize(
    ("assignment", "part"),
    [
        ("mix.brownian=1", "did you mean 'mix.poisson'?"),
        ("mix.poisson", "as KEY=VALUE"),
        ("mix.poisson=x", "must be a number, got 'x'"),
        ("mix.poisson=-1", "must be 0 or more"),
        ("mix.poisson=0", "would leave no engine"),
        ("snapshots=1", "must be a whole number >= 3"),
        ("snapshot=9", "did you mean 'snapshots'?"),
    ],
)
def test_what_cannot_be_set_is_refused_by_name(run, assignment, part):
    with open_run(run, read_setup(run), LinearEncoder.version):
        refused(call("set", run, assignment), 2, part)


def test_a_run_in_use_is_refused(run):
    (run / "encoders" / LinearEncoder.version).mkdir(parents=True)
    with open_run(run, read_setup(run), LinearEncoder.version):
        refused(
            call("resume", run, "--local"), 2, f"in use by a live campaign: process {os.getpid()}"
        )
