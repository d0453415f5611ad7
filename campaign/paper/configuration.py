"""Every size of `python -m campaign paper` in one file: membranes, training, campaign, analyses."""

from collections.abc import Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from ml import yaml_configuration
from ml.configuration_errors import ConfigurationError
from ml.metric.table1_rows import ROW_NAMES
from ml.training.settings import Count, Section
from ml.yaml_configuration import resolved_yaml

__all__ = ["ConfigurationError", "PaperConfig", "preset_names", "read_paper", "resolved_yaml"]


class Table1Section(Section):
    """Table 1: which rows, for how many seeds and epochs (null: the presets'), judged on what.

    `overrides` are `key.path=value` of every row that is trained.
    """

    rows: tuple[str, ...] = ROW_NAMES
    seeds: Count = 3
    epochs: Count | None = None
    patches: Count = 30_000
    every: Count = 1
    overrides: tuple[str, ...] = ()


class SearchSection(Section):
    """Figure 4: a search of `trials` models, each up to `epochs`; 0 leaves it out."""

    trials: int = 0
    epochs: Count = 40


class AnalysisSection(Section):
    """`patches` judged by the criteria, bootstrap `resamples`, `periods` of the campaign."""

    patches: Count = 30_000
    resamples: Count = 400
    periods: Count = 3
    workers: Count = 2


class PaperConfig(Section):
    """The whole story.

    `pre_campaign` and `post_campaign` are configurations of continuum, `training` one of
    `ml train metric`, `campaign` one of campaign; the membrane after the campaign takes the
    potentials that the campaign ended with, and is run once more with its own. Times before
    `first_us` are left out of pre- and post-campaign, while lipids gather around proteins.
    """

    description: str = ""
    first_us: float = 1.0
    ranks: Count = 1  # of the membranes before and after; more than one needs mpiexec
    pre_campaign: dict[str, Any]
    training: dict[str, Any]
    table1: Table1Section = Table1Section()
    search: SearchSection = SearchSection()
    campaign: dict[str, Any]
    post_campaign: dict[str, Any]
    analysis: AnalysisSection = AnalysisSection()


def preset_names() -> tuple[str, ...]:
    """Names of the sizes that ship with the package."""
    return yaml_configuration.preset_names(_presets())


def read_paper(source: str | Path, overrides: Sequence[str] = ()) -> PaperConfig:
    """The configuration of a file or preset, each override a `key.path=value`.

    Raises ConfigurationError, which names file, key, value and what is allowed.
    """
    tree = yaml_configuration.overridden(
        yaml_configuration.read_tree(source, _presets()), overrides
    )
    return yaml_configuration.checked(PaperConfig, tree, source, overrides)


def _presets() -> Traversable:
    return resources.files("campaign") / "paper" / "presets"
