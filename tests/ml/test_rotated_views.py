"""Patches cut at other angles: which of them a batch holds, and what the loss makes of them."""

import shutil

import numpy as np
import pytest
import torch

from ml.metric.configuration import read_metric_config
from ml.metric.task import MetricTask, patches_of
from ml.metric.triplet_losses import metric_loss
from ml.patch_data import PatchDataError, open_patches


@pytest.fixture(scope="module")
def views(write_run):
    """Two folders with the ids of the run and densities of their own."""
    return [write_run(seed=1), write_run(seed=2)]


@pytest.fixture
def task(run_folder, views):
    config = read_metric_config(
        "invariant",
        [
            f"data.sources=[{run_folder}]",
            f"data.views=[{views[0]}, {views[1]}]",
            "loss.weights.invariance=2",
        ],
    )
    return MetricTask(config, patches_of(config))


def test_a_batch_holds_of_each_patch_one_view_chosen_by_epoch(task, views):
    densities = [open_patches([folder]).density for folder in views]
    positions = np.random.default_rng(0).permutation(task.size("training"))
    index, chosen = task.training_index[positions], []
    for epoch in (0, 1):
        rotated = task.load("training", positions, epoch)["rotated"].numpy()
        of_view = np.stack([(rotated == d[index]).all((1, 2, 3)) for d in densities])
        assert (of_view.sum(0) == 1).all()
        assert of_view.any(1).all()
        chosen.append(of_view)
    assert (chosen[0] != chosen[1]).any()


def test_validation_sees_the_first_view_in_every_epoch(task, views):
    first = open_patches([views[0]]).density[task.validation_index]
    for epoch in (0, 5):
        batch = task.load("validation", np.arange(task.size("validation")), epoch)
        np.testing.assert_array_equal(batch["rotated"], first)


def test_the_loss_compares_each_patch_with_its_view(task):
    model = task.build().eval()
    batch = task.load("training", np.arange(task.size("training")), 0)
    total, parts = task.loss(task.outputs(model, batch))
    z = torch.stack([model(task.images(batch[name])) for name in ("density", "rotated")], 1)
    weights = read_metric_config("invariant", ["loss.weights.invariance=2", "loss.transforms=1"])
    expected, _ = metric_loss(
        z,
        batch["kind"],
        batch["profiles"],
        weights.loss.as_loss_weights(),
        batch["anchor_weight"],
    )
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert parts["invariance"] > 0


def test_the_identity_follows_from_the_views(task, run_folder, views):
    fewer = read_metric_config(
        "invariant",
        [
            f"data.sources=[{run_folder}]",
            f"data.views=[{views[0]}]",
            "loss.weights.invariance=2",
        ],
    )
    assert MetricTask(fewer, patches_of(fewer)).identity != task.identity


def test_a_view_that_lacks_patches_is_refused_by_its_name(run_folder, views, tmp_path):
    shutil.copytree(views[0], tmp_path / "view")
    (tmp_path / "view" / "patches" / "0000000001.h5").unlink()
    config = read_metric_config(
        "invariant", [f"data.sources=[{run_folder}]", f"data.views=[{tmp_path / 'view'}]"]
    )
    with pytest.raises(PatchDataError, match=r"view must hold a view of every patch, 9 of 27"):
        MetricTask(config, patches_of(config))


def test_views_of_several_runs_are_refused(write_run, run_folder, views):
    config = read_metric_config(
        "invariant", [f"data.sources=[{run_folder}, {write_run()}]", f"data.views=[{views[0]}]"]
    )
    with pytest.raises(PatchDataError, match="single run"):
        MetricTask(config, patches_of(config))
