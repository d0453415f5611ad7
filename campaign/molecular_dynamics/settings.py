"""What a configuration may say about molecular dynamics (DESIGN 3.5, membrane-physics 7.7)."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]

EngineName = Literal["poisson", "brownian", "command"]
ENGINE_NAMES: tuple[EngineName, ...] = ("poisson", "brownian", "command")


class MdSection(BaseModel):
    """A mapping with exactly the keys listed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class HiddenTruth(MdSection):
    """The force field of the mock engines: the continuum's model at another strength."""

    strength: float = 1.2


class PoissonSettings(MdSection):
    """Counts drawn at once, without a trajectory; 2 frames per µs are independent (4 and 7.7)."""

    effective_frames_per_us: Positive = 2.0


class BrownianSettings(MdSection):
    """Explicit lipids of the inner leaflet as Brownian particles."""

    time_step_us: Positive = 0.004
    frame_interval_us: Positive = 0.02
    field_spacing_nm: Annotated[float, Field(gt=0, le=0.25)] = 0.1
    # simulated time between two checkpoints of a job, which a killed job resumes from
    checkpoint_interval_us: Positive = 20.0


class CommandSettings(MdSection):
    """An external program, started without a shell.

    In `argv`, {patch} and {output} stand for paths, {seed}, {duration_us} and {workspace} for their
    values; {python} for the running interpreter.
    """

    argv: Annotated[list[str], Field(min_length=1)]


EngineSettings = PoissonSettings | BrownianSettings | CommandSettings


class EnginesSection(MdSection):
    """Settings of every engine; `command` has none until a program is named."""

    poisson: PoissonSettings = PoissonSettings()
    brownian: BrownianSettings = BrownianSettings()
    command: CommandSettings | None = None

    def of(self, name: str) -> EngineSettings:
        """Settings of one engine; ValueError where it is unknown or not set up."""
        if name not in ENGINE_NAMES:
            raise ValueError(f"engine must be one of {', '.join(ENGINE_NAMES)}, got {name!r}")
        settings: EngineSettings | None = getattr(self, name)
        if settings is None:
            raise ValueError(
                f"the engine {name!r} needs its program: set molecular_dynamics.engines."
                f"{name}.argv, which is not given"
            )
        return settings


class FeedbackLimits(MdSection):
    """What keeps noisy counts from making wild potentials (membrane-physics 7.7)."""

    smoothing_nm: Positive = 0.3
    taper_from_nm: Positive = 8.0
    taper_to_nm: Positive = 11.0
    least_g: Positive = 0.02
    largest_u_kt: Positive = 6.0
    least_counts: NotNegative = 200.0
    counted_within_nm: Positive = 3.0
    largest_change_kt: Positive = 0.3
