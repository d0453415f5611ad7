"""Where a campaign stands: a pure picture of its state, and of a run on disk."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from campaign.heartbeat import Heartbeat, read_heartbeat
from campaign.rules import boundary_of
from campaign.run_folder import read_state
from campaign.run_lock import Holder, holder
from campaign.state import CampaignState


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignStatus:
    """Counts that a view or a program may show; a function of the state alone."""

    phase: str  # opening, running, draining, stopping, or the reason it ended
    shell: str
    incarnation: int
    last_snapshot: int  # where the campaign ends
    ingested: int  # snapshots behind each gate
    embedded: int
    selected: int
    settled: int
    permitted: int  # snapshot, -1 before the first
    time_us: float  # of the last ingested snapshot
    continuum: int  # incarnation of the ranks
    continuum_runs: bool
    continuum_message: str
    patches: dict[str, int]
    jobs: dict[str, int]
    jobs_by_engine: dict[str, int]
    picks_by_queue: dict[str, int]
    failures: dict[str, int]  # by class, of all attempts
    mix: dict[str, float]
    version: int
    next_version_at: int | None  # snapshot
    pending_feedback: int
    cordoned: dict[int, str]
    md_time_us: float

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen without a `resume`."""
        return self.phase not in ("opening", "running", "draining", "stopping")


def status_of(state: CampaignState) -> CampaignStatus:
    """The picture of a state."""
    failures: Counter[str] = Counter()
    for job in state.order:
        failures.update(job.failures)
    return CampaignStatus(
        phase=_phase(state),
        shell=state.shell.shell if state.shell else "",
        incarnation=state.shell.incarnation if state.shell else 0,
        last_snapshot=state.rules.last_snapshot,
        ingested=state.ingested,
        embedded=state.embedded,
        selected=state.selected,
        settled=state.settled,
        permitted=state.permitted,
        time_us=state.batches[-1].time_us if state.batches else 0.0,
        continuum=state.continuum,
        continuum_runs=state.continuum_runs,
        continuum_message=state.continuum_message,
        patches={
            "ingested": state.patches_ingested,
            "embedded": state.patches_embedded,
            "quarantined": state.patches_quarantined,
            "candidates": state.candidates,
            "selected": len(state.order),
            "discarded": state.patches_discarded,
        },
        jobs={
            "queued": state.queued,
            "running": len(state.running),
            "done": state.done,
            "abandoned": state.abandoned,
        },
        jobs_by_engine=dict(Counter(job.engine for job in state.order)),
        picks_by_queue=dict(Counter(job.queue for job in state.order)),
        failures=dict(failures),
        mix=dict(state.mix.shares),
        version=state.version,
        next_version_at=_next_boundary(state),
        pending_feedback=state.pending_feedback,
        cordoned=dict(state.cordoned),
        md_time_us=sum(job.simulated_us for job in state.order),
    )


def _phase(state: CampaignState) -> str:
    if state.finished is not None:
        return state.finished
    if state.shell is None:
        return "opening"
    if state.stopping:
        return "stopping"
    return "draining" if state.draining else "running"


def _next_boundary(state: CampaignState) -> int | None:
    if not state.rules.feedback:
        return None
    boundary = boundary_of(state.rules, state.version + 1)
    return boundary if boundary <= state.rules.last_snapshot else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """A run on disk, live or not."""

    run: str
    status: CampaignStatus
    live: Holder | None  # the process that works on it
    records: int
    torn_bytes: int
    opened_s: float  # since the epoch; 0 before the first event
    last_event_s: float
    heartbeat: Heartbeat | None  # of the ranks

    def as_json(self) -> str:
        """One JSON object."""
        tree: dict[str, Any] = asdict(self)
        return json.dumps(tree, indent=1)


def read_status(run: Path) -> RunStatus:
    """Where a run stands; works with no cluster up. Raises RunFolderError, JournalError."""
    _, state, contents = read_state(run)
    records = contents.records
    return RunStatus(
        run=str(run),
        status=status_of(state),
        live=holder(run / "journal"),
        records=len(records),
        torn_bytes=contents.torn_bytes,
        opened_s=records[0].t_wall if records else 0.0,
        last_event_s=records[-1].t_wall if records else 0.0,
        heartbeat=read_heartbeat(run),
    )


def lines(found: RunStatus) -> Iterator[str]:
    """For people."""
    status = found.status
    who = f"process {found.live.pid} on {found.live.host}" if found.live else "nobody works on it"
    yield f"{found.run}: {status.phase} ({who})"
    if status.phase == "running" and found.live is None:
        yield f"  its coordinator is gone: continue with `campaign resume {found.run}`"
    yield (
        f"  membrane   {status.time_us:g} µs, snapshot {status.ingested - 1} of"
        f" {status.last_snapshot}, {_ranks(found)}"
    )
    yield "  patches    " + _counts(status.patches)
    yield "  picks      " + (_counts(status.picks_by_queue) or "none yet")
    yield "  jobs       " + _counts(status.jobs) + f"; {status.md_time_us:g} µs simulated"
    yield f"  engines    {_counts(status.jobs_by_engine) or 'none yet'}; mix {_mix(status.mix)}"
    if status.failures:
        yield "  failures   " + _counts(status.failures)
    for slot, reason in status.cordoned.items():
        yield f"  cordoned   slot {slot}: {reason}"
    due = (
        "" if status.next_version_at is None else f", the next at snapshot {status.next_version_at}"
    )
    yield (
        f"  parameters version {status.version}{due}; {status.pending_feedback} results to come in"
    )
    if found.records:
        age = max(0.0, time.time() - found.last_event_s)
        torn = f", {found.torn_bytes} bytes torn" if found.torn_bytes else ""
        yield f"  journal    {found.records} records, the last {age:.0f} s ago{torn}"


def _ranks(found: RunStatus) -> str:
    status, beat = found.status, found.heartbeat
    if not status.continuum_runs or found.live is None:
        return "ranks stopped" + (
            f" ({status.continuum_message})"
            if status.continuum_message and not status.ended
            else ""
        )
    doing = f", {beat.phase} at {beat.time_us:g} µs" if beat else ""
    return f"ranks of incarnation {status.continuum} run{doing}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items())


def _mix(mix: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:g}" for name, share in mix.items())
