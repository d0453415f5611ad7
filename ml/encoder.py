"""Encoders on disk and at work: densities of patches in, embeddings out (DESIGN 3.4).

A folder holds `encoder.json` (network, channels, standardisation, what it was trained on and how
well it does) and `weights.safetensors`, whose SHA-256 the former names.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor, nn

from ml.atomic_file import atomic_folder, write_atomically
from ml.metric.deployment import DeployedNetwork, deployed
from ml.metric.networks import NetworkSpec, build_network
from ml.patch_set import CHANNELS, NODES, Standardisation

SCHEMA: Literal["bilayer/encoder/1"] = "bilayer/encoder/1"
SHIPPED = Path(__file__).parent / "shipped" / "metric"
# Patches at once: on a CPU what the caches hold, on a GPU what fills it.
_AT_ONCE = {"cpu": 64, "cuda": 4096}


class EncoderError(ValueError):
    """An encoder that cannot be used, or densities that it cannot encode."""


class _Moments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    mean: tuple[float, ...]
    std: tuple[float, ...]


class EncoderInfo(BaseModel):
    """What `encoder.json` holds."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    schema_: Literal["bilayer/encoder/1"] = Field(default=SCHEMA, alias="schema")
    version: str
    network: NetworkSpec
    channels: tuple[str, ...]
    standardisation: _Moments
    training: dict[str, Any]
    metrics: dict[str, Any]
    weights_sha256: str

    @model_validator(mode="after")
    def _whole(self) -> "EncoderInfo":
        if self.channels != CHANNELS:
            raise ValueError(f"channels must be {list(CHANNELS)}, got {list(self.channels)}")
        for name in ("mean", "std"):
            if len(getattr(self.standardisation, name)) != len(CHANNELS):
                raise ValueError(f"standardisation.{name} must have {len(CHANNELS)} values")
        if not min(self.standardisation.std) > 0:
            raise ValueError("standardisation.std must be > 0")
        return self


@dataclass(frozen=True, slots=True, eq=False)
class Encoder:
    """A trained metric at work: distances between its embeddings mean dissimilarity."""

    info: EncoderInfo
    network: DeployedNetwork
    device: torch.device

    @property
    def dimension(self) -> int:
        return self.info.network.dimension

    @property
    def version(self) -> str:
        """Twelve digits of a hash over network, standardisation and weights."""
        return self.info.version

    def encode(self, density: NDArray[np.floating]) -> NDArray[np.float32]:
        """Densities (N, 14, 37, 37) nm⁻², float32 or float16, to embeddings (N, d).

        Raises EncoderError for another shape or type, or a density that is not finite.
        """
        _require_patches(density)
        at_once = _AT_ONCE[self.device.type]
        embedding = np.empty((len(density), self.dimension), np.float32)
        for first in range(0, len(density), at_once):
            block = np.ascontiguousarray(density[first : first + at_once])
            images = torch.from_numpy(block if block.flags.writeable else block.copy())
            z = self.embed(images.to(self.device).float(), first)
            embedding[first : first + len(block)] = z.cpu().numpy()
        return embedding

    def embed(self, density: Tensor, first: int = 0) -> Tensor:
        """The same for one float32 tensor on the encoder's device; `first` numbers its patches.

        Raises EncoderError for a density that is not finite.
        """
        if not torch.isfinite(density.sum()):
            _refuse_density(density, first)
        z: Tensor = self.network(density)
        return z


def save_encoder(
    folder: Path | str,
    network: nn.Module,
    spec: NetworkSpec,
    standardisation: Standardisation,
    training: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> None:
    """Write an encoder, whole or not at all, in place of any former one.

    `training` says what it learned from (data fingerprint, patches, configuration hash, command),
    `metrics` how well it does. Raises EncoderError if these are not JSON or a weight is not finite.
    """
    folder = Path(folder)
    state = {
        name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
    }
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise EncoderError(f"weights {name} of the encoder {folder} must be finite")
    weights = safetensors.torch.save(state)
    weights_sha256 = hashlib.sha256(weights).hexdigest()
    moments = _Moments(
        mean=tuple(standardisation.mean.tolist()), std=tuple(standardisation.std.tolist())
    )
    for name, told in (("training", training), ("metrics", metrics)):
        try:
            json.dumps(told, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise EncoderError(f"{name} of the encoder {folder} must be JSON: {error}") from error
    info = EncoderInfo(
        version=_version(spec.model_dump(mode="json"), moments, weights_sha256),
        network=spec,
        channels=CHANNELS,
        standardisation=moments,
        training=dict(training),
        metrics=dict(metrics),
        weights_sha256=weights_sha256,
    )
    with atomic_folder(folder) as temporary:
        write_atomically(temporary / "weights.safetensors", weights)
        text = json.dumps(info.model_dump(mode="json", by_alias=True), indent=2, allow_nan=False)
        write_atomically(temporary / "encoder.json", text + "\n")


def load_encoder(
    folder: Path | str | None = None, device: str = "cpu", threads: int | None = None
) -> Encoder:
    """The encoder in `folder`, by default the metric shipped with the package.

    `threads`, if given, becomes the number of threads of every torch operation in this process.
    Raises EncoderError if it is missing, damaged, of another schema or channels, or its weights are
    not those it was saved with.
    """
    if device.partition(":")[0] not in _AT_ONCE or (
        device != "cpu" and not torch.cuda.is_available()
    ):
        raise EncoderError(f"device must be cpu, or cuda where there is one, got {device!r}")
    where = torch.device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    folder = SHIPPED if folder is None else Path(folder)
    info = read_info(folder)
    network = trained_network(folder, info)
    moments = info.standardisation
    standardisation = Standardisation(
        mean=np.array(moments.mean, np.float32), std=np.array(moments.std, np.float32)
    )
    return Encoder(info, deployed(network, standardisation).to(where), where)


def read_info(folder: Path) -> EncoderInfo:
    """The checked `encoder.json` of a folder. Raises EncoderError."""
    path = folder / "encoder.json"
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise EncoderError(f"{folder} is not an encoder: {error}") from error
    except ValueError as error:
        raise EncoderError(f"{path} is not JSON: {error}") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise EncoderError(f"the schema of {path} must be {SCHEMA!r}, got {schema!r}")
    try:
        info = EncoderInfo.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise EncoderError(f"{path}: {where + ': ' if where else ''}{problem['msg']}") from error
    if info.version != _version(content["network"], info.standardisation, info.weights_sha256):
        raise EncoderError(
            f"the version in {path} does not follow from its network, standardisation and "
            "weights_sha256: one of them was changed"
        )
    return info


def trained_network(folder: Path, info: EncoderInfo) -> nn.Module:
    """The network as it was trained, in evaluation mode. Raises EncoderError."""
    path = folder / "weights.safetensors"
    try:
        weights = path.read_bytes()
    except OSError as error:
        raise EncoderError(f"{folder} is not an encoder: {error}") from error
    found = hashlib.sha256(weights).hexdigest()
    if found != info.weights_sha256:
        raise EncoderError(
            f"the SHA-256 of {path} must be {info.weights_sha256}, it is {found}: "
            "these are not the weights that were saved"
        )
    network = build_network(info.network, seed=0)
    try:
        network.load_state_dict(safetensors.torch.load(weights))
    except (RuntimeError, safetensors.SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise EncoderError(f"{path} does not fit its network: {reason}") from error
    return network.eval()


def _version(network: Mapping[str, Any], moments: _Moments, weights_sha256: str) -> str:
    """Of the network as it is written, which stays when a later spec knows more keys."""
    spec = json.dumps(network, separators=(",", ":"))
    parts = (spec, moments.model_dump_json(), weights_sha256)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _require_patches(density: NDArray[np.floating]) -> None:
    shape = (len(CHANNELS), NODES, NODES)
    if density.ndim != 4 or density.shape[1:] != shape:
        raise EncoderError(
            f"densities must be (N, {', '.join(map(str, shape))}), got {density.shape}"
        )
    if density.dtype not in (np.float32, np.float16):
        raise EncoderError(f"densities must be float32 or float16, got {density.dtype}")


def _refuse_density(density: Tensor, first: int) -> None:
    found = torch.argwhere(~torch.isfinite(density))
    if len(found) == 0:
        raise EncoderError("densities must be in nm⁻², their sum overflows")
    patch, channel, row, column = (int(i) for i in found[0])
    raise EncoderError(
        f"densities must be finite, patch {first + patch} has "
        f"{float(density[patch, channel, row, column])} nm⁻² of {CHANNELS[channel]} at "
        f"node ({row}, {column})"
    )
