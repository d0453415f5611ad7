"""What the coordinator decides by: the part of a configuration that the pure core needs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Pacing = Literal["lockstep", "free"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Checked at the edge by `configuration.py`; see there for what each value means."""

    seed: int = 0
    last_snapshot: int
    launch_continuum: bool = True
    continuum_attempts: int = 3  # failures in a row without a new batch between them
    embed_ahead: int = 4  # batches asked of the embedders at once
    per_snapshot: float = 1.0
    first_snapshot: int = 0
    mix: Mapping[str, float] = field(default_factory=lambda: {"brownian": 1.0})
    duration_us: float = 1.0
    time_limit_s: float = 3600.0
    attempts: Mapping[str, int] = field(default_factory=dict)  # by failure class; absent: no limit
    max_queued: int | None = None  # jobs beyond which the membrane waits
    feedback: bool = True
    every_snapshots: int = 1
    lag_snapshots: int = 0
    pacing: Pacing = "lockstep"
    credit: int = 4  # snapshots the membrane may be ahead of the selection


def picks_at(rules: Rules, snapshot: int) -> int:
    """How many patches are picked after a snapshot; the running total keeps to `per_snapshot`."""
    n = snapshot - rules.first_snapshot
    if n < 0:
        return 0
    return math.floor((n + 1) * rules.per_snapshot) - math.floor(n * rules.per_snapshot)


def boundary_of(rules: Rules, version: int) -> int:
    """The snapshot at whose boundary a parameter version (from 1) is due.

    The first is the earliest multiple of `every_snapshots` that can have jobs behind it.
    """
    every = rules.every_snapshots
    first = max(1, math.ceil((rules.first_snapshot + rules.lag_snapshots) / every))
    return (first + version - 1) * every


def version_behind(rules: Rules, snapshot: int) -> int | None:
    """The version made from the selections up to just this snapshot; None if there is none."""
    if not rules.feedback:
        return None
    boundary = snapshot + rules.lag_snapshots
    steps, rest = divmod(boundary - boundary_of(rules, 1), rules.every_snapshots)
    if rest or steps < 0:
        return None
    return steps + 1
