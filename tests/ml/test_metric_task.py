import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ml.metric.configuration import read_metric_config
from ml.metric.pairs_in_space import nearest_protein_nm
from ml.metric.profile_store import profiles_in_store
from ml.metric.radial_profiles import radial_profiles
from ml.metric.symmetries import PUBLISHED_SYMMETRIES, apply_symmetry
from ml.metric.task import (
    MetricTask,
    keyed_uniform,
    make_metric_task,
    patches_of,
    task_arguments,
    with_transformed,
)
from ml.metric.triplet_losses import metric_loss
from ml.patch_data import PatchDataError, load_batch, open_patches


def open_metric_task(config):
    return MetricTask(config, patches_of(config))


@pytest.fixture
def config(run_folder):
    return read_metric_config("ours", [f"data.sources=[{run_folder}]", "training.batch_size=8"])


def _with_transforms(config, number):
    return config.model_copy(update={"loss": config.loss.model_copy(update={"transforms": number})})


@pytest.mark.parametrize("transforms", [1, 3, 5, 7])
def test_a_batch_is_the_same_however_it_is_shared_out(config, transforms):
    task = open_metric_task(_with_transforms(config, transforms))
    positions = np.random.default_rng(0).permutation(task.size("training"))
    whole = task.load("training", positions, 4)
    parts = [task.load("training", share, 4) for share in np.array_split(positions, 3)]
    for name, rows in whole.items():
        assert torch.equal(rows, torch.cat([part[name] for part in parts])), name


def test_images_are_standardised_over_the_training_patches_only(config):
    task = open_metric_task(config)
    density = task.load("training", np.arange(task.size("training")), 0)["density"]
    images = task.images(density).double()
    np.testing.assert_allclose(images.mean((0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(images.std((0, 2, 3)), 1, atol=1e-4)


def test_profiles_are_those_of_the_standardised_images(config):
    task = open_metric_task(config)
    batch = task.load("training", np.arange(10), 0)
    images = task.images(batch["density"]).numpy()
    np.testing.assert_allclose(batch["profiles"], radial_profiles(images), rtol=0, atol=1e-5)


def test_profiles_are_stored_once_for_each_set_of_patches(run_folder, tmp_path):
    patches = open_patches([run_folder])
    expected = radial_profiles(load_batch(patches, np.arange(len(patches))))
    for subset in (np.arange(len(patches)), np.arange(0, len(patches), 2)):
        part = patches.subset(subset)
        np.testing.assert_array_equal(profiles_in_store(part, None), expected[subset])
        np.testing.assert_array_equal(profiles_in_store(part, tmp_path), expected[subset])
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(files) == 2
    np.testing.assert_array_equal(profiles_in_store(patches, tmp_path), expected)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files


def test_no_history_is_both_trained_on_and_validated_with(config):
    task = open_metric_task(config)
    history = task.patches.history
    trained, validated = history[task.training_index], history[task.validation_index]
    assert not set(trained.tolist()) & set(validated.tolist())
    assert len(trained) + len(validated) == len(task.patches)


def test_all_five_published_transformations_are_taken_by_default(config):
    task = open_metric_task(config)
    chosen = task.load("training", np.arange(6), 0)["symmetries"]
    assert chosen.tolist() == [list(PUBLISHED_SYMMETRIES)] * 6


def test_fewer_transformations_are_chosen_by_seed_epoch_and_patch(config):
    task = open_metric_task(_with_transforms(config, 2))
    positions = np.arange(task.size("training"))
    chosen = {epoch: task.load("training", positions, epoch)["symmetries"] for epoch in (0, 1)}
    for of_epoch in chosen.values():
        assert set(of_epoch.flatten().tolist()) <= set(PUBLISHED_SYMMETRIES)
        assert (of_epoch[:, 0] != of_epoch[:, 1]).all()
        assert len({tuple(row) for row in of_epoch.tolist()}) > 5
    assert not torch.equal(chosen[0], chosen[1])
    again = open_metric_task(_with_transforms(config, 2))
    assert torch.equal(again.load("training", positions, 1)["symmetries"], chosen[1])


def test_validation_sees_the_same_patches_in_every_epoch(config):
    task = open_metric_task(_with_transforms(config, 2))
    positions = np.arange(task.size("validation"))
    first, later = (task.load("validation", positions, epoch) for epoch in (0, 9))
    assert all(torch.equal(first[name], later[name]) for name in first)


def test_keyed_choices_are_uniform():
    ranks = keyed_uniform(3, 7, np.arange(20_000, dtype=np.uint64), 5).argsort(axis=1)
    for place in range(5):
        counts = np.bincount(ranks[:, place], minlength=5)
        assert np.abs(counts / 20_000 - 0.2).max() < 5 * np.sqrt(0.2 * 0.8 / 20_000)


def test_views_of_a_patch_are_its_image_and_its_transforms_one_by_one():
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 2, 37, 37)))
    symmetries = torch.tensor([[1, 4], [2, 4], [1, 7], [3, 4]])
    seen = with_transformed(images, symmetries).view(3, 4, 2, 37, 37)
    assert torch.equal(seen[0], images)
    for patch in range(4):
        for place in range(2):
            expected = apply_symmetry(images[patch], int(symmetries[patch, place]))
            assert torch.equal(seen[1 + place, patch], expected)


@pytest.mark.parametrize("preset", ["ours", "invariant", "label", "radial", "invariance"])
def test_the_loss_of_a_batch_is_equation_5_of_its_embeddings(config, preset):
    chosen = read_metric_config(preset).model_copy(update={"data": config.data})
    task = open_metric_task(chosen)
    model = task.build().eval()
    positions = np.arange(task.size("training"))
    total, parts = task.loss(task.outputs(model, task.load("training", positions, 0)))

    images = task.standardisation.apply(load_batch(task.patches, task.training_index))
    used = (0, *PUBLISHED_SYMMETRIES) if chosen.loss.transforms else (0,)
    z = torch.stack([model(torch.from_numpy(apply_symmetry(images, g).copy())) for g in used], 1)
    profiles = torch.from_numpy(radial_profiles(images))
    kind = torch.from_numpy(task.patches.kind[task.training_index].astype(np.int64))
    share = np.minimum(nearest_protein_nm(task.patches)[task.training_index] / 15, 1)
    anchor_weight = torch.from_numpy(share**chosen.loss.overlap_exponent)
    expected, expected_parts = metric_loss(
        z, kind, profiles, chosen.loss.as_loss_weights(), anchor_weight
    )
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert parts.keys() == expected_parts.keys()


def test_patches_that_overlap_count_less_as_anchors_of_the_label_loss(config):
    patches = patches_of(config)
    crowded = replace(patches, centre_nm=patches.centre_nm / 30)
    chosen = config.model_copy(
        update={"loss": config.loss.model_copy(update={"overlap_exponent": 2.0})}
    )
    task = MetricTask(chosen, crowded)
    positions = np.arange(task.size("training"))
    batch = task.load("training", positions, 0)
    share = np.minimum(nearest_protein_nm(crowded)[task.training_index] / 15, 1)
    np.testing.assert_allclose(batch["anchor_weight"], share**2, rtol=1e-6)
    assert (share[crowded.central_state[task.training_index] < 0] == 1).all()
    assert share.min() < 0.5

    model = task.build().eval()
    outputs = task.outputs(model, batch)
    weights = chosen.loss.as_loss_weights()
    of_all = (outputs["z"], batch["kind"], batch["profiles"], weights)
    expected, _ = metric_loss(*of_all, batch["anchor_weight"])
    assert task.loss(outputs)[0].item() == pytest.approx(expected.item(), rel=1e-6)
    assert expected.item() != pytest.approx(metric_loss(*of_all)[0].item(), rel=1e-5)
    assert "anchor_weight" not in open_metric_task(config).load("training", positions, 0)


def test_a_task_travels_as_plain_values(config):
    task = open_metric_task(config)
    travelled = make_metric_task(json.loads(json.dumps(task_arguments(config, task))))
    assert travelled.identity == task.identity
    ours, theirs = (one.load("training", np.arange(7), 2) for one in (travelled, task))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert torch.equal(travelled.images(ours["density"]), task.images(theirs["density"]))


def test_labels_need_two_kinds_on_both_sides_of_the_split(config, run_folder):
    patches = open_patches([run_folder])
    one_kind = replace(patches, kind=np.ones_like(patches.kind))
    with pytest.raises(PatchDataError, match=r"training set must hold patches of at least two"):
        MetricTask(config, one_kind)


def test_data_must_be_named():
    with pytest.raises(PatchDataError, match=r"data.sources must name"):
        open_metric_task(read_metric_config("ours"))
