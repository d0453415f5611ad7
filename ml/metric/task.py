"""The similarity metric as a task of the training loop: patches in, the loss of equation 5 out."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from ml.metric.configuration import MetricConfig, metric_identity
from ml.metric.networks import build_network
from ml.metric.pairs_in_space import HALF_PATCH_NM, nearest_protein_nm
from ml.metric.profile_store import profiles_in_store
from ml.metric.radial_profiles import PROFILE_CHANNELS
from ml.metric.rotated_views import RotatedViews
from ml.metric.symmetries import PUBLISHED_SYMMETRIES, SYMMETRIES, apply_symmetry
from ml.metric.triplet_losses import metric_loss
from ml.patch_data import (
    PatchDataError,
    PatchSet,
    Standardisation,
    open_patches,
    split_by_history,
)
from ml.training import Batch, TrainingSettings
from ml.training.memory import require_memory
from ml.training.task import Split
from ml.training.worker import device_for

# Live float32 copies of a batch in a training step, measured: the images, their standardised and
# transformed copies, activations and gradients.
_COPIES = 7.0
_IMAGE_BYTES = 14 * 37 * 37 * 4


class MetricTask:
    """Patches, their standardisation and the split by history; what a batch holds.

    Of each patch: its densities, its kind, its radial profiles (standardised), the symmetries that
    transform it and, with `data.views`, its densities at another angle. Which symmetries and view
    is in training a choice of the epoch, in validation always the first.
    """

    def __init__(
        self,
        config: MetricConfig,
        patches: PatchSet,
        standardisation: Standardisation | None = None,
    ) -> None:
        self._config = config
        self._patches = patches
        self.training_index, self.validation_index = split_by_history(
            patches, config.data.validation_share, config.data.split_seed
        )
        for split in ("training", "validation"):
            index = self.training_index if split == "training" else self.validation_index
            kinds = np.unique(patches.kind[index])
            if config.loss.weights.label > 0 and len(kinds) < 2:
                raise PatchDataError(
                    f"the {split} set must hold patches of at least two kinds, its {len(index)}"
                    f" patches are of kind {kinds.tolist()}"
                )
        self.standardisation = standardisation or Standardisation.of(patches, self.training_index)
        self._weights = config.loss.as_loss_weights()
        self._profiles = (
            profiles_in_store(patches, config.data.cache) if self._weights.radial > 0 else None
        )
        exponent = config.loss.overlap_exponent if self._weights.label > 0 else 0.0
        self._anchor_weight = anchor_weights(patches, exponent) if exponent > 0 else None
        # No other part of the loss looks at them.
        self._transforms = config.loss.transforms if self._weights.invariance > 0 else 0
        self._symmetries = (
            PUBLISHED_SYMMETRIES
            if self._transforms <= len(PUBLISHED_SYMMETRIES)
            else SYMMETRIES[1:]
        )
        views = config.data.views
        self._views = RotatedViews(patches, views, config.data.cache) if views else None
        self._identity = metric_identity(config, (self._views or patches).fingerprint)

    @property
    def settings(self) -> TrainingSettings:
        return self._config.training

    @property
    def identity(self) -> str:
        return self._identity

    @property
    def patches(self) -> PatchSet:
        return self._patches

    def size(self, split: Split) -> int:
        return len(self._index(split))

    def build(self) -> nn.Module:
        return build_network(self._config.network)

    def optimiser(self, model: nn.Module) -> Optimizer:
        return Adam(model.parameters())

    def load(self, split: Split, positions: NDArray[np.int64], epoch: int) -> Batch:
        index = self._index(split)[positions]
        batch = {
            "density": torch.from_numpy(self._patches.density[index]),
            "kind": torch.from_numpy(self._patches.kind[index].astype(np.int64)),
        }
        if self._profiles is not None:
            profiles = self.standardisation.apply_to_profiles(self._profiles[index])
            batch["profiles"] = torch.from_numpy(profiles)
        if self._anchor_weight is not None:
            batch["anchor_weight"] = torch.from_numpy(self._anchor_weight[index])
        if self._transforms > 0:
            chosen_in = epoch if split == "training" else None
            batch["symmetries"] = torch.from_numpy(self._symmetries_of(index, chosen_in))
        if self._views is not None:
            number = np.zeros(len(index), np.int64)
            if split == "training":
                ranks = keyed_uniform(
                    self.settings.seed, epoch, self._keys(index), len(self._views)
                )
                number = ranks.argmax(axis=1)
            batch["rotated"] = torch.from_numpy(self._views.load(index, number))
        return batch

    def outputs(self, model: nn.Module, batch: Batch) -> Batch:
        images = self.images(batch["density"])
        seen = images
        if "symmetries" in batch:
            seen = with_transformed(images, batch["symmetries"])
        if "rotated" in batch:
            seen = torch.cat((seen, self.images(batch["rotated"])))
        z: Tensor = model(seen)
        views = z.view(-1, len(images), z.shape[1]).transpose(0, 1)  # (B, views, d)
        compared = ("kind", "profiles", "anchor_weight")
        return {"z": views, **{name: batch[name] for name in compared if name in batch}}

    def images(self, density: Tensor) -> Tensor:
        """(B, 14, 37, 37) nm⁻² as stored to standardised float32, on the same device."""
        mean, std = (
            torch.from_numpy(values).to(density.device).view(-1, 1, 1)
            for values in (self.standardisation.mean, self.standardisation.std)
        )
        return density.to(torch.float32, copy=True).sub_(mean).div_(std)

    def loss(self, outputs: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        z, kind = outputs["z"], outputs["kind"]
        profiles = outputs.get("profiles", z.new_zeros((len(z), PROFILE_CHANNELS, 1)))
        return metric_loss(z, kind, profiles, self._weights, outputs.get("anchor_weight"))

    def epoch_metrics(self, model: nn.Module, epoch: int) -> dict[str, float]:
        return {}

    def require_memory(self) -> None:
        """Raises TrainingError where a step of one worker would not fit into this machine."""
        patches = -(-self.settings.batch_size // self.settings.workers)
        images = 1 + self._transforms + (self._views is not None)
        needed = int(_COPIES * images * patches * _IMAGE_BYTES)
        what = f"a step of training.batch_size = {self.settings.batch_size}"
        require_memory(needed, device_for(self.settings), what)

    def _index(self, split: Split) -> NDArray[np.int64]:
        return self.training_index if split == "training" else self.validation_index

    def _symmetries_of(self, index: NDArray[np.int64], epoch: int | None) -> NDArray[np.int64]:
        """(B, T) symmetries of each patch: a choice keyed by (seed, epoch, patch), or the first."""
        wanted, every = self._transforms, np.array(self._symmetries)
        if epoch is None or wanted == len(every):
            return np.tile(every[:wanted], (len(index), 1))
        keys = self._keys(index)
        ranks = keyed_uniform(self.settings.seed, epoch, keys, len(every)).argsort(axis=1)
        chosen: NDArray[np.int64] = every[ranks[:, :wanted]]
        return chosen

    def _keys(self, index: NDArray[np.int64]) -> NDArray[np.uint64]:
        """(B,) a number of its own for each patch, whatever the set it stands in."""
        run = self._patches.run[index].astype(np.uint64)
        keys: NDArray[np.uint64] = self._patches.patch_id[index] ^ (run << np.uint64(48))
        return keys


def anchor_weights(patches: PatchSet, exponent: float) -> NDArray[np.float32]:
    """(N,) weights as anchors of the label loss: see `overlap_exponent` in LossConfig.

    Patches that overlap show the same proteins, near one centre or the other. Pulled to kinds as
    hard as any, those of two proteins that touch go where a bound RAF would put them, far apart.
    Raises PatchDataError if the side of a membrane is unknown.
    """
    share = np.minimum(nearest_protein_nm(patches) / HALF_PATCH_NM, 1.0)
    return (share**exponent).astype(np.float32)


def task_arguments(config: MetricConfig, task: MetricTask) -> dict[str, Any]:
    """What `make_metric_task` needs in another process, as plain values."""
    moments = task.standardisation
    return {
        "config": config.model_dump(mode="json"),
        "mean": moments.mean.tolist(),
        "std": moments.std.tolist(),
    }


def make_metric_task(arguments: Mapping[str, Any]) -> MetricTask:
    """The driver's task, once more, in a worker.

    Raises PatchDataError, TrainingError where a batch would not fit into memory.
    """
    config = MetricConfig.model_validate(arguments["config"])
    task = MetricTask(config, patches_of(config), standardisation_of(arguments))
    task.require_memory()
    return task


def standardisation_of(arguments: Mapping[str, Any]) -> Standardisation:
    """The standardisation in `task_arguments`."""
    return Standardisation(
        mean=np.array(arguments["mean"], np.float32), std=np.array(arguments["std"], np.float32)
    )


def patches_of(config: MetricConfig) -> PatchSet:
    """The patches that a configuration names. Raises PatchDataError."""
    data = config.data
    if not data.sources:
        raise PatchDataError("data.sources must name a run, a folder or files of patches, got none")
    return open_patches(data.sources, cache=data.cache, first_us=data.first_us, every=data.every)


def with_transformed(images: Tensor, symmetries: Tensor) -> Tensor:
    """Images (B, ..., n, n) and theirs under T symmetries each, (B, T): ((1 + T) B, ..., n, n)."""
    seen = images.new_empty((1 + symmetries.shape[1], *images.shape))
    seen[0] = images
    for copies, chosen in zip(seen[1:], symmetries.unbind(1), strict=True):
        present = sorted(set(chosen.tolist()))
        for g in present:
            if len(present) == 1:
                copies[:] = apply_symmetry(images, g)
            else:
                copies[chosen == g] = apply_symmetry(images[chosen == g], g)
    return seen.flatten(0, 1)


def keyed_uniform(
    seed: int, epoch: int, identity: NDArray[np.uint64], number: int
) -> NDArray[np.uint64]:
    """(N, number) hashes, each a function of its own key alone (splitmix64, Steele et al. 2014)."""
    start = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)
    counter = np.arange(1, number + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return _mixed(_mixed(identity[:, None] ^ start) + counter)


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
