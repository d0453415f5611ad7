"""The paper's story: nothing is done twice, what is cut off goes on, what differs is told."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from click.testing import CliRunner

import campaign.paper.command as command
import campaign.paper.stages as stages
from campaign.__main__ import main
from campaign.paper.comparisons import Comparison, comparisons
from campaign.paper.configuration import ConfigurationError, preset_names, read_paper
from campaign.paper.results import Results, read_results, sizes_of
from campaign.paper.stages import Place, configurations, stages_of
from continuum.configuration import load_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def place(tmp_path):
    return command.claim(tmp_path / "story", read_paper("quick"))


def words_of(place, name):
    stage = next(stage for stage in stages_of(place.config) if stage.name == name)
    return stage.commands(place)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_configures_every_stage(name, tmp_path):
    place = command.claim(tmp_path / "story", read_paper(name))
    names = [stage.name for stage in stages_of(place.config)]
    assert names[:4] == ["pre-campaign", "training", "evaluation", "table1"]
    assert names[-1] == "analysis-decorrelation"
    assert "search" not in names
    searching = read_paper(name, ["search.trials=2"])
    assert "search" in [stage.name for stage in stages_of(searching)]


def test_a_mistake_is_named_and_leaves_nothing(tmp_path):
    out = tmp_path / "story"
    for override, part in (
        ("tabel1.seeds=2", "did you mean 'table1'"),
        ("pre_campaign.preset=laptp", "did you mean 'laptop'"),
        ("campaign.continuum.ranks=7", "continuum.ranks"),
    ):
        done = CliRunner().invoke(main, ["paper", "quick", "--out", str(out), "--set", override])
        assert done.exit_code == 2
        assert part in " ".join(done.output.split())
        assert not out.exists()


def test_other_sizes_in_the_same_folder_are_refused(place):
    with pytest.raises(ConfigurationError, match="holds a story of other sizes"):
        command.claim(place.out, read_paper("quick", ["table1.seeds=2"]))


def test_a_story_goes_on_after_the_stage_that_failed(place, monkeypatch):
    ran = []

    def run(words, broken=("training",)):
        ran.append(words)
        return int(any(f"{place.out}/{name}" in words for name in broken) and "train" in words)

    ends = ["stopped", "complete"]
    monkeypatch.setattr(
        stages, "read_state", lambda run: (None, SimpleNamespace(finished=ends.pop(0)), None)
    )
    monkeypatch.setattr(command, "_run", run)
    with pytest.raises(command.click.ClickException, match="training of the metric failed"):
        command.tell(place)
    assert len(ran) == 2
    assert "1 of 13" in (place.out / "index.html").read_text()
    monkeypatch.setattr(command, "_run", lambda words: run(words, broken=()))
    with pytest.raises(command.click.ClickException, match="the campaign is stopped"):
        command.tell(place)
    assert "train" in ran[2]
    assert len(ran) == 2 + 5  # the membrane is not repeated, the campaign has two commands
    command.tell(place)
    assert len(ran) == 7 + 2 + 10
    command.tell(place)
    assert len(ran) == 19
    told = json.loads((place.out / "stages" / "training.json").read_text())["commands"]
    assert told == ["python -m ml train metric configurations/training.yaml --out training"]


def test_runs_that_can_go_on_are_resumed_and_others_begun_again(place):
    marks = {"continuum": "run.json", "campaign": "config.resolved.yaml"}
    for name, package in (("pre-campaign", "continuum"), ("campaign", "campaign")):
        folder = place.out / name
        (folder / "patches").mkdir(parents=True)
        assert words_of(place, name)[0][1:4] == ["-m", package, "run"]
        assert not folder.exists()
        folder.mkdir()
        (folder / marks[package]).touch()
        assert words_of(place, name)[0][1:4] == ["-m", package, "resume"]


def test_the_membrane_after_takes_the_potentials_that_the_campaign_ended_with(place):
    from continuum.parameter_versions import ParameterVersion, write_parameter_version

    assert "potentials" not in Path(configurations(place)["post-campaign"]).read_text().replace(
        "potentials: {strength", ""
    )
    model = load_model(configurations(place)["post-campaign"])
    folder = place.out / "campaign" / "parameters"
    folder.mkdir(parents=True)
    for number in (1, 2):
        write_parameter_version(
            folder,
            ParameterVersion(
                version=number,
                potentials=model.potentials,
                state_names=tuple(state.name for state in model.proteins.states),
                lipid_labels=model.lipids.labels,
                provenance="{}",
            ),
        )
    path = configurations(place)["post-campaign"]
    assert "v000002.h5" in Path(path).read_text()
    assert load_model(path).potentials.u == pytest.approx(model.potentials.u)
    before = Path(configurations(place)["histories-before"]).read_text()
    assert before == Path(path).read_text().partition("potentials:\n  table:")[0]


def test_a_cluster_is_for_every_stage_that_can_use_one(tmp_path):
    place = Place(out=tmp_path, config=read_paper("quick"), address="head:6379")
    for name in ("training", "table1", "campaign", "analysis-metric", "analysis-drift"):
        assert "--address" in words_of(place, name)[0]
    assert "--local" not in words_of(place, "campaign")[0]


def test_a_stage_ends_with_the_story_that_was_killed(tmp_path):
    ready = tmp_path / "ready"
    sleeper = f"import pathlib, time; pathlib.Path({str(ready)!r}).touch(); time.sleep(600)"
    story = (
        "import subprocess, sys;"
        "child = [sys.executable, '-m', 'campaign.paper.child', sys.executable, '-c'];"
        f"subprocess.run([*child, {sleeper!r}], check=False)"
    )
    parent = subprocess.Popen([sys.executable, "-c", story], cwd=ROOT)
    deadline = time.monotonic() + 60
    while not ready.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    children = psutil.Process(parent.pid).children(recursive=True)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert len(children) == 1
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []


def test_numbers_that_are_missing_are_told_and_so_are_all_others():
    nothing = comparisons(Results())
    assert len(nothing) == 23
    assert all(each.ours is None and "Left out" in each.sentence for each in nothing)
    assert all(row[2] in ("not there yet", "none", "not there yet, whole histories")
               for row in sizes_of(Results()))  # fmt: skip
    papers = {each.paper for each in nothing}
    stated = {0.61, 0.05, 0.26, 0.59, 0.01, 0.03, 0.957, 0.727, 0.996, 0.919, 0.81, 0.5, 10.0}
    assert stated <= papers


@pytest.mark.parametrize(
    ("wanted", "ours", "agrees", "start"),
    [
        ("equal", 1.05, True, "Agrees."),
        ("equal", 1.2, False, "Larger than the paper's. Because."),
        ("at least", 0.95, True, "As good."),
        ("at least", 0.8, False, "Smaller than the paper's. Because."),
        ("at most", 0.2, True, "As good."),
        ("at most", 1.2, False, "Larger than the paper's. Because."),
    ],
)
def test_what_differs_says_why(wanted, ours, agrees, start):
    found = Comparison(
        name="x", where="1", paper=1.0, ours=ours, wanted=wanted, tolerance=0.1, why="Because."
    )
    assert found.agrees is agrees
    assert found.sentence.startswith(start)


@pytest.mark.parametrize(
    ("stage", "when"),
    [
        ("decorrelation_before", "under the first potentials"),
        ("decorrelation", "under the campaign's last potentials"),
    ],
)
def test_a_decorrelation_time_agrees_where_its_interval_holds_the_papers(stage, when):
    def told(low, high, value=0.3):
        found = {"fitted_us": {"value": value, "low": low, "high": high}}
        slow = {"slow_us": {"value": 7.0}, "slow_share": {"value": 0.8}, "notes": ["Short."]}
        theory = {"composition": {"nodes_us": 0.58, "largest_difference": 0.021}}
        theory["composition_modes_us"] = [1.2, 0.35]
        results = Results(**{stage: found | slow | theory})
        by_name = {each.name: each for each in comparisons(results)}
        return by_name[f"decorrelation time {when}"]

    assert told(0.2, 0.6).agrees
    assert not told(0.2, 0.45).agrees
    assert told(0.4, 0.45, value=0.42).agrees
    assert not told(0.6, 0.8, value=0.7).agrees
    assert "in 0.58 µs, and mean concentrations follow it within 2 %" in told(0.2, 0.6).sentence
    assert "7.0 µs for 80 % of the square of dz" in told(0.2, 0.45).sentence
    assert "modes of a patch: 0.35 to 1.20 µs" in told(0.2, 0.6).sentence
    assert "shorter than every mode" in told(0.2, 0.34).sentence
    assert "shorter than every mode" not in told(0.2, 0.36).sentence
    assert told(0.2, 0.6).sentence.endswith("Short.")
    assert not told(0.04, 7.0, value=0.07).agrees
    assert "0.04 to 7.00 µs: so little of dz relaxes so fast" in told(0.04, 7.0).sentence
    assert "so little of dz" not in told(0.2, 0.6).sentence


@pytest.mark.parametrize("stage", ["space_before", "space"])
def test_an_r_in_space_that_is_missed_says_how_sure_it_is(stage):
    found = {"near": {"pearson_means": 0.9, "pearson_pairs": 0.5}, "interval_of_near": [0.85, 0.94]}
    when = "before" if stage == "space_before" else "campaign"
    for interval, told in (([0.85, 0.94], True), (None, False)):
        results = Results(**{stage: found | {"interval_of_near": interval}})
        by_name = {each.name: each for each in comparisons(results)}
        sentence = by_name[f"R of dz with dx up to 15 nm, {when}"].sentence
        assert ("95 % interval is 0.85 to 0.94" in sentence) is told


@pytest.mark.parametrize(
    ("stage", "name"),
    [("evaluation", "MARE before the campaign"), ("metric", "MARE in the campaign")],
)
def test_mare_is_also_told_in_units_that_do_not_grow_with_the_profiles(stage, name):
    def sentence(criteria):
        by_name = {
            each.name: each for each in comparisons(Results(**{stage: {"criteria": criteria}}))
        }
        return by_name[name].sentence

    criteria = {"patches": 0, "neighbours": [], "accuracy": [], "mare": 0.2}
    criteria |= {"mean_distance": 2.0, "mean_profile_distance": 25.4}
    criteria |= {"pearson_r_of_profiles": 0.95, "slope_of_profiles": 0.08}
    told = sentence(criteria)
    assert "It is 10 % of the mean dz." in told
    assert "25 apart" in told
    assert "R = 0.950 and 0.080 of their distance" in told
    assert "mean dz" not in sentence(criteria | {"slope_of_profiles": None})


def test_table1_takes_its_overrides_to_every_row(tmp_path):
    config = read_paper("quick", ["table1.overrides=[training.threads=1,loss.transforms=2]"])
    words = words_of(Place(out=tmp_path, config=config), "table1")[0]
    given = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    assert given == ["training.threads=1", "loss.transforms=2"]


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("space", ["campaign", "pre-campaign"]),
        ("decorrelation", ["post-campaign", "histories-before"]),
    ],
)
def test_what_is_analysed_before_and_after_is_read_from_both_places(place, name, runs):
    commands = words_of(place, f"analysis-{name}")
    folders = [Path(words[words.index("--out") + 1]) for words in commands]
    for number, folder in enumerate(folders):
        folder.mkdir(parents=True)
        (folder / f"{name}.json").write_text(json.dumps({"number": number}))
    results = read_results(place.out)
    assert results.number(name, "number") == 0
    assert results.number(f"{name}_before", "number") == 1
    assert [Path(words[5]).name for words in commands] == runs


def test_results_are_read_from_where_stages_leave_them(tmp_path):
    (tmp_path / "analyses").mkdir()
    content = {"criteria": {"auc": 0.6}, "dz_dmu_near": {"share_of_pairs": 0.8}}
    (tmp_path / "analyses" / "metric.json").write_text(json.dumps(content))
    results = read_results(tmp_path)
    assert results.number("metric", "criteria", "auc") == 0.6
    assert results.number("metric", "criteria", "mare") is None
    by_name = {each.name: each for each in comparisons(results)}
    assert by_name["AUC in the campaign"].agrees
    assert by_name["pairs with dμ up to 0.125 nm⁻²"].ours == pytest.approx(80.0)
