import csv
import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from ml.metric.commands import table1
from ml.metric.table1 import TableOptions, make_table, row_config
from ml.metric.table1_report import as_text, summarised, write_report
from ml.metric.table1_rows import ROWS
from tests.ml.small_run import write_run

FAST = ("training.batch_size=64", "training.threads=1", "loss.transforms=2")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(scope="module")
def made(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("table")
    options = TableOptions(
        sources=(run,),
        rows=("l2-means", "radial", "invariant"),
        seeds=2,
        epochs=1,
        first_us=0.5,
        validation_share=0.4,
        overrides=FAST,
    )
    lines: list[str] = []
    return out, options, make_table(out, options, lines.append), lines


def test_every_row_is_trained_for_every_seed_and_judged_on_one_set(made):
    out, _, content, lines = made

    assert [row["name"] for row in content["rows"]] == ["l2-means", "radial", "invariant"]
    assert [row["seeds"] for row in content["rows"]] == [1, 2, 2]
    assert sum("training" in line for line in lines) == 4
    data = content["data"]
    assert data["patches"] == 7 * 24  # all snapshots from 0.5 µs on
    assert data["validation_patches"] == data["judged_patches"] == 7 * (7 + 2)
    for row in ("radial", "invariant"):
        for seed in (0, 1):
            encoder = json.loads(
                (out / "rows" / row / f"seed-{seed}" / "encoder" / "encoder.json").read_text()
            )
            assert encoder["training"]["patches"] == {"training": 105, "validation": 63}
            assert encoder["training"]["seed"] == seed
            assert encoder["training"]["data"] == {
                "every": 1, "first_us": 0.5, "validation_share": 0.4, "split_seed": 0,
            }  # fmt: skip
    by_name = {row["name"]: row for row in content["rows"]}
    assert by_name["invariant"]["overlap_percent"] == 0
    assert by_name["radial"]["overlap_percent"] > 0
    assert len(set(by_name["radial"]["mare_star_by_seed"])) == 2
    assert by_name["l2-means"]["auc_std"] is None
    assert by_name["radial"]["paper"]["mare_star"] == 0.98
    assert {path.name for path in out.glob("table1.*")} == {
        "table1.json", "table1.csv", "table1.png",
    }  # fmt: skip
    assert json.loads((out / "table1.json").read_text()) == content


def test_what_is_done_is_not_done_again(made):
    out, options, content, _ = made
    files = sorted(out.rglob("encoder/*")) + sorted(out.rglob("judgement.json"))
    before = [path.stat().st_mtime_ns for path in files]
    lines: list[str] = []

    again = make_table(out, options, lines.append)

    assert again == content
    assert len(lines) == 1
    assert [path.stat().st_mtime_ns for path in files] == before


def test_more_seeds_and_a_lost_judgement_train_only_what_is_missing(made):
    out, options, content, _ = made
    (out / "rows" / "radial" / "seed-1" / "judgement.json").unlink()
    lines: list[str] = []

    more = make_table(out, replace(options, rows=("radial",), seeds=3), lines.append)

    trained = [line.split(", up")[0] for line in lines if "training" in line]
    assert trained == ["training radial, seed 1", "training radial, seed 2"]
    former = next(row for row in content["rows"] if row["name"] == "radial")
    assert more["rows"][0]["mare_star_by_seed"][:2] == former["mare_star_by_seed"]


def test_rows_differ_from_their_preset_in_data_seed_and_overrides_alone(run, tmp_path):
    options = TableOptions(sources=(run,), epochs=7, overrides=("training.batch_size=64",))
    trained = [row for row in ROWS if row.preset]
    configs = {row.name: row_config(tmp_path, row, 2, options) for row in trained}

    weights = {
        name: (c.loss.weights.label > 0, c.loss.weights.invariance > 0, c.loss.weights.radial > 0)
        for name, c in configs.items()
    }
    assert weights == {
        "invariance": (False, True, False),
        "radial": (False, False, True),
        "label": (True, False, False),
        "label-radial": (True, False, True),
        "ours": (True, True, True),
        "invariant": (True, False, True),
    }
    dimensions = {row.name: row.paper.dimension for row in trained if row.paper}
    for name, config in configs.items():
        assert config.training.seed == 2
        assert config.training.epochs == 7
        assert config.training.batch_size == 64
        assert config.data.sources == (run.resolve(),)
        assert config.network.dimension == dimensions.get(name, 9)


def _judgements(**overlaps: list[float]):
    return {
        name: [
            {
                "criteria": {
                    "dimension": 9,
                    "overlap_percent": value,
                    "mare": 0.1 * value,
                    "mare_star": value + 1,
                    "auc": 0.5 - value / 100,
                    "auc_of_points": 0.6,
                    "pearson_r_of_profiles": None,
                    "largest_transform_distance": 0.1,
                    "prevalence": 0.3,
                }
            }
            for value in values
        ]
        for name, values in overlaps.items()
    }


DATA = {"judged_patches": 10, "patches": 100}


def _rows(*names: str):
    return [row for row in ROWS if row.name in names]


def test_means_and_sample_deviations_over_seeds():
    content = summarised(_rows("radial"), _judgements(radial=[1.0, 2.0, 6.0]), DATA)

    row = content["rows"][0]
    assert row["overlap_percent"] == pytest.approx(3.0)
    assert row["overlap_percent_std"] == pytest.approx(7.0**0.5)
    assert row["pearson_r_of_profiles"] is None


def test_ranking_compares_with_the_paper_row_by_row():
    # The paper's overlaps: radial 0.06, label 99.73, label-radial 99.99.
    agreeing = _judgements(radial=[1.0], label=[2.0], **{"label-radial": [3.0]})
    reversed_ = _judgements(radial=[3.0], label=[2.0], **{"label-radial": [1.0]})
    rows = _rows("radial", "label", "label-radial")

    assert summarised(rows, agreeing, DATA)["ranking"]["overlap_percent"] == pytest.approx(1)
    assert summarised(rows, reversed_, DATA)["ranking"]["overlap_percent"] == pytest.approx(-1)


def test_claims_about_the_invariant_network_hold_or_fail_by_their_bounds():
    names = ("radial", "label-radial", "invariant")
    good = _judgements(radial=[1.0], invariant=[0.0], **{"label-radial": [2.0]})
    bad = _judgements(radial=[1.0], invariant=[4.1], **{"label-radial": [2.0]})

    held = [claim["holds"] for claim in summarised(_rows(*names), good, DATA)["claims"]]
    failed = summarised(_rows(*names), bad, DATA)

    assert held == [True, True, True]
    assert [claim["holds"] for claim in failed["claims"]] == [False, False, False]
    assert "FAILS: invariant: overlap is 0" in as_text(failed)


def test_the_report_prints_the_paper_beside_ours(tmp_path):
    content = summarised(
        _rows("radial", "invariant"), _judgements(radial=[1.0, 1.5], invariant=[0.0]), DATA
    )
    write_report(tmp_path, content)

    text = as_text(content)
    radial = next(line for line in text.splitlines() if line.startswith("L rad"))
    assert "1.25 ± 0.35" in radial
    assert "0.98" in radial
    with (tmp_path / "table1.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["paper_auc"] == "0.3"
    assert float(rows[0]["mare_star"]) == pytest.approx(2.25)
    assert rows[1]["paper_auc"] == ""
    assert (tmp_path / "table1.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--row", "l2-image"], "rows must be of l2-images"),
        (["--row", "radial", "--set", "training.epoch=3"], "epoch"),
        (["--validation-share", "1.5"], "validation_share must be in (0, 1), got 1.5"),
    ],
)
def test_bad_input_ends_with_one_sentence_and_code_2(run, tmp_path, arguments, message):
    result = CliRunner().invoke(table1, [str(run), "--out", str(tmp_path / "out"), *arguments])

    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_missing_data_ends_with_one_sentence_and_code_2(tmp_path):
    result = CliRunner().invoke(table1, [str(tmp_path / "none"), "--out", str(tmp_path / "out")])

    assert result.exit_code == 2
    assert "must be a run folder" in result.output
