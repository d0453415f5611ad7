"""Settings of a set of candidate queues, read from YAML; the published allocations are presets."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from selector.farthest_point import EvictionPolicy

STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
Share = Annotated[float, Field(ge=0, le=1)]


class QueueSettingsError(ValueError):
    """Queue settings that cannot be read or are not allowed."""


class QueueSettings(BaseModel):
    """One queue."""

    model_config = STRICT
    share: Share  # of all selections


class QueuesSettings(BaseModel):
    """All queues of a campaign."""

    model_config = STRICT
    queues: dict[str, QueueSettings]
    capacity: int = Field(default=35_000, ge=1)  # candidates per queue
    k: int = Field(default=10, ge=1)
    warm_up: int = Field(default=10, ge=0)  # random selections per queue
    minimum_candidates: int = Field(default=0, ge=0)  # in a queue before its first selection
    eviction: EvictionPolicy = "lowest"
    shared_selections: bool = False  # every queue keeps away from every queue's selections

    @model_validator(mode="after")
    def shares_add_up(self) -> "QueuesSettings":
        """The shares of all queues are one."""
        total = sum(queue.share for queue in self.queues.values())
        if abs(total - 1) > 1e-9:
            raise ValueError(f"the shares of the queues must add up to 1, they add up to {total}")
        return self


def preset_names() -> list[str]:
    """The names of the presets that ship with the package."""
    folder = files("selector") / "presets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir())


def read_queues_settings(source: str) -> QueuesSettings:
    """Settings from a YAML file or a preset's name. Raises QueueSettingsError."""
    if source in preset_names():
        text = (files("selector") / "presets" / f"{source}.yaml").read_text()
    elif Path(source).is_file():
        text = Path(source).read_text()
    else:
        known = ", ".join(preset_names())
        raise QueueSettingsError(f"{source} is neither a file nor one of the presets {known}")
    try:
        return QueuesSettings.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, ValidationError) as error:
        raise QueueSettingsError(f"{source}: {error}") from None
