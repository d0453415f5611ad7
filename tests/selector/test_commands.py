import json

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from selector import FarthestPointSampler, RecordedSampler
from selector.__main__ import main
from selector.dynim_history import DynimHistoryError, read_dynim_history, selected_ids


@pytest.fixture
def run():
    runner = CliRunner()
    return lambda *arguments: runner.invoke(main, [str(a) for a in arguments])


@pytest.fixture
def table(vectors_of):
    return vectors_of("gauss", 60, dimension=3)


def test_select_gives_the_same_picks_from_npy_hdf5_and_csv(run, tmp_path, table):
    np.save(tmp_path / "t.npy", table)
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["vectors"] = table
        file["names"] = np.arange(60)
    header = "x,y,name,z"
    rows = [f"{x!s},{y!s},row{i},{z!s}" for i, (x, y, z) in enumerate(table.tolist())]
    (tmp_path / "t.csv").write_text("\n".join([header, *rows]))
    npy = run("select", tmp_path / "t.npy", "--n", 7)
    hdf5 = run("select", tmp_path / "t.h5", "--n", 7, "--ids", "names", "--dataset", "vectors")
    assert npy.exit_code == hdf5.exit_code == 0
    assert npy.stdout == hdf5.stdout
    assert len(npy.stdout.splitlines()) == 8
    named = run("select", tmp_path / "t.csv", "--n", 7, "--ids", "name", "--warm-up", 0, "--json")
    result = json.loads(named.stdout)
    sampler = FarthestPointSampler(3, warm_up=0)
    sampler.add([f"row{i}" for i in range(60)], table)
    assert result["ids"] == sampler.select(7)
    assert np.isinf(sampler.last_importances[0])
    assert result["importances"] == [None, *sampler.last_importances.tolist()[1:]]
    assert result["candidates_left"] == 53


def test_select_returns_what_there_is_and_says_so(run, tmp_path, table, caplog):
    np.save(tmp_path / "t.npy", table)
    result = run("select", tmp_path / "t.npy", "--n", 100, "--out", tmp_path / "picks.csv")
    assert result.exit_code == 0
    assert "60 candidates to select from" in caplog.text
    assert len((tmp_path / "picks.csv").read_text().splitlines()) == 61


def test_select_says_which_rows_it_ignored(run, tmp_path, caplog):
    (tmp_path / "t.csv").write_text("name,x\na,1\nb,2\na,3\n")
    result = run("select", tmp_path / "t.csv", "--n", 2, "--ids", "name")
    assert result.exit_code == 0
    assert "1 rows repeat an earlier identifier" in caplog.text


def test_bad_files_end_with_exit_code_2_and_one_sentence(run, tmp_path, table):
    np.save(tmp_path / "nan.npy", np.where(table > 2, np.nan, table).astype(np.float32))
    np.save(tmp_path / "flat.npy", table.reshape(-1))
    np.save(tmp_path / "objects.npy", np.array([{}, {}]), allow_pickle=True)
    (tmp_path / "short.npy").write_bytes(b"\x93NUM")
    (tmp_path / "ragged.csv").write_text("1,2\n3\n")
    (tmp_path / "words.csv").write_text("a,b\n1,x\n")
    (tmp_path / "twice.csv").write_text("id,x\n7,1\n,2\n")
    (tmp_path / "t.parquet").write_text("?")
    for name, message in (
        ("nan.npy", f"the vector of id {np.argwhere(table > 2)[0, 0]} is not finite"),
        ("flat.npy", "shape (n, d)"),
        ("objects.npy", "not a plain .npy"),
        ("short.npy", "not a plain .npy"),
        ("ragged.csv", "row 2 must hold 2 numbers"),
        ("words.csv", "row 2"),
        ("t.parquet", "must be .npy"),
        ("missing.npy", "is not a file"),
    ):
        result = run("select", tmp_path / name, "--n", 2)
        assert result.exit_code == 2, name
        assert message in result.stderr
        assert "Traceback" not in result.stderr
    assert run("select", tmp_path / "twice.csv", "--n", 2, "--ids", "id").exit_code == 2
    assert run("select", tmp_path / "nan.npy", "--n", -1).exit_code == 2


def test_replay_prints_the_selections_and_refuses_damage(run, tmp_path, table):
    recorded = RecordedSampler.create(tmp_path / "log", FarthestPointSampler(3, capacity=40))
    recorded.add(np.arange(60), table)
    picks = recorded.select(12)
    recorded.close()
    result = run("replay", tmp_path / "log", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["ids"] == picks
    assert json.loads(result.stdout)["evictions"] == 20
    lines = run("replay", tmp_path / "log", "--ids").stdout.splitlines()
    assert [int(line.split(",")[0]) for line in lines] == picks
    data = bytearray((tmp_path / "log").read_bytes())
    data[-9] ^= 1
    (tmp_path / "log").write_bytes(data)
    result = run("replay", tmp_path / "log")
    assert result.exit_code == 2
    assert "wrong checksum" in result.stderr
    assert run("replay", tmp_path / "nosuch").exit_code == 2


def test_bench_and_coverage_run(run, tmp_path):
    result = run("bench", "--candidates", 400, "--selected", 50, "--dimension", 2, "--json")
    assert json.loads(result.stdout)["greedy_pick_us"] > 0
    figure = tmp_path / "c.png"
    assert run("coverage", "--out", figure, "--candidates", 200, "--selections", 20).exit_code == 0
    assert figure.exists()
    assert run("coverage", "--out", tmp_path / "c.pdf").exit_code == 2


DYNIM = """tstamp, event, id, rank, nselected, ndiscarded, ncandidates, ncached
2021-07-14 16:08:48, added, patch_1, nan, 0, 0, 0, 3
2021-07-14 16:08:48, added, a,b, nan, 0, 0, 0, 3
2021-07-14 16:08:49, selected, a,b, 0.25, 1, 0, 2, 0
2021-07-14 16:08:50, rejected:add_cands:already_selected, a,b, -1, 1, 0, 2, 0
2021-07-14 16:08:51, discarded, patch_1, 1.5, 1, 1, 1, 0
"""


def test_a_dynim_history_is_read_whatever_its_rows(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text(DYNIM)
    events = read_dynim_history(path)
    assert [event.event.split(":")[0] for event in events] == [
        "added", "added", "selected", "rejected", "discarded",
    ]  # fmt: skip
    assert selected_ids(events) == ["a,b"]
    assert events[4].rank == 1.5
    assert events[4].discarded == 1
    path.write_text("\n".join(DYNIM.splitlines()[:2]))
    assert len(read_dynim_history(path)) == 1
    for bad in ("x\n", DYNIM + "2021, eaten, p, 1, 1, 1, 1, 1\n", DYNIM + "2021, added, p, 1, 1\n"):
        path.write_text(bad)
        with pytest.raises(DynimHistoryError):
            read_dynim_history(path)
