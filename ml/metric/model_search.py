"""The search for a metric (Bhatia et al. 2022, section 3.2): many models, four criteria, a front.

Trials are ranked by their balance, AUC - overlap - MARE* / mean dΥ, three shares of which the first
is to be large and the others small. The result names the model of best balance, and those which no
other model beats in dimension, overlap, MARE* and AUC at once.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from torch import nn

from ml.atomic_file import write_atomically
from ml.configuration_errors import ConfigurationError
from ml.metric.configuration import (
    LossParts,
    Margins,
    MetricConfig,
    architecture,
    resolved_yaml,
)
from ml.metric.criteria import embed, judge, profiles_of
from ml.metric.search_figures import draw_models
from ml.metric.task import MetricTask, patches_of, standardisation_of, task_arguments
from ml.metric.training_run import claimed, provenance, save_metric, with_cache
from ml.patch_set import PatchSet, Standardisation

SCORE = "balance"
_DRAW = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundModel:
    """A model of the search, judged in the epoch whose weights were kept."""

    name: str
    choices: dict[str, Any]
    epochs: int
    dimension: int
    auc: float
    overlap_percent: float
    mare: float
    mare_star: float
    balance: float

    @property
    def costs(self) -> tuple[float, ...]:
        """Dimension, overlap %, MARE*, 1 - AUC: the axes of figure 4, lower is better on all."""
        return float(self.dimension), self.overlap_percent, self.mare_star, 1.0 - self.auc


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """All models, best balance first, and the names of those on the Pareto front."""

    models: tuple[FoundModel, ...]
    front: tuple[str, ...]

    @property
    def chosen(self) -> FoundModel:
        return self.models[0]

    def table(self) -> str:
        """One line a model; * marks the front."""
        rows = [
            {
                "": "*" if model.name in self.front else "",
                "model": model.name,
                "d": model.dimension,
                "overlap %": f"{model.overlap_percent:.3f}",
                "MARE*": f"{model.mare_star:.3f}",
                "AUC": f"{model.auc:.3f}",
                "balance": f"{model.balance:.3f}",
                "epochs": model.epochs,
                **{k: v for k, v in model.choices.items() if k != "dimension"},
            }
            for model in self.models
        ]
        return str(pd.DataFrame(rows).to_string(index=False))


class SearchTask(MetricTask):
    """The task of a trial: every epoch is judged by the criteria on some validation patches."""

    def __init__(
        self, config: MetricConfig, patches: PatchSet, standardisation: Standardisation
    ) -> None:
        super().__init__(config, patches, standardisation)
        draw = np.random.default_rng([config.training.seed, _DRAW])
        order = draw.permutation(self.validation_index)
        self._judged: NDArray[np.int64] = order[: config.search.patches]
        self._judged_profiles = profiles_of(self.patches, self._judged, self.standardisation)
        self._factor = config.loss.scale

    def epoch_metrics(self, model: nn.Module, epoch: int) -> dict[str, float]:
        device = next(model.parameters()).device

        def encode(density: NDArray[Any]) -> NDArray[Any]:
            images = torch.from_numpy(self.standardisation.apply(density)).to(device)
            vectors: NDArray[Any] = model(images).detach().cpu().numpy()
            return vectors

        embedding = embed(encode, self.patches, self._judged)
        found = judge(
            embedding, self.patches.kind[self._judged], self._judged_profiles, factor=self._factor
        )
        relative_error = found.mare_star / found.pairs.mean_reference
        return {
            "auc": found.auc,
            "overlap_percent": found.overlap_percent,
            "mare": found.mare,
            "mare_star": found.mare_star,
            SCORE: found.auc - found.overlap_percent / 100 - relative_error,
        }


def search_metric(
    config: MetricConfig, out: Path, *, address: str | None = None, command: Sequence[str] = ()
) -> SearchResult:
    """Search, or continue, in `out`: search.json, search.csv, figure4.png, encoders of the front.

    Raises ConfigurationError, PatchDataError, ClusterError.
    """
    from ml.training.ray_search import SearchPlan, search_on_ray

    if config.loss.transforms == 0 and max(config.search.ranges.invariance_weight) > 0:
        raise ConfigurationError(
            "loss.transforms is 0, so search.ranges.invariance_weight must be [0.0], got"
            f" {list(config.search.ranges.invariance_weight)}"
        )
    out = out.resolve()
    config = with_cache(alone(config), out)
    with claimed(out):
        task = MetricTask(config, patches_of(config))
        write_atomically(out / "config.resolved.yaml", resolved_yaml(config))
        search = config.search
        plan = SearchPlan(
            trials=search.trials,
            concurrent=search.concurrent,
            epochs=config.training.epochs,
            grace_epochs=search.grace_epochs,
            reduction=search.reduction,
            score=SCORE,
            seed=config.training.seed,
            cpus=config.training.threads or 1,
            max_failures=config.training.max_failures,
        )
        with _showing(search.trials) as on_trial:
            outcomes = search_on_ray(
                make_search_task,
                task_arguments(config, task),
                search.ranges.model_dump(),
                [choices_of(config)],
                plan,
                out,
                address=address,
                on_trial=on_trial,
            )
        models = [
            FoundModel(
                name=outcome.name,
                choices=outcome.choices,
                epochs=len(outcome.trained.records),
                dimension=int(outcome.choices["dimension"]),
                **outcome.trained.records[outcome.trained.best_epoch].metrics,
            )
            for outcome in outcomes
            if outcome.trained is not None
        ]
        result = ranked(models)
        for outcome in outcomes:
            if outcome.trained is not None and outcome.name in result.front:
                chosen = with_choices(config, outcome.choices)
                folder = out / "front" / outcome.name
                folder.parent.mkdir(exist_ok=True)
                trial = MetricTask(chosen, task.patches, task.standardisation)
                save_metric(folder, chosen, trial, outcome.trained, command)
        failures = {o.name: o.failure for o in outcomes if o.failure is not None}
        _write(out, config, task, result, failures, command)
        return result


def make_search_task(arguments: Mapping[str, Any], choices: Mapping[str, Any]) -> SearchTask:
    """The task of one trial, in its process. Raises PatchDataError."""
    config = with_choices(MetricConfig.model_validate(arguments["config"]), choices)
    task = SearchTask(config, patches_of(config), standardisation_of(arguments))
    task.require_memory()
    return task


def alone(config: MetricConfig) -> MetricConfig:
    """The configuration with one worker, as every trial has."""
    training = config.training.model_copy(update={"workers": 1})
    return config.model_copy(update={"training": training})


def choices_of(config: MetricConfig) -> dict[str, Any]:
    """What the search would have to choose for the configuration's own loss; the first trial.

    Its network is the published one, or the invariant one where the configuration has that.
    """
    loss = config.loss
    return {
        "label_weight": loss.weights.label,
        "invariance_weight": loss.weights.invariance,
        "radial_weight": loss.weights.radial,
        "label_margin": loss.margins.label,
        "invariance_margin": loss.margins.invariance,
        "scale": loss.scale,
        "dimension": config.network.dimension,
        "architectures": "invariant" if config.network.kind == "invariant" else "published",
    }


def with_choices(config: MetricConfig, choices: Mapping[str, Any]) -> MetricConfig:
    """The configuration of a trial."""
    loss = config.loss.model_copy(
        update={
            "weights": LossParts(
                label=choices["label_weight"],
                invariance=choices["invariance_weight"],
                radial=choices["radial_weight"],
            ),
            "margins": Margins(
                label=choices["label_margin"], invariance=choices["invariance_margin"]
            ),
            "scale": choices["scale"],
        }
    )
    network = architecture(choices["architectures"], choices["dimension"])
    if network.kind == config.network.kind == "invariant":
        network = config.network.model_copy(update={"dimension": choices["dimension"]})
    return config.model_copy(update={"loss": loss, "network": network})


def ranked(models: Sequence[FoundModel]) -> SearchResult:
    """Models by falling balance, and their Pareto front."""
    best_first = sorted(models, key=lambda model: (-model.balance, model.name))
    on_front = pareto_front(np.array([model.costs for model in best_first]))
    front = tuple(m.name for m, kept in zip(best_first, on_front, strict=True) if kept)
    return SearchResult(models=tuple(best_first), front=front)


def pareto_front(costs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """costs (N, criteria), lower is better: which rows no other row beats or equals in all,
    beating them in one."""
    no_worse = (costs[:, None] <= costs[None, :]).all(axis=2)
    better = (costs[:, None] < costs[None, :]).any(axis=2)
    beaten = (no_worse & better).any(axis=0)
    return np.asarray(~beaten, dtype=np.bool_)


def _write(
    out: Path,
    config: MetricConfig,
    task: MetricTask,
    result: SearchResult,
    failures: Mapping[str, str],
    command: Sequence[str],
) -> None:
    content = {
        "schema": "bilayer/metric-search/1",
        **provenance(config, task, command),
        "judged_patches": min(config.search.patches, task.size("validation")),
        "chosen": result.chosen.name,
        "front": [asdict(model) for model in result.models if model.name in result.front],
        "models": [asdict(model) for model in result.models],
        "failures": dict(failures),
    }
    write_atomically(out / "search.json", json.dumps(content, indent=2) + "\n")
    rows = [{**asdict(m), **m.choices, "front": m.name in result.front} for m in result.models]
    table = pd.DataFrame(rows).drop(columns="choices")
    write_atomically(out / "search.csv", str(table.to_csv(index=False)))
    draw_models(
        out / "figure4.png",
        np.array([model.costs for model in result.models]),
        np.array([model.name in result.front for model in result.models]),
    )


@contextmanager
def _showing(trials: int) -> Iterator[Callable[[int, str], None]]:
    """A bar of trials on a terminal, a line a trial elsewhere."""
    if not sys.stderr.isatty():

        def log(ended: int, line: str) -> None:
            sys.stderr.write(f"{ended}/{trials} {line}\n")
            sys.stderr.flush()

        yield log
        return
    with Progress(console=Console(stderr=True)) as bar:
        whole = bar.add_task("trials", total=trials)

        def show(ended: int, line: str) -> None:
            bar.update(whole, completed=ended, description=line)

        yield show
