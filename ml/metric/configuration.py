"""Configurations of the similarity metric: data, network, losses, training, search.

The defaults are the final model of Bhatia et al. 2022 (section 2.2 and appendix); presets are its
ablations (table 1) and the invariant network.
"""

import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ml import yaml_configuration
from ml.configuration_errors import ConfigurationError
from ml.metric.network_spec import Convolution, NetworkSpec
from ml.metric.triplet_losses import LossWeights, Mining
from ml.training.settings import Count, Positive, Section, TrainingSettings
from ml.yaml_configuration import Tree, resolved_yaml

__all__ = [
    "ConfigurationError",
    "MetricConfig",
    "architecture",
    "metric_identity",
    "preset_names",
    "read_metric_config",
    "resolved_yaml",
]

Weight = Annotated[float, Field(ge=0)]
Architecture = Literal[
    "published",
    "invariant",
    "conv3-dense3",
    "conv3-dense4",
    "conv4-dense3",
    "conv4-dense4",
    "conv5-dense3",
    "conv5-dense4",
]

# Those may differ between two runs of one identity: the outcome is the same, or goes on longer.
_NOT_IN_IDENTITY = ("epochs", "early_stopping", "workers", "threads", "max_failures", "use_gpu")


class DataConfig(Section):
    """Which patches are learned from; relative paths count from the configuration file.

    `cache` is a folder for the densities as one memory-mapped file (null: within the output).
    `validation_share` of the histories are held out, drawn by `split_seed`. `views` are folders of
    the same patches cut at other angles (`continuum recut`), one of which each batch adds.
    """

    sources: tuple[Path, ...] = ()
    views: tuple[Path, ...] = ()
    cache: Path | None = None
    every: Count = 1
    first_us: Annotated[float, Field(ge=0)] = 0.0
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    split_seed: Annotated[int, Field(ge=0)] = 0


class LossParts(Section):
    """Weights w of equation 5."""

    label: Weight = 1.0
    invariance: Weight = 2.0
    radial: Weight = 2.0


class Margins(Section):
    """Margins α of equations 2 and 3."""

    label: Positive = 8.0
    invariance: Positive = 1.0


class MiningConfig(Section):
    """Over which triplets the label and the invariance loss are averaged."""

    label: Mining = "all"
    invariance: Mining = "all"


class LossConfig(Section):
    """The loss; `scale` is λ of equation 4.

    `transforms` is how many transformed copies of each patch a batch holds: 5 are those of the
    paper, 7 all symmetries of the square; of fewer, each epoch takes others for each patch. Without
    a weight of invariance there are none. A patch whose nearest other protein is r < 15 nm away
    counts as an anchor of the label loss by (r / 15 nm) to the power `overlap_exponent`.
    """

    weights: LossParts = LossParts()
    margins: Margins = Margins()
    scale: Positive = 0.1
    mining: MiningConfig = MiningConfig()
    transforms: Annotated[int, Field(ge=0, le=7)] = 5
    overlap_exponent: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _something_to_minimise(self) -> Self:
        weights = self.weights
        if not weights.label + weights.invariance + weights.radial > 0:
            raise ValueError("at least one of weights must be > 0")
        return self

    def as_loss_weights(self) -> LossWeights:
        return LossWeights(
            label=self.weights.label,
            invariance=self.weights.invariance,
            radial=self.weights.radial,
            label_margin=self.margins.label,
            invariance_margin=self.margins.invariance,
            radial_scale=self.scale,
            label_mining=self.mining.label,
            invariance_mining=self.mining.invariance,
        )


class SearchRanges(Section):
    """What the search chooses from; the defaults are the paper's ranges (section 3.2, appendix).

    `architectures` other than published and invariant are convC-denseD, C convolutions and D dense
    layers.
    """

    label_weight: Annotated[tuple[Weight, ...], Field(min_length=1)] = (0.5, 1.0, 2.0)
    invariance_weight: Annotated[tuple[Weight, ...], Field(min_length=1)] = (0.5, 1.0, 2.0)
    radial_weight: Annotated[tuple[Weight, ...], Field(min_length=1)] = (0.5, 1.0, 2.0)
    label_margin: Annotated[tuple[Positive, ...], Field(min_length=1)] = (5.0, 8.0, 10.0, 12.0)
    invariance_margin: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.1, 1.0)
    scale: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.1,)
    dimension: Annotated[tuple[Count, ...], Field(min_length=1)] = (5, 6, 7, 8, 9, 10, 11, 12)
    architectures: Annotated[tuple[Architecture, ...], Field(min_length=1)] = (
        "published",
        "conv3-dense3",
        "conv4-dense3",
        "conv5-dense4",
    )


class SearchConfig(Section):
    """A search of `trials` models; ASHA ends the worse of them early.

    A trial is first judged after `grace_epochs`, then each time its epochs have grown by
    `reduction`, and goes on if it is among the best 1/`reduction` so far. `patches` are those of
    the validation set that the criteria are computed on.
    """

    trials: Count = 109
    concurrent: Count | None = None
    grace_epochs: Count = 5
    reduction: Annotated[float, Field(gt=1)] = 3.0
    patches: Annotated[int, Field(ge=10)] = 2000
    ranges: SearchRanges = SearchRanges()


class MetricConfig(Section):
    """A metric to be trained."""

    description: str = ""
    data: DataConfig = DataConfig()
    network: NetworkSpec = NetworkSpec()
    loss: LossConfig = LossConfig()
    training: TrainingSettings = TrainingSettings()
    search: SearchConfig = SearchConfig()

    @model_validator(mode="after")
    def _invariance_has_views(self) -> Self:
        loss = self.loss
        if loss.weights.invariance > 0 and not (loss.transforms or self.data.views):
            raise ValueError(
                "loss.weights.invariance > 0 needs loss.transforms >= 1, got 0, or data.views"
            )
        return self


def preset_names() -> tuple[str, ...]:
    """Names of the metric's presets."""
    return yaml_configuration.preset_names(_presets())


def read_metric_config(config: str | Path, overrides: Sequence[str] = ()) -> MetricConfig:
    """The configuration of a file or preset, each override a `key.path=value`.

    Raises ConfigurationError, which names file, key, value and what is allowed.
    """
    plain = yaml_configuration.read_tree(config, _presets())
    _resolve_paths(plain, Path(config).parent)
    given = yaml_configuration.overridden(plain, overrides)
    _resolve_paths(given, Path())
    return yaml_configuration.checked(MetricConfig, given, config, overrides)


def metric_identity(config: MetricConfig, fingerprint: str) -> str:
    """SHA-256 (hex) of all that decides the trained weights, but for how long they are trained."""
    values = config.model_dump(mode="json", include={"network", "loss", "training", "data"})
    for key in _NOT_IN_IDENTITY:
        del values["training"][key]
    values["data"] = {
        "validation_share": config.data.validation_share,
        "split_seed": config.data.split_seed,
        "every": config.data.every,
        "first_us": config.data.first_us,
        "fingerprint": fingerprint,
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def architecture(name: Architecture, dimension: int) -> NetworkSpec:
    """The network of a name in `SearchRanges.architectures`.

    The first three convolutions are the published ones; further ones keep the image's size but
    for their rim, and dense layers halve in width from 128 or 64.
    """
    if name in ("published", "invariant"):
        return NetworkSpec(kind=name, dimension=dimension)
    convolutions, dense = (int(part[-1]) for part in name.split("-"))
    layers = (
        Convolution(filters=6, kernel=1, depth_multiplier=6),
        Convolution(filters=16, kernel=3, stride=2),
        Convolution(filters=16, kernel=3, stride=2),
        Convolution(filters=32, kernel=3),
        Convolution(filters=32, kernel=3),
    )
    hidden = (128, 64, 32)[-(dense - 1) :]
    return NetworkSpec(
        kind="convolutional",
        dimension=dimension,
        convolutions=layers[:convolutions],
        hidden=hidden,
    )


def _presets() -> Traversable:
    return resources.files("ml") / "presets" / "metric"


def _resolve_paths(tree: Tree, folder: Path) -> None:
    """Make the paths of `data` absolute, counting from `folder`."""
    data: Any = tree.get("data")
    if not isinstance(data, dict):
        return
    for name in ("sources", "views"):
        paths = data.get(name)
        if isinstance(paths, str):
            paths = [paths]
        if isinstance(paths, list):
            data[name] = [
                str((folder / path).resolve()) if isinstance(path, str) else path for path in paths
            ]
    if isinstance(data.get("cache"), str):
        data["cache"] = str((folder / data["cache"]).resolve())
