import numpy as np
import pytest
import torch

from ml.metric.configuration import MetricConfig, read_metric_config
from ml.metric.criteria import embed, judge, profiles_of
from ml.metric.model_search import (
    FoundModel,
    choices_of,
    make_search_task,
    pareto_front,
    ranked,
    with_choices,
)
from ml.metric.search_figures import draw_models
from ml.metric.task import MetricTask, patches_of, task_arguments


def _model(name, balance, dimension=9, overlap=0.0, mare_star=1.0, auc=0.5):
    return FoundModel(
        name=name, choices={}, epochs=3, dimension=dimension, auc=auc, overlap_percent=overlap,
        mare=0.1 * mare_star, mare_star=mare_star, balance=balance,
    )  # fmt: skip


def test_a_model_is_on_the_front_unless_another_is_nowhere_worse_and_somewhere_better():
    costs = np.random.default_rng(0).integers(0, 4, (200, 4)).astype(float)
    expected = [
        not any(
            all(o <= c for o, c in zip(other, cost, strict=True))
            and any(o < c for o, c in zip(other, cost, strict=True))
            for other in costs.tolist()
        )
        for cost in costs.tolist()
    ]
    found = pareto_front(costs)
    assert found.tolist() == expected
    assert 0 < found.sum() < len(costs)


def test_of_equal_models_all_are_on_the_front():
    assert pareto_front(np.ones((3, 4))).all()


def test_models_come_best_balance_first_and_the_front_is_named():
    better_nowhere = _model("c", 0.2, mare_star=2.0)
    result = ranked([_model("a", 0.1, auc=0.4), better_nowhere, _model("b", 0.3)])
    assert [model.name for model in result.models] == ["b", "c", "a"]
    assert result.chosen.name == "b"
    assert result.front == ("b",)
    small = ranked([_model("a", 0.1, dimension=5), _model("b", 0.3, auc=0.6)])
    assert set(small.front) == {"a", "b"}
    lines = small.table().splitlines()
    assert len(lines) == 3
    assert lines[1].split()[:3] == ["*", "b", "9"]


def test_the_first_trial_is_the_configuration_itself():
    for name in ("ours", "invariant"):
        config = read_metric_config(name)
        trial = with_choices(config, choices_of(config))
        assert trial.loss == config.loss
        assert trial.network == config.network


def test_a_trial_changes_what_was_chosen_and_nothing_else():
    config = read_metric_config("ours")
    choices = choices_of(config) | {
        "label_weight": 0.5,
        "invariance_margin": 0.1,
        "dimension": 6,
        "architectures": "conv4-dense3",
    }
    trial = with_choices(config, choices)
    assert trial.loss.weights.label == 0.5
    assert trial.loss.margins.invariance == 0.1
    assert trial.loss.margins.label == 8
    assert (trial.network.dimension, len(trial.network.convolutions)) == (6, 4)
    assert trial.training == config.training
    assert MetricConfig.model_validate(trial.model_dump(mode="json")) == trial


def test_a_trial_is_judged_by_the_papers_criteria_on_validation_patches(run_folder):
    overrides = [f"data.sources=[{run_folder}]", "search.patches=10", "loss.scale=0.2"]
    config = read_metric_config("ours", [*overrides, "data.validation_share=0.5"])
    given = MetricTask(config, patches_of(config))
    task = make_search_task(task_arguments(config, given), choices_of(config))
    model = task.build().eval()
    found = task.epoch_metrics(model, 0)

    rng = np.random.default_rng([config.training.seed, 5])
    index = rng.permutation(task.validation_index)[:10]

    def encode(density):
        images = torch.from_numpy(task.standardisation.apply(density))
        return model(images).detach().numpy()

    expected = judge(
        embed(encode, task.patches, index),
        task.patches.kind[index],
        profiles_of(task.patches, index, task.standardisation),
        factor=0.2,
    )
    assert found["auc"] == expected.auc
    assert found["overlap_percent"] == expected.overlap_percent
    assert found["mare"] == pytest.approx(0.2 * found["mare_star"])
    mean_distance = np.mean(expected.pairs.mean_reference)
    assert found["balance"] == pytest.approx(
        expected.auc - expected.overlap_percent / 100 - expected.mare_star / mean_distance
    )


def test_the_figure_of_models_is_drawn_even_where_an_axis_has_one_value(tmp_path):
    costs = np.array([[9.0, 0.0, 1.0, 0.4], [9.0, 3.0, 0.5, 0.5], [9.0, 3.0, 2.0, 0.6]])
    draw_models(tmp_path / "figure4.png", costs, pareto_front(costs))
    assert (tmp_path / "figure4.png").read_bytes().startswith(b"\x89PNG")
