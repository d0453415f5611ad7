"""Why a job exists: job, selection, patch, snapshot, parameter version, the jobs behind that."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from campaign.events import FeedbackMade, patch_of, slot_of, snapshot_of
from campaign.run_folder import read_state
from campaign.state import CampaignState, Job

_SHOWN_JOBS = 6


class LineageError(ValueError):
    """No such job in a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Where one job comes from."""

    job: Job
    selected_after: int  # snapshot whose selection picked it
    patch_time_us: float
    parameter_version: int  # the membrane was under when the patch was cut
    behind: tuple[FeedbackMade, ...]  # versions up to that one, oldest first


def lineage_of(state: CampaignState, name: str) -> Lineage:
    """The lineage of a job. Raises LineageError where it was not selected."""
    job = state.jobs.get(name)
    if job is None:
        raise LineageError(f"no job {name!r} was selected; a job is the patch's id in hexadecimal")
    batch = state.batches[snapshot_of(job.patch_id)]
    return Lineage(
        job=job,
        selected_after=state.snapshot_picked(job),
        patch_time_us=batch.time_us,
        parameter_version=batch.parameter_version,
        behind=tuple(state.versions[: batch.parameter_version]),
    )


def lineage_lines(run: Path, name: str) -> list[str]:
    """The lineage of a job of a run, a line a step. Raises LineageError, RunFolderError."""
    _, state, _ = read_state(run)
    return described(lineage_of(state, name.strip().lower().removeprefix("0x").zfill(16)))


def described(lineage: Lineage) -> list[str]:
    """A line for each step back."""
    job = lineage.job
    patch = patch_of(job.job)
    lines = [
        f"job {job.job}: {job.status.name.lower()}, engine {job.engine}, attempt {job.attempt}"
        + (f", {job.frames} frames of {job.simulated_us:g} µs" if job.frames else "")
        + (f" ({job.message})" if job.message else "")
        + (f"; counted from parameter version {job.version} on" if job.version else ""),
        f"selection {job.ordinal + 1} of the campaign, from queue {job.queue}, after snapshot"
        f" {lineage.selected_after}: importance {job.importance:.6g}",
        f"patch {patch} = slot {slot_of(patch)} of snapshot {snapshot_of(patch)},"
        f" cut at {lineage.patch_time_us:g} µs",
    ]
    if not lineage.behind:
        return [*lines, "membrane under the initial potentials (parameter version 0)"]
    for made in reversed(lineage.behind):
        sources = Counter(snapshot_of(patch_of(name)) for name in made.jobs)
        shown = ", ".join(made.jobs[:_SHOWN_JOBS])
        more = len(made.jobs) - _SHOWN_JOBS
        lines.append(
            f"parameter version {made.version}, taken up at snapshot {made.boundary_snapshot}:"
            f" {len(made.jobs)} new jobs from {len(sources)} snapshots: {shown or 'none'}"
            + (f" and {more} more" if more > 0 else "")
        )
    return lines
