"""What happens in a campaign: frozen values that survive a round trip through JSON.

The journal is a sequence of these and the state of a campaign is a fold over them. Wall time is in
the journal's envelope, never here: nothing that decides may read a clock.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, get_args

FailureClass = Literal["crash", "timeout", "out-of-memory", "bad-output", "bad-input", "node-lost"]
FAILURE_CLASSES: tuple[str, ...] = get_args(FailureClass)
SLOT_BITS = 20  # patch_id = snapshot_index << 20 | slot (DESIGN 3.2)


class EventError(ValueError):
    """A record that is no event of this version."""


class Pick(NamedTuple):
    """One selected patch; `importance` is the selector's, before the patch was taken."""

    patch_id: int
    queue: str
    importance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignOpened:
    """The first event: what the campaign is, and by which program."""

    config_hash: str
    code_version: str
    encoder_version: str
    incarnation: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellStarted:
    """A coordinator began or resumed; running jobs that are not in `surviving` are lost.

    `continuum` is the incarnation of a continuum that outlived the previous coordinator, 0 if none.
    """

    shell: str
    pid: int
    incarnation: int
    surviving: tuple[str, ...] = ()
    continuum: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuumStarted:
    """Ranks were started; they continue after `from_snapshot` (-1: from the beginning)."""

    incarnation: int
    from_snapshot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuumEnded:
    """Ranks ended; `finished` if they reached the last snapshot."""

    incarnation: int
    exit_code: int
    finished: bool
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchIngested:
    """The patches of a snapshot are durable in `patches/`; the continuum may forget them."""

    snapshot_index: int
    incarnation: int  # of the continuum that sent it
    time_us: float
    count: int
    controls: int
    crc32: int  # of the content: `spool.batch_crc32`
    parameter_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEmbedded:
    """The embeddings of a snapshot are durable; patches at `quarantined` slots have none."""

    snapshot_index: int
    encoder_version: str
    crc32: int  # of the content: `embedding_files.embedding_crc32`
    quarantined: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """A snapshot's embeddings entered the selector, `discarded` left it, `patches` were picked.

    `candidates` is how many the selector held afterwards, by its own count.
    """

    snapshot_index: int
    patches: tuple[Pick, ...]
    discarded: int
    candidates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStarted:
    """An attempt at a job began in a slot."""

    job: str
    attempt: int  # counts from 1
    slot: int
    engine: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFinished:
    """The result of a job is durable in `md/`."""

    job: str
    attempt: int
    crc32: int
    frames: int
    simulated_us: float
    wall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailed:
    """An attempt failed; whether there is another one is the plan's decision."""

    job: str
    attempt: int
    failure: FailureClass
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAbandoned:
    """A job has used up a budget of failures; its patch is quarantined."""

    job: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotCordoned:
    """A slot that kept failing takes no more jobs from this incarnation of the campaign."""

    slot: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackMade:
    """A parameter version is durable; `jobs` are those it is the first to use."""

    version: int
    boundary_snapshot: int
    jobs: tuple[str, ...]
    crc32: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Permitted:
    """The membrane may pass the boundary of this snapshot."""

    snapshot_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlReceived:
    """A command from outside: `drain`, `stop`, or `set` with a key and a value.

    One that cannot be obeyed is recorded as `refused`, with the reason.
    """

    number: int
    command: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignFinished:
    """The campaign ended: complete, drained, stopped, or `failed: ...`."""

    reason: str


Event = (
    CampaignOpened
    | ShellStarted
    | ContinuumStarted
    | ContinuumEnded
    | BatchIngested
    | BatchEmbedded
    | Selected
    | JobStarted
    | JobFinished
    | JobFailed
    | JobAbandoned
    | SlotCordoned
    | FeedbackMade
    | Permitted
    | ControlReceived
    | CampaignFinished
)
KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Event)}


def job_of(patch_id: int) -> str:
    """The job of a patch; a patch has at most one."""
    return f"{patch_id:016x}"


def patch_of(job: str) -> int:
    """The patch of a job. Raises ValueError for anything that is no job."""
    if len(job) != 16:
        raise ValueError(f"a job is 16 hexadecimal digits, got {job!r}")
    return int(job, 16)


def snapshot_of(patch_id: int) -> int:
    """The snapshot a patch was cut from."""
    return patch_id >> SLOT_BITS


def slot_of(patch_id: int) -> int:
    """The slot of a patch in its snapshot."""
    return patch_id & ((1 << SLOT_BITS) - 1)


def to_json(event: Event) -> dict[str, Any]:
    """A JSON object of the event's kind and fields."""
    tree: dict[str, Any] = {"kind": type(event).__name__}
    for name in _NAMES[type(event)]:
        tree[name] = getattr(event, name)
    if isinstance(event, Selected):  # JSON has no infinity, which the first pick's importance is
        tree["patches"] = [
            (patch, queue, rank if math.isfinite(rank) else None)
            for patch, queue, rank in event.patches
        ]
    return tree


def from_json(tree: dict[str, Any]) -> Event:
    """The event of an object that `to_json` made. Raises EventError for any other."""
    kind = tree.get("kind")
    made = KINDS.get(kind) if isinstance(kind, str) else None
    if made is None:
        raise EventError(f"{kind!r} is no kind of event of this version")
    values = tree.copy()
    del values["kind"]
    values.pop("t", None)  # of the journal's envelope
    try:
        for name, build in _TUPLES.get(made, ()):
            if name in values:
                values[name] = build(values[name])
        event: Event = made(**values)
    except (TypeError, ValueError) as error:
        raise EventError(f"not a whole {kind}: {error}") from None
    return event


def _picks(values: list[list[Any]]) -> tuple[Pick, ...]:
    return tuple(
        Pick(int(patch), str(queue), math.inf if rank is None else float(rank))
        for patch, queue, rank in values
    )


_NAMES = {kind: tuple(field.name for field in fields(kind)) for kind in KINDS.values()}
_TUPLES: dict[type[Any], tuple[tuple[str, Callable[[Any], tuple[Any, ...]]], ...]] = {
    ShellStarted: (("surviving", tuple),),
    BatchEmbedded: (("quarantined", tuple),),
    Selected: (("patches", _picks),),
    FeedbackMade: (("jobs", tuple),),
    ControlReceived: (("arguments", tuple),),
}
