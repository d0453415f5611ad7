"""The sign of life of a continuum: RUN/control/heartbeat.json, by rank 0, never journaled."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from continuum.atomic_file import write_atomically

Phase = Literal["starting", "stepping", "sending", "waiting"]
_EVERY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """Where a continuum is, and since when it has not moved."""

    incarnation: int
    phase: Phase
    snapshot_index: int  # the next boundary
    step: int
    time_us: float
    beaten_s: float  # seconds since the epoch


class HeartbeatWriter:
    """Writes at most one beat a second, and every change of phase."""

    def __init__(self, run: Path, incarnation: int) -> None:
        self._path = run / "control" / "heartbeat.json"
        self._incarnation = incarnation
        self._phase: Phase = "starting"
        self._snapshot, self._step, self._time_us = 0, 0, 0.0
        self._written_s = -_EVERY_S
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self.beat("starting")

    def beat(
        self,
        phase: Phase,
        snapshot_index: int | None = None,
        step: int | None = None,
        time_us: float | None = None,
    ) -> None:
        """Say what rank 0 is doing; what is left out stays as it was."""
        changed, self._phase = phase != self._phase, phase
        self._snapshot = self._snapshot if snapshot_index is None else snapshot_index
        self._step = self._step if step is None else step
        self._time_us = self._time_us if time_us is None else time_us
        now_s = time.monotonic()
        if not changed and now_s - self._written_s < _EVERY_S:
            return
        self._written_s = now_s
        beat = Heartbeat(
            incarnation=self._incarnation,
            phase=self._phase,
            snapshot_index=self._snapshot,
            step=self._step,
            time_us=self._time_us,
            beaten_s=time.time(),
        )
        write_atomically(self._path, json.dumps(asdict(beat)) + "\n")


def read_heartbeat(run: Path) -> Heartbeat | None:
    """The last beat; None where there is none that this version can read."""
    try:
        return Heartbeat(**json.loads((run / "control" / "heartbeat.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
