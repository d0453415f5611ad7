import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _run(name: str, *arguments: str) -> dict:
    command = [sys.executable, f"benchmarks/{name}.py", "--quick", "--json", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_the_continuum_benchmark_ends_in_one_json_object_with_its_promised_keys(tmp_path):
    sections = ["published", "published_error", "noise", "roofline", "memory", "output"]
    result = _run("continuum", "--out", str(tmp_path), "--only", *sections)

    assert result["quick"] is True
    assert set(sections) < set(result)
    speed = result["published"]
    assert speed["simulated_us_per_core_day"] == pytest.approx(
        speed["time_step_ns"] / 1e3 / (speed["ns_per_cell_species"] * 1e-9 * 2400**2 * 14) * 86_400
    )
    parts = speed["parts_ms"]
    assert set(parts) == {"sweeps", "couplings", "pressure", "noise", "proteins"}
    assert min(parts.values()) > 0
    errors = [row["relative_l2_of_deviation"] for row in result["published_error"]["smooth"]]
    # First order under moving proteins, down to a floor far below what a wrong equation leaves.
    assert errors[0] < 0.02
    assert errors[0] < 0.6 * errors[1] < 0.36 * errors[2]
    assert 0 < result["roofline"]["fraction_of_roof"] < 1
    noise = result["noise"]
    with_noise, without = (noise[f"ms_per_step_{name}_noise"] for name in ("with", "without"))
    assert min(with_noise, without) > 0
    assert noise["noise_share_of_step"] == pytest.approx(1 - without / with_noise)
    memory = result["memory"]
    assert memory["imports_gb"] < memory["peak_resident_gb"] < 1.2
    assert result["output"]["snapshot_mb"] > 14 * 600**2 * 4 / 1e6 * 0.9
    measures = [row["measure"] for row in result["bars"]]
    assert len(measures) == len(set(measures)) == 8


@pytest.mark.slow
def test_the_cost_figure_is_drawn_beside_its_numbers(tmp_path):
    pytest.importorskip("mpi4py")
    result = _run("continuum", "--out", str(tmp_path), "--only", "figure")["figure"]

    assert (tmp_path / "continuum_cost.png").read_bytes().startswith(b"\x89PNG")
    numbers = json.loads((tmp_path / "continuum_cost.json").read_text())
    assert [row["ranks"] for row in numbers["by_ranks"]] == [1, 2]
    assert numbers["by_species"] == result["by_species"]


@pytest.mark.slow
def test_the_campaign_benchmark_ends_in_one_json_object_with_a_verdict_on_each_bar():
    result = _run("campaign", "--only", "bridge_folder", "coordinator", "restart")

    assert result["quick"] is True
    verdicts = {row["measure"]: row["met"] for row in result["bars"]}
    assert len(verdicts) == 3
    assert result["restart"]["jobs"] == 2_400
    assert result["restart"]["patches"] == 1_818 * 330
    assert result["restart"]["records"] == result["coordinator"]["events"]
    for row in result["bars"]:
        over = row["measured"] >= row["required"]
        assert row["met"] == (over if row["larger_is_better"] else not over)


@pytest.mark.slow
def test_the_selector_benchmark_holds_each_figure_against_its_bar():
    result = _run("selector", "--only", "order", "history")

    assert result["order"]["mismatches"] == 0
    assert result["order"]["batches"] == 3 * 7 * 2
    bars = {row["key"]: row for row in result["bars"]}
    assert set(bars) == {
        "order.mismatches", "history.durable_append_wall_us", "history.snapshot_35k_wall_ms"
    }  # fmt: skip
    for row in bars.values():
        assert row["met"] == (row["measured"] <= row["required"])
        assert row["aim"] is None or row["aim_met"] == (row["measured"] <= row["aim"])
