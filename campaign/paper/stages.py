"""The stages of the story: commands of the other packages, in the order they build on each other.

A stage that is whole has left a mark, and is not done again; one that was cut off goes on where it
can, as each of its commands does by itself, and starts again where it cannot.
"""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from campaign.paper.configuration import PaperConfig
from campaign.run_folder import read_state
from continuum.atomic_file import write_atomically
from continuum.parameter_versions import latest_version, version_path

Words = list[str]

# Analyses of the campaign or what follows it that are also made of a membrane before it.
_BEFORE = {"space": "pre-campaign", "decorrelation": "histories-before"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The folder of a story, its sizes, and the Ray cluster it may use."""

    out: Path  # absolute
    config: PaperConfig
    address: str | None = None

    @property
    def cluster(self) -> Words:
        """Options of commands that may use a cluster."""
        return [] if self.address is None else ["--address", self.address]

    def folder(self, name: str) -> str:
        """A folder of the story, as commands take it."""
        return str(self.out / name)

    def file(self, name: str, tree: dict[str, object]) -> str:
        """Write a configuration of another package; its path."""
        path = self.out / "configurations" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))
        return str(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """`commands` looks at the folder and says what is left to do."""

    name: str
    what: str
    commands: Callable[[Place], list[Words]]


def stages_of(config: PaperConfig) -> list[Stage]:
    """All stages in their order."""
    search = [Stage(name="search", what="search for models", commands=_search)]
    return [
        _membrane("pre-campaign", "membrane before the campaign"),
        Stage(name="training", what="training of the metric", commands=_training),
        Stage(name="evaluation", what="the metric on its own data", commands=_evaluation),
        Stage(name="table1", what="table 1", commands=_table1),
        *(search if config.search.trials else []),
        Stage(name="campaign", what="the campaign", commands=_campaign),
        _membrane("post-campaign", "membrane after the campaign"),
        _membrane("histories-before", "the same under the first potentials"),
        *(
            Stage(name=f"analysis-{name}", what=f"analysis: {name}", commands=_analysis(name))
            for name in ("metric", "drift", "space", "coverage", "feedback", "decorrelation")
        ),
    ]


def configurations(place: Place) -> dict[str, str]:
    """Write the configurations of the other packages; their paths by stage."""
    config = place.config
    data = {
        **config.training.get("data", {}),
        "sources": [place.folder("pre-campaign")],
        "first_us": config.first_us,
    }
    encoder = {"path": place.folder("training/encoder")}
    return {
        "pre-campaign": place.file("pre-campaign", config.pre_campaign),
        "training": place.file("training", {**config.training, "data": data}),
        "campaign": place.file("campaign", {**config.campaign, "encoder": encoder}),
        "post-campaign": place.file("post-campaign", _after_campaign(place)),
        "histories-before": place.file("histories-before", config.post_campaign),
    }


def _after_campaign(place: Place) -> dict[str, object]:
    """The membrane after the campaign, under the potentials that this one ended with."""
    tree: dict[str, object] = dict(place.config.post_campaign)
    parameters = place.out / "campaign" / "parameters"
    version = latest_version(parameters) if parameters.is_dir() else None
    if version:
        tree["potentials"] = {"table": str(version_path(parameters, version))}
    return tree


def _membrane(name: str, what: str) -> Stage:
    def words(place: Place) -> list[Words]:
        ranks = place.config.ranks
        python = [sys.executable, "-m", "continuum"]
        if ranks > 1:
            python = [shutil.which("mpiexec") or "mpiexec", "-n", str(ranks), *python]
        if _begun(place.out / name, "run.json"):
            return [[*python, "resume", place.folder(name)]]
        return [[*python, "run", configurations(place)[name], "--out", place.folder(name)]]

    return Stage(name=name, what=what, commands=words)


def _begun(folder: Path, mark: str) -> bool:
    """Whether a run can go on, which its `mark` says; what was cut off before is removed."""
    begun = (folder / mark).is_file()
    if not begun and folder.exists():
        shutil.rmtree(folder)
    return begun


def _training(place: Place) -> list[Words]:
    given, out = configurations(place)["training"], place.folder("training")
    return [[*_ml(), "train", "metric", given, "--out", out, *place.cluster]]


def _evaluation(place: Place) -> list[Words]:
    return [
        [
            *(*_ml(), "evaluate", "metric"),
            *(place.folder("training/encoder"), place.folder("pre-campaign")),
            *("--out", place.folder("evaluation"), "--cache", place.folder("training/cache")),
            *("--patches", str(place.config.analysis.patches)),
        ]
    ]


def _table1(place: Place) -> list[Words]:
    table = place.config.table1
    rows = [word for row in table.rows for word in ("--row", row)]
    # Every patch: the training's densities serve; fewer: a cache of them stands in the table's own.
    cache = ["--cache", place.folder("training/cache")] if table.every == 1 else []
    epochs = [] if table.epochs is None else ["--epochs", str(table.epochs)]
    overrides = [word for override in table.overrides for word in ("--set", override)]
    return [
        [
            *(*_ml(), "table1", place.folder("pre-campaign"), "--out", place.folder("table1")),
            *(*cache, "--seeds", str(table.seeds), "--patches", str(table.patches)),
            *("--every", str(table.every)),
            *("--first-us", str(place.config.first_us)),
            *(*rows, *epochs, *overrides, *place.cluster),
        ]
    ]


def _search(place: Place) -> list[Words]:
    search = place.config.search
    return [
        [
            *(*_ml(), "search", "metric", configurations(place)["training"]),
            *("--out", place.folder("search"), "--trials", str(search.trials)),
            *("--set", f"training.epochs={search.epochs}", *place.cluster),
        ]
    ]


def _campaign(place: Place) -> list[Words]:
    folder = place.folder("campaign")
    where = place.cluster or ["--local"]
    if _begun(place.out / "campaign", "config.resolved.yaml"):
        begin = ["resume", folder]
    else:
        begin = ["run", configurations(place)["campaign"], "--out", folder]
    return [[*_campaign_words(), *begin, *where], [*_campaign_words(), "report", folder]]


def _analysis(name: str) -> Callable[[Place], list[Words]]:
    def words(place: Place) -> list[Words]:
        sizes, campaign = place.config.analysis, place.folder("campaign")
        first = ["--first-us", str(place.config.first_us)]
        reference = ["--reference", place.folder("pre-campaign")]
        encode = [
            *("--encoder", place.folder("training/encoder")),
            *("--workers", str(sizes.workers), *place.cluster),
        ]
        by_name = {
            "metric": [campaign, *encode, *first, "--patches", str(sizes.patches)],
            "drift": [campaign, *encode, *reference, "--periods", str(sizes.periods)],
            "space": [campaign, *encode, *first],
            "coverage": [campaign],
            "feedback": [campaign],
            "decorrelation": [
                *(place.folder("post-campaign"), *encode, *first),
                *("--resamples", str(sizes.resamples)),
            ],
        }
        out = ["--out", place.folder("analyses")]
        commands = [[*_campaign_words(), "analyse", name, *by_name[name], *out]]
        if name in _BEFORE:
            before = [place.folder(_BEFORE[name]), *by_name[name][1:]]
            out = ["--out", place.folder("analyses/before")]
            commands.append([*_campaign_words(), "analyse", name, *before, *out])
        return commands

    return words


def stopped_early(place: Place, stage: Stage) -> str | None:
    """Why a campaign whose command has ended well is not at its end: stopped or drained."""
    if stage.name != "campaign":
        return None
    finished = read_state(place.out / "campaign")[1].finished
    return None if finished == "complete" else finished or "unfinished"


def is_done(place: Place, stage: Stage) -> bool:
    """Whether a stage is whole."""
    return _mark(place, stage).is_file()


def seconds_of(place: Place, stage: Stage) -> float | None:
    """How long a whole stage took in the run that ended it."""
    if not is_done(place, stage):
        return None
    return float(json.loads(_mark(place, stage).read_text())["seconds"])


def _mark(place: Place, stage: Stage) -> Path:
    return place.out / "stages" / f"{stage.name}.json"


def mark_done(place: Place, stage: Stage, seconds: float, commands: list[Words]) -> None:
    """Say that a stage is whole."""
    path = _mark(place, stage)
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"seconds": seconds, "commands": [_told(place, words) for words in commands]}
    write_atomically(path, json.dumps(told, indent=1) + "\n")


def _told(place: Place, words: Words) -> str:
    """A command as one may type it in the story's folder."""
    plain = ["python" if word == sys.executable else word for word in words]
    return " ".join(word.replace(f"{place.out}/", "") for word in plain)


def _ml() -> Words:
    return [sys.executable, "-m", "ml"]


def _campaign_words() -> Words:
    return [sys.executable, "-m", "campaign"]
