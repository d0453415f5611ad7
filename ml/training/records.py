"""One record an epoch: losses, learning rate, metrics, speed; `metrics.jsonl` holds them all."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from ml.atomic_file import write_atomically
from ml.training.settings import EarlyStopping


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """Losses are means over the epoch's samples; "total" is what was minimised.

    `waiting_share` is the share of the time in which the loop had no data to work on.
    """

    epoch: int  # from 0
    learning_rate: float
    training: dict[str, float]
    validation: dict[str, float]
    metrics: dict[str, float]
    seconds: float
    samples_per_s: float
    waiting_share: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> Self:
        return cls(**values)

    def outcome(self) -> tuple[object, ...]:
        """What two runs of one seed have in common: everything but the speed."""
        return self.epoch, self.learning_rate, self.training, self.validation, self.metrics

    def line(self, epochs: int) -> str:
        """A log line."""
        parts = " ".join(f"{k} {v:.4g}" for k, v in self.validation.items() if k != "total")
        others = "".join(f", {name} {value:.4g}" for name, value in self.metrics.items())
        return (
            f"epoch {self.epoch + 1}/{epochs}: loss {self.training['total']:.5g},"
            f" validation {self.validation['total']:.5g} ({parts}){others},"
            f" rate {self.learning_rate:g}, {self.samples_per_s:,.0f} samples/s,"
            f" waited for data {self.waiting_share:.1%}"
        )


def best_epoch(records: Sequence[EpochRecord]) -> int:
    """Position of the lowest validation loss, the earliest of equals."""
    return min(range(len(records)), key=lambda index: records[index].validation["total"])


def has_stalled(records: Sequence[EpochRecord], stopping: EarlyStopping | None) -> bool:
    """Whether the last `patience` epochs brought no lower validation loss."""
    if stopping is None or len(records) <= stopping.patience:
        return False
    losses = [record.validation["total"] for record in records]
    earlier, latest = losses[: -stopping.patience], losses[-stopping.patience :]
    return min(latest) >= min(earlier) - stopping.minimum_change


def write_records(path: Path, records: Sequence[EpochRecord]) -> None:
    """Write `metrics.jsonl` whole."""
    lines = (json.dumps(record.as_json(), allow_nan=False) + "\n" for record in records)
    write_atomically(path, "".join(lines))


def read_records(path: Path) -> tuple[EpochRecord, ...]:
    """The records of a `metrics.jsonl`; none where there is no such file yet."""
    if not path.is_file():
        return ()
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(EpochRecord.of_json(json.loads(line)) for line in lines)
