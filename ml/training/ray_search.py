"""A search over settings with Ray Tune: random choices, of which ASHA ends the worse early.

Every trial is a training run of one process with a folder and checkpoints of its own, so a trial
whose process dies, or a search whose driver dies, goes on from there. Choices are drawn from the
seed; which trials ASHA ends also depends on the order in which they report (Li et al. 2020).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler
from ray.tune.search import BasicVariantGenerator

from ml.training.errors import ClusterError
from ml.training.ray_cluster import connected
from ml.training.records import EpochRecord
from ml.training.single import CHECKPOINTS, train_here, trained_in
from ml.training.task import Task, Trained

# (arguments, choices) -> the task of a trial, made in the trial's process; importable there.
TrialMaker = Callable[[Mapping[str, Any], Mapping[str, Any]], Task]

_TUNE, _TRIALS = "tune", "trials"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPlan:
    """How many trials, judged when, by which number of `EpochRecord.metrics` (larger is better)."""

    trials: int
    concurrent: int | None
    epochs: int
    grace_epochs: int
    reduction: float
    score: str
    seed: int
    cpus: int = 1
    max_failures: int = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrialOutcome:
    """What was chosen and what came of it; `trained` is None where no epoch was finished."""

    name: str
    choices: dict[str, Any]
    trained: Trained | None
    failure: str | None


def search_on_ray(
    make_trial: TrialMaker,
    arguments: Mapping[str, Any],
    space: Mapping[str, Sequence[Any]],
    first: Sequence[Mapping[str, Any]],
    plan: SearchPlan,
    folder: Path,
    *,
    address: str | None = None,
    on_trial: Callable[[int, str], None] | None = None,
) -> list[TrialOutcome]:
    """Run, or continue, a search in `folder`: the choices `first`, then random ones of `space`.

    `on_trial` hears how many trials have ended and a line about the last. Raises ClusterError.
    """
    folder = folder.resolve()
    trainable = tune.with_resources(
        tune.with_parameters(
            _run_trial,
            make_trial=make_trial,
            arguments=dict(arguments),
            folder=str(folder),
            score=plan.score,
        ),
        {"cpu": plan.cpus},
    )
    with connected(address, plan.cpus * (plan.concurrent or 1)):
        results = _tuner(trainable, space, first, plan, folder, on_trial).fit()
    outcomes = []
    for result in results:  # type: ignore[attr-defined]
        name = _number(Path(result.path).name)
        trained = _outcome(folder / _TRIALS / name)
        failure = None if result.error is None else str(result.error).splitlines()[-1]
        outcomes.append(
            TrialOutcome(
                name=name, choices=dict(result.config or {}), trained=trained, failure=failure
            )
        )
    outcomes.sort(key=lambda outcome: outcome.name)
    if all(outcome.trained is None for outcome in outcomes):
        reasons = {outcome.failure for outcome in outcomes}
        raise ClusterError(f"none of {len(outcomes)} trials finished an epoch: {reasons}")
    return outcomes


def _tuner(
    trainable: Any,
    space: Mapping[str, Sequence[Any]],
    first: Sequence[Mapping[str, Any]],
    plan: SearchPlan,
    folder: Path,
    on_trial: Callable[[int, str], None] | None,
) -> tune.Tuner:
    state = folder / _TUNE
    if tune.Tuner.can_restore(str(state)):
        return tune.Tuner.restore(
            str(state), trainable=trainable, resume_unfinished=True, resume_errored=True
        )
    scheduler = AsyncHyperBandScheduler(
        time_attr="epoch",
        metric=plan.score,
        mode="max",
        max_t=plan.epochs,
        grace_period=min(plan.grace_epochs, plan.epochs),
        reduction_factor=plan.reduction,
    )
    draw = BasicVariantGenerator(
        points_to_evaluate=[dict(choices) for choices in first],
        random_state=plan.seed,
        max_concurrent=plan.concurrent or 0,
    )
    return tune.Tuner(
        trainable,
        param_space={name: tune.choice(list(values)) for name, values in space.items()},
        tune_config=tune.TuneConfig(
            num_samples=plan.trials, scheduler=scheduler, search_alg=draw, trial_dirname_creator=_id
        ),
        run_config=tune.RunConfig(
            name=_TUNE,
            storage_path=str(folder),
            failure_config=tune.FailureConfig(max_failures=plan.max_failures),
            callbacks=[_Listener(on_trial)] if on_trial else None,
            verbose=0,
        ),
    )


def _run_trial(
    choices: dict[str, Any],
    *,
    make_trial: TrialMaker,
    arguments: dict[str, Any],
    folder: str,
    score: str,
) -> None:
    """What a trial's process runs."""
    name = _number(tune.get_context().get_trial_id())

    def report(record: EpochRecord) -> None:
        if not math.isfinite(record.metrics[score]):
            raise ValueError(f"the score {score} of epoch {record.epoch + 1} is not finite")
        tune.report({"epoch": record.epoch + 1, **record.metrics})

    path = Path(folder) / _TRIALS / name
    path.mkdir(parents=True, exist_ok=True)
    train_here(make_trial(arguments, choices), path, report)


class _Listener(tune.Callback):
    """Tells the driver about trials that have ended."""

    def __init__(self, on_trial: Callable[[int, str], None]) -> None:
        self._on_trial = on_trial
        self._ended = 0

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: object
    ) -> None:
        self._tell(f"trial {_number(trial.trial_id)}: {trial.last_result.get('epoch', 0)} epochs")

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: object
    ) -> None:
        self._tell(f"trial {_number(trial.trial_id)} failed")

    def _tell(self, line: str) -> None:
        self._ended += 1
        self._on_trial(self._ended, line)


def _id(trial: Trial) -> str:
    return str(trial.trial_id)


def _number(trial_id: str) -> str:
    """The part of a trial's id that the same search has again: "1f2e3_00004" -> "00004"."""
    return trial_id.rpartition("_")[2]


def _outcome(folder: Path) -> Trained | None:
    try:
        return trained_in(folder / CHECKPOINTS)
    except FileNotFoundError:
        return None
