"""The encoder of a run, kept in the run itself: `encoders/<version>/`.

A configuration names a folder, the encoder that ships with ml, or how to train one; a trained one
is made before the campaign starts, in `encoder-training/`, and an interrupted training goes on.
"""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from campaign.configuration_schema import EmbeddingSection, EncoderSection
from campaign.embedding import Encoder

if TYPE_CHECKING:
    from ml.metric.configuration import MetricConfig

TRAINING = "encoder-training"
_FILES = ("encoder.json", "weights.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlace:
    """Where a training runs: in this process, or through Ray (at an address, or one of its own)."""

    ray: bool = False
    address: str | None = None


def check_encoder(section: EncoderSection) -> None:
    """Raise ValueError or OSError where the encoder cannot be used, or its training not be read."""
    from ml.encoder import load_encoder

    if section.train is None:
        load_encoder(_source(section))
    else:
        _training(section.train)


def install_encoder(run: Path, section: EncoderSection, place: TrainingPlace | None = None) -> str:
    """Put the encoder that a configuration names into a run, trained if need be; its version.

    Raises what `check_encoder` and `ml.metric` raise.
    """
    from ml.encoder import load_encoder

    source = _source(section) if section.train is None else _trained(run, section.train, place)
    version = load_encoder(source).version
    partial = run / ".encoders.partial"
    shutil.rmtree(partial, ignore_errors=True)
    (partial / version).mkdir(parents=True)
    for name in _FILES:
        with open(source / name, "rb") as given, open(partial / version / name, "wb") as copy:
            shutil.copyfileobj(given, copy)
            copy.flush()
            os.fsync(copy.fileno())
    os.replace(partial, run / "encoders")
    return version


def encoder_folder(run: Path) -> Path:
    """Where the encoder of a run lies. Raises FileNotFoundError where the run has none."""
    folders = [path for path in (run / "encoders").glob("[!.]*") if path.is_dir()]
    if len(folders) != 1:
        raise FileNotFoundError(
            f"{run / 'encoders'} must hold one encoder, it holds {len(folders)}"
        )
    return folders[0]


def run_encoder(run: Path, device: str = "cpu", threads: int | None = 1) -> Encoder:
    """The encoder of a run, ready to encode. Raises ValueError, FileNotFoundError."""
    from ml.encoder import load_encoder

    encoder: Encoder = load_encoder(encoder_folder(run), device=device, threads=threads)
    return encoder


def device_of(section: EmbeddingSection) -> str:
    """Where this machine embeds: `cuda` where there is one and it is wanted, else `cpu`.

    Raises ValueError where a GPU is demanded and there is none.
    """
    import torch

    there = torch.cuda.is_available()
    if section.use_gpu == "yes" and not there:
        raise ValueError("embedding.use_gpu is yes, and this machine has no usable GPU")
    return "cuda" if there and section.use_gpu != "no" else "cpu"


def _source(section: EncoderSection) -> Path:
    from ml.encoder import SHIPPED

    return SHIPPED if section.path is None else Path(section.path)


def _training(tree: dict[str, Any]) -> "MetricConfig":
    """The training that `encoder.train` describes, as `ml train metric` would read it."""
    from ml.metric.configuration import read_metric_config

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "encoder.train.yaml"
        file.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
        try:
            return read_metric_config(file)
        except ValueError as error:
            raise ValueError(str(error).replace(str(file), "encoder.train")) from None


def _trained(run: Path, tree: dict[str, Any], place: TrainingPlace | None) -> Path:
    from ml.metric.training_run import train_metric

    where = place or TrainingPlace()
    return train_metric(_training(tree), run / TRAINING, ray=where.ray, address=where.address)
