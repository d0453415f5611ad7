"""What a pool of slots and its worker processes tell each other at a worker's start."""

import json
from dataclasses import dataclass
from pathlib import Path

from campaign.molecular_dynamics.settings import EnginesSection

READY = "ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSetup:
    """What a worker process is told at its start, on its command line."""

    slot: int
    engines: EnginesSection
    truth: Path | None
    workspaces: Path  # a folder for each job that needs one
    memory_limit_mb: int | None

    def to_json(self) -> str:
        return json.dumps(
            {
                "slot": self.slot,
                "engines": self.engines.model_dump(mode="json"),
                "truth": None if self.truth is None else str(self.truth),
                "workspaces": str(self.workspaces),
                "memory_limit_mb": self.memory_limit_mb,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> "WorkerSetup":
        values = json.loads(text)
        return cls(
            slot=values["slot"],
            engines=EnginesSection.model_validate(values["engines"]),
            truth=None if values["truth"] is None else Path(values["truth"]),
            workspaces=Path(values["workspaces"]),
            memory_limit_mb=values["memory_limit_mb"],
        )
