import copy
import json
import multiprocessing
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ml.training import EarlyStopping, EpochRecord, TrainingError, TrainingSettings, train_here
from ml.training.batch_plan import share_of, share_sizes, training_batches, validation_batches
from ml.training.checkpoints import Progress, keep_latest, latest_checkpoint, restore
from ml.training.loop import fit
from ml.training.prefetch import Prefetcher
from ml.training.records import has_stalled, read_records
from ml.training.worker import Worker
from tests.ml.pair_task import SIZES, PairTask

SETTINGS = TrainingSettings(seed=3, epochs=5, batch_size=20, threads=1, switch_epochs=(2, 3, 4))
REPOSITORY = Path(__file__).parents[2]
# Children that need not import torch again.
FORKED = multiprocessing.get_context("fork")


def _outcomes(records):
    return [record.outcome() for record in records]


def _assert_same_weights(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


def test_the_learning_rate_is_piecewise_constant_as_published():
    settings = TrainingSettings()
    rates = [settings.learning_rate(epoch) for epoch in range(80)]
    assert rates == [1e-3] * 10 + [5e-4] * 10 + [1e-4] * 10 + [1e-5] * 50


@pytest.mark.parametrize(("size", "batch_size"), [(53, 20), (40, 20), (7, 20), (1000, 33)])
def test_an_epoch_holds_every_sample_once_in_batches_alike_within_one(size, batch_size):
    batches = training_batches(size, batch_size, seed=1, epoch=0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(size))
    lengths = [len(batch) for batch in batches]
    assert max(lengths) <= batch_size
    assert max(lengths) - min(lengths) <= 1
    np.testing.assert_array_equal(
        np.concatenate(validation_batches(size, batch_size)), np.arange(size)
    )


def test_the_order_of_samples_follows_from_seed_and_epoch_alone():
    orders = {
        (seed, epoch): tuple(np.concatenate(training_batches(50, 8, seed, epoch)).tolist())
        for seed in (1, 2)
        for epoch in (0, 1)
    }
    assert len(set(orders.values())) == 4
    again = np.concatenate(training_batches(50, 8, 2, 1))
    assert tuple(again.tolist()) == orders[2, 1]


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_shares_of_the_workers_make_up_the_batch_in_its_order(workers):
    batch = training_batches(53, 20, seed=1, epoch=4)[1]
    shares = [share_of(batch, rank, workers) for rank in range(workers)]
    np.testing.assert_array_equal(np.concatenate(shares), batch)
    assert [len(share) for share in shares] == share_sizes(len(batch), workers)


class _WithKnownStart(PairTask):
    """Keeps a copy of the weights that training starts from."""

    def build(self):
        model = super().build()
        self.start = copy.deepcopy(model)
        return model


def test_the_loop_is_gradient_descent_on_the_batches_in_their_order(tmp_path):
    task = _WithKnownStart(SETTINGS)
    records = train_here(task, tmp_path).records

    model = task.start
    optimiser = torch.optim.Adam(model.parameters(), lr=1.0)
    for epoch, record in enumerate(records):
        optimiser.param_groups[0]["lr"] = {0: 1e-3, 1: 1e-3, 2: 5e-4, 3: 1e-4, 4: 1e-5}[epoch]
        sums = {"training": 0.0, "validation": 0.0}
        model.train()
        for batch in training_batches(SIZES["training"], 20, SETTINGS.seed, epoch):
            loss, _ = task.loss(task.outputs(model, task.load("training", batch, epoch)))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            sums["training"] += loss.item() * len(batch)
        model.eval()
        for batch in validation_batches(SIZES["validation"], 20):
            loss, _ = task.loss(task.outputs(model, task.load("validation", batch, epoch)))
            sums["validation"] += loss.item() * len(batch)
        for split, expected in sums.items():
            found = getattr(record, split)["total"]
            assert found == pytest.approx(expected / SIZES[split], rel=1e-13), (epoch, split)


def _train_until_killed(folder):
    train_here(PairTask(SETTINGS, kill_at=3, marker=folder / "marker"), folder)


def test_a_run_killed_in_an_epoch_goes_on_to_the_same_end_bit_for_bit(tmp_path):
    undisturbed = train_here(PairTask(SETTINGS), tmp_path / "undisturbed")

    folder = tmp_path / "killed"
    folder.mkdir()
    process = FORKED.Process(target=_train_until_killed, args=(folder,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert latest_checkpoint(folder / "checkpoints").name == "epoch-000002"

    resumed = train_here(PairTask(SETTINGS), folder)

    assert _outcomes(resumed.records) == _outcomes(undisturbed.records)
    _assert_same_weights(resumed.weights, undisturbed.weights)
    assert _outcomes(read_records(folder / "metrics.jsonl")) == _outcomes(undisturbed.records)


def test_a_finished_run_trained_for_longer_equals_one_long_run(tmp_path):
    short = SETTINGS.model_copy(update={"epochs": 2})
    train_here(PairTask(short), tmp_path / "twice")
    twice = train_here(PairTask(SETTINGS), tmp_path / "twice")
    once = train_here(PairTask(SETTINGS), tmp_path / "once")
    assert _outcomes(twice.records) == _outcomes(once.records)
    _assert_same_weights(twice.weights, once.weights)


def test_a_checkpoint_half_written_is_swept_away_and_the_last_whole_one_used(tmp_path):
    train_here(PairTask(SETTINGS.model_copy(update={"epochs": 2})), tmp_path)
    partial = tmp_path / "checkpoints" / ".epoch-000002.1234.partial"
    partial.mkdir()
    (partial / "model.safetensors").write_bytes(b"half")
    trained = train_here(PairTask(SETTINGS), tmp_path)
    assert not partial.exists()
    assert [record.epoch for record in trained.records] == [0, 1, 2, 3, 4]
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["epoch-000003", "epoch-000004"]


@pytest.mark.parametrize("name", ["model", "best", "optimiser"])
def test_a_damaged_checkpoint_is_refused_by_its_name(tmp_path, name):
    settings = SETTINGS.model_copy(update={"epochs": 1})
    file = train_here(PairTask(settings), tmp_path).checkpoint / f"{name}.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(TrainingError, match=f"{name}.safetensors is damaged"):
        train_here(PairTask(SETTINGS), tmp_path)


def test_a_checkpoint_of_another_task_or_schema_is_refused(tmp_path):
    checkpoint = train_here(PairTask(SETTINGS), tmp_path).checkpoint
    model = PairTask(SETTINGS).build()
    progress = Progress(
        model=model, optimiser=torch.optim.Adam(model.parameters()), records=[], best={}
    )
    with pytest.raises(TrainingError, match="another configuration"):
        restore(checkpoint, progress, "another identity")
    state = json.loads((checkpoint / "state.json").read_text())
    (checkpoint / "state.json").write_text(json.dumps(state | {"schema": "bilayer/training/9"}))
    with pytest.raises(TrainingError, match="schema 'bilayer/training/9'"):
        restore(checkpoint, progress, state["identity"])


class _Diverging(PairTask):
    def loss(self, outputs):
        total, parts = super().loss(outputs)
        return total * float("nan"), parts


def test_a_loss_that_is_not_finite_ends_the_run_without_a_checkpoint(tmp_path):
    with pytest.raises(TrainingError, match="training loss of epoch 1 is nan"):
        train_here(_Diverging(SETTINGS), tmp_path)
    assert latest_checkpoint(tmp_path / "checkpoints") is None


class _Remembering(PairTask):
    """Keeps the weights that the loop had after each epoch."""

    def __init__(self, settings):
        super().__init__(settings)
        self.weights = []

    def epoch_metrics(self, model, epoch):
        self.weights.append({name: rows.clone() for name, rows in model.state_dict().items()})
        return {}


def test_the_weights_kept_are_those_of_the_lowest_validation_loss(tmp_path):
    settings = SETTINGS.model_copy(update={"epochs": 12, "learning_rates": (0.5,) * 4})
    task = _Remembering(settings)
    trained = train_here(task, tmp_path)
    losses = [record.validation["total"] for record in trained.records]
    assert trained.best_epoch == int(np.argmin(losses))
    assert trained.best_epoch < len(losses) - 1  # else the last ones would do as well
    _assert_same_weights(trained.weights, task.weights[trained.best_epoch])


def _records(losses):
    template = EpochRecord(
        epoch=0, learning_rate=1e-3, training={"total": 1.0}, validation={"total": 1.0},
        metrics={}, seconds=1.0, samples_per_s=1.0, waiting_share=0.0,
    )  # fmt: skip
    return [
        replace(template, epoch=epoch, validation={"total": loss})
        for epoch, loss in enumerate(losses)
    ]


@pytest.mark.parametrize(
    ("losses", "change", "stalled"),
    [
        ([3, 2, 1], 0.0, False),
        ([3, 2, 2.5, 2.1], 0.0, True),
        ([3, 2, 2.5, 1.9], 0.0, False),
        ([3, 2, 2.5, 1.9], 0.2, True),
        ([2, 2, 2], 0.0, True),
        ([1, 2], 0.0, False),
    ],
)
def test_training_stops_when_patience_runs_out_without_a_lower_loss(losses, change, stalled):
    stopping = EarlyStopping(patience=2, minimum_change=change)
    assert has_stalled(_records(losses), stopping) is stalled
    assert has_stalled(_records(losses), None) is False


def test_a_stalled_run_ends_early_and_stays_ended(tmp_path):
    settings = SETTINGS.model_copy(
        update={"epochs": 50, "early_stopping": EarlyStopping(patience=2, minimum_change=1e9)}
    )
    assert len(train_here(PairTask(settings), tmp_path).records) == 3
    assert len(train_here(PairTask(settings), tmp_path).records) == 3


class _Recorder:
    """Keeps the progress of a worker in memory."""

    def restore(self, progress):
        self.progress = progress

    def keep(self, progress):
        pass


def _one_of_two(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    keeper = _Recorder()
    fit(PairTask(SETTINGS), Worker(rank=rank, count=2), keeper)
    torch.distributed.destroy_process_group()
    outcome = {
        "records": [record.as_json() for record in keeper.progress.records],
        "weights": {n: w.tolist() for n, w in keeper.progress.model.state_dict().items()},
    }
    (Path(folder) / f"{rank}.json").write_text(json.dumps(outcome))


def test_two_workers_train_as_one_does_but_for_round_off(tmp_path):
    """Batches of 18, 18 and 17: shares differ in size, and every pair crosses the workers."""
    torch.multiprocessing.start_processes(
        _one_of_two, (str(tmp_path),), nprocs=2, start_method="fork"
    )
    alone = train_here(PairTask(SETTINGS), tmp_path / "alone")
    last = _Recorder()
    fit(PairTask(SETTINGS), Worker(), last)
    for rank in (0, 1):
        outcome = json.loads((tmp_path / f"{rank}.json").read_text())
        for ours, theirs in zip(outcome["records"], alone.records, strict=True):
            assert ours["training"]["total"] == pytest.approx(theirs.training["total"], rel=1e-9)
            assert ours["validation"]["total"] == pytest.approx(
                theirs.validation["total"], rel=1e-9
            )
        for name, weights in last.progress.model.state_dict().items():
            # Adam turns round-off into steps where a gradient is 0, as of a bias before the norm.
            np.testing.assert_allclose(outcome["weights"][name], weights, rtol=0, atol=1e-7)


def test_more_workers_than_samples_are_refused(tmp_path):
    with pytest.raises(TrainingError, match="17 samples cannot be shared by 18 workers"):
        Worker(count=18).check_batch(SIZES["validation"])


def test_batches_are_read_ahead_in_order_and_no_further(tmp_path):
    taken, started = [], []

    def load(number):
        started.append(number)
        return number

    for number in Prefetcher([lambda n=n: load(n) for n in range(6)], ahead=2):
        time.sleep(0.02)  # time enough to read too much
        taken.append(number)
        assert len(started) <= len(taken) + 2
    assert taken == started == list(range(6))


def test_the_time_waited_for_data_is_what_reading_takes_beyond_the_work():
    slow = Prefetcher([lambda: time.sleep(0.05)] * 4)
    for _ in slow:
        pass
    assert slow.waited_s > 0.15
    fast = Prefetcher([lambda: None] * 4)
    for _ in fast:
        time.sleep(0.01)
    assert fast.waited_s < 0.02


def test_a_failed_read_is_raised_at_its_turn_and_the_thread_ends():
    def fail():
        raise OSError("no such file")

    items = iter(Prefetcher([lambda: 1, fail, lambda: 3]))
    assert next(items) == 1
    with pytest.raises(OSError, match="no such file"):
        next(items)
    assert not [t for t in threading.enumerate() if t.name.startswith("batches")]


def test_training_alone_needs_no_ray():
    program = (
        "import sys, ml.__main__, ml.metric.training_run, ml.training\n"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'ray']"
    )
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True)


def test_only_the_latest_checkpoints_are_kept_whatever_their_number(tmp_path):
    for epoch in range(4):
        (tmp_path / f"epoch-{epoch:06d}").mkdir()
    keep_latest(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-000002", "epoch-000003"]
