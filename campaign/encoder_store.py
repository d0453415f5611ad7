"""The encoder of a run, kept in the run itself: `encoders/<version>/`."""

import os
import shutil
from pathlib import Path

from campaign.configuration_schema import EncoderSection
from campaign.embedding import Encoder

_FILES = ("encoder.json", "weights.safetensors")


def install_encoder(run: Path, section: EncoderSection) -> str:
    """Copy the encoder that a configuration names into a run; its version.

    Raises ValueError or OSError where there is none, or it cannot be used.
    """
    from ml.encoder import SHIPPED, load_encoder

    source = SHIPPED if section.path is None else Path(section.path)
    version = load_encoder(source).version
    final = run / "encoders" / version
    if not final.exists():
        partial = final.with_name(f".{version}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name in _FILES:
            with open(source / name, "rb") as given, open(partial / name, "wb") as copy:
                shutil.copyfileobj(given, copy)
                copy.flush()
                os.fsync(copy.fileno())
        os.replace(partial, final)
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
