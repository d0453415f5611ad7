"""Engines: from a patch, a seed and a duration to counts of lipids around its protein (DESIGN 3.5).

A result depends on these three, the engine's settings and, for the mock engines, the hidden truth.
"""

from pathlib import Path
from typing import Protocol

from campaign.molecular_dynamics.brownian import BrownianEngine, steps_per_frame
from campaign.molecular_dynamics.command import CommandEngine, check_command
from campaign.molecular_dynamics.hidden_truth import TruthTables
from campaign.molecular_dynamics.patch import Patch
from campaign.molecular_dynamics.poisson import PoissonEngine
from campaign.molecular_dynamics.results import MdResult
from campaign.molecular_dynamics.settings import (
    BrownianSettings,
    CommandSettings,
    EngineSettings,
    PoissonSettings,
)

__all__ = ["Engine", "MdResult", "Patch", "check_engine", "get_engine"]


class Engine(Protocol):
    """What a slot runs."""

    def run(self, patch: Patch, seed: int, duration_us: float, workspace: Path) -> MdResult:
        """Simulate a patch.

        `workspace` is a folder of this job alone, made by the engine if it needs one; what a killed
        run left there may be continued. Raises BadInput, BadOutput or EngineCrash.
        """
        ...


def get_engine(settings: EngineSettings, truth: TruthTables | None) -> Engine:
    """The engine of some settings; ValueError where it cannot run with them on this machine."""
    if isinstance(settings, CommandSettings):
        return CommandEngine(settings)
    if truth is None:
        raise ValueError("a mock engine needs the tables of a hidden truth, got none")
    if isinstance(settings, PoissonSettings):
        return PoissonEngine(settings, truth)
    return BrownianEngine(settings, truth)


def check_engine(settings: EngineSettings) -> None:
    """ValueError where an engine cannot run on this machine, such as for want of its program."""
    if isinstance(settings, CommandSettings):
        check_command(settings)
    if isinstance(settings, BrownianSettings):
        steps_per_frame(settings)
