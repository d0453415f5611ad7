"""The loss curve of a training run: the sum and each part, training and validation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ml.atomic_file import atomic_path
from ml.training.records import EpochRecord

_DECADE = 10.0
_NAMES = {"label": "labels", "invariance": "invariance", "radial": "radial profiles"}


def draw_losses(path: Path, records: Sequence[EpochRecord], switch_epochs: Sequence[int]) -> None:
    """Draw the training and validation loss and each part against the epoch; PNG."""
    parts = [name for name in records[0].training if name != "total"]
    epochs = np.arange(1, len(records) + 1)
    figure = Figure(figsize=(4.5 * (1 + len(parts)), 3.8), layout="constrained")
    axes = figure.subplots(1, 1 + len(parts), squeeze=False)
    best = min(range(len(records)), key=lambda i: records[i].validation["total"])
    for axis, name in zip(axes[0], ["total", *parts], strict=True):
        training = [record.training[name] for record in records]
        validation = [record.validation[name] for record in records]
        axis.plot(epochs, training, color="tab:blue", label="training")
        axis.plot(epochs, validation, color="tab:orange", label="validation")
        axis.plot(best + 1, validation[best], "o", color="tab:orange", label="kept")
        for number, epoch in enumerate(e for e in switch_epochs if e < len(records)):
            label = "learning rate falls" if number == 0 else None
            axis.axvline(epoch + 0.5, color="0.7", linestyle=":", label=label)
        lowest, highest = min(*training, *validation), max(*training, *validation)
        if 0 < _DECADE * lowest < highest:
            axis.set_yscale("log")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_xlabel("epoch")
        axis.set_ylabel("loss" if name == "total" else f"loss of {_NAMES.get(name, name)}")
        axis.set_title("weighted sum" if name == "total" else _NAMES.get(name, name))
    axes[0, 0].legend()
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
