"""What a campaign's configuration may say: sections, units, ranges (DESIGN 3.8)."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from campaign.events import FailureClass
from campaign.molecular_dynamics.settings import EngineName, EnginesSection, FeedbackLimits
from campaign.molecular_dynamics.settings import HiddenTruth as HiddenTruthSection
from selector import QueuesSettings

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Index = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """A mapping with exactly the keys listed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ContinuumSection(Section):
    """The membrane: `model` is a preset of continuum, a file, or a mapping with continuum's keys.

    `attached` expects the patches from ranks started by hand, or from files already in `patches/`.
    """

    model: dict[str, Any]
    source: Literal["launched", "attached"] = "launched"
    ranks: Count = 1
    snapshots: Index | None = None  # the last one; None: as far as the model's duration reaches
    attempts: Count = 3  # ends in a row without a new snapshot between them


class EncoderSection(Section):
    """What turns patches into vectors: a folder, or the one that ships with ml.

    `train` is a configuration of `ml train metric`, carried out before the campaign starts.
    """

    path: str | None = None
    train: dict[str, Any] | None = None

    @model_validator(mode="after")
    def one_source(self) -> "EncoderSection":
        """A trained encoder has no path."""
        if self.path is not None and self.train is not None:
            raise ValueError("give encoder.path or encoder.train, not both")
        return self


class EmbeddingSection(Section):
    """Workers that embed; one call of the encoder takes `batch` patches."""

    workers: Count = 1
    batch: Count = 512
    ahead: Count = 4  # snapshots in the workers' hands at once
    use_gpu: Literal["auto", "yes", "no"] = "auto"


class KindsSection(Section):
    """The queue of each patch kind (`kind` of DESIGN 3.2)."""

    none: str = "lipid-only"
    one_ras: str = "monomers"
    one_ras_raf: str = "dimers"
    rest: str = "dimers"


class SelectionSection(Section):
    """Picks after every snapshot; `queues` is a preset or file of selector, or its settings.

    Without `kinds`, a single queue takes every kind, and several are taken for MuMMI's.
    """

    per_snapshot: Positive = 4.0
    first_snapshot: Index = 0
    queues: QueuesSettings
    kinds: KindsSection | None = None
    save_every: Count = 100  # snapshots between two files of the selector's state

    @property
    def queue_of_kind(self) -> tuple[str, str, str, str]:
        """By the number of the kind."""
        names = tuple(self.queues.queues)
        if self.kinds is None and len(names) == 1:
            return (names[0],) * 4
        kinds = self.kinds or KindsSection()
        return (kinds.none, kinds.one_ras, kinds.one_ras_raf, kinds.rest)

    @model_validator(mode="after")
    def kinds_have_queues(self) -> "SelectionSection":
        """Every kind's queue is there."""
        for name, queue in zip(KindsSection.model_fields, self.queue_of_kind, strict=True):
            if queue not in self.queues.queues:
                known = ", ".join(self.queues.queues)
                raise ValueError(f"kinds.{name} must be one of the queues {known}, got {queue!r}")
        return self


class MolecularDynamicsSection(Section):
    """Jobs: which engines in which shares, how long, in how many slots.

    `attempts` bounds the failures of a job by class; a class not listed is not bounded.
    """

    mix: Annotated[dict[EngineName, NotNegative], Field(min_length=1)] = {"brownian": 1.0}
    engines: EnginesSection = EnginesSection()
    hidden_truth: HiddenTruthSection = HiddenTruthSection()
    duration_us: Positive = 1.0
    slots: Count = 1
    time_limit_s: Positive = 3600.0
    attempts: dict[FailureClass, Count] = {
        "crash": 3,
        "timeout": 2,
        "out-of-memory": 2,
        "bad-output": 2,
        "bad-input": 1,
    }
    max_queued: Index | None = None  # jobs beyond which the membrane waits; None: never

    @model_validator(mode="after")
    def engines_are_set_up(self) -> "MolecularDynamicsSection":
        """Some engine has a share, and each engine named has its settings."""
        if sum(self.mix.values()) <= 0:
            raise ValueError("mix must give at least one engine a share above 0")
        for name in self.mix:
            self.engines.of(name)
        return self


class FeedbackSection(Section):
    """RDFs back into potentials: at every n-th snapshot, of jobs picked `lag_snapshots` before it.

    `weights` says whether a job counts as much as the patches it stands for, or like every other,
    which wastes no frames. `lockstep` holds the membrane at a boundary until its version is there,
    so that the course of a campaign depends on configuration and seed alone; `free` takes versions
    up as they come.
    """

    enabled: bool = True
    every_snapshots: Count = 5
    lag_snapshots: Index = 2
    prior_frames: Positive = 2000.0
    weights: Literal["selector", "equal"] = "selector"
    pacing: Literal["lockstep", "free"] = "lockstep"
    limits: FeedbackLimits = FeedbackLimits()


class BridgeSection(Section):
    """From ranks to the campaign; the membrane may be `credit` snapshots ahead of selection."""

    transport: Literal["auto", "ray", "spool"] = "auto"
    credit: Count = 4


class CampaignConfig(Section):
    """A whole configuration, every value present."""

    description: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    continuum: ContinuumSection
    encoder: EncoderSection = EncoderSection()
    embedding: EmbeddingSection = EmbeddingSection()
    selection: SelectionSection
    molecular_dynamics: MolecularDynamicsSection = MolecularDynamicsSection()
    feedback: FeedbackSection = FeedbackSection()
    bridge: BridgeSection = BridgeSection()
