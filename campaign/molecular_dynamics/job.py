"""A job of molecular dynamics and what becomes of it: plain values, JSON at process borders."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from campaign.events import FailureClass


class BadInput(ValueError):
    """The job itself cannot be run: its patch, engine or settings are unusable."""


class BadOutput(ValueError):
    """The engine ended, but what it left is not a result."""


class EngineCrash(RuntimeError):
    """The engine stopped before it had a result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One attempt at one job; the result depends on all but `attempt`, `time_limit_s` and paths."""

    job: str  # f"{patch_id:016x}"
    attempt: int
    patch_id: int
    patch_file: Path
    engine: str
    seed: int
    duration_us: float
    time_limit_s: float
    result_path: Path

    def __post_init__(self) -> None:
        if not (self.duration_us > 0 and self.time_limit_s > 0):
            raise ValueError(
                f"job {self.job}: duration_us and time_limit_s must be > 0, "
                f"got {self.duration_us} and {self.time_limit_s}"
            )
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"job {self.job}: seed must be in [0, 2^64), got {self.seed}")

    def to_json(self) -> str:
        return json.dumps({name: getattr(self, name) for name in _OF_A_SPEC}, default=str)

    @classmethod
    def from_json(cls, text: str) -> Self:
        values = json.loads(text)
        paths = {name: Path(values[name]) for name in ("patch_file", "result_path")}
        return cls(**(values | paths))


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """How one attempt ended: with a durable result, or with a failure class and a message."""

    job: str
    attempt: int
    slot: int
    wall_s: float
    failure: FailureClass | None = None
    message: str = ""
    crc32: int = 0  # of the content of the result
    frames: int = 0
    effective_frames: float = 0.0
    simulated_us: float = 0.0

    @property
    def finished(self) -> bool:
        return self.failure is None

    def to_json(self) -> str:
        return json.dumps({name: getattr(self, name) for name in _OF_A_COMPLETION})

    @classmethod
    def from_json(cls, text: str) -> Self:
        values = json.loads(text)
        return cls(**{name: values[name] for name in _OF_A_COMPLETION})


_OF_A_SPEC, _OF_A_COMPLETION = (
    tuple(field.name for field in fields(kind)) for kind in (JobSpec, Completion)
)
