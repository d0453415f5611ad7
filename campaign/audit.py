"""The conservation laws of patches and jobs (DESIGN 4), checked against what is on disk.

The journal is folded anew, every file it speaks of is read and its checksum compared, and the whole
selection is made again, bit for bit. A live campaign may have files that are in no event yet: they
are in flight, not in error.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from campaign.configuration import CampaignSetup
from campaign.continuum_rank import adopted_versions
from campaign.embedding_files import embedding_crc32, embedding_path, read_embeddings
from campaign.events import BatchEmbedded, Selected, slot_of
from campaign.journal import Contents, JournalError
from campaign.molecular_dynamics.results import read_result
from campaign.rules import picks_at
from campaign.run_folder import read_state, selection_settings
from campaign.selection import Outcome, PatchSelection, reader
from campaign.spool import batch_crc32, patch_path
from campaign.state import CampaignState, JobStatus
from continuum.parameter_versions import read_parameter_version, version_path
from continuum.patch_files import read_patches


@dataclass(frozen=True, slots=True)
class Law:
    """`whole` must be the sum of `parts`."""

    name: str
    whole: int
    parts: dict[str, int]

    @property
    def holds(self) -> bool:
        """Whether it is."""
        return self.whole == sum(self.parts.values()) and min(self.parts.values()) >= 0

    def __str__(self) -> str:
        terms = " + ".join(f"{number} {name}" for name, number in self.parts.items())
        return f"{self.whole} {self.name} {'=' if self.holds else '≠'} {terms}"


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found; a run is sound if there are no `breaks`."""

    laws: tuple[Law, ...] = ()
    breaks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    files_checked: int = 0
    selections_replayed: int = 0

    @property
    def sound(self) -> bool:
        """Nothing lost, nothing double."""
        return not self.breaks and all(law.holds for law in self.laws)


@dataclass(slots=True)
class _Findings:
    breaks: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: int = 0
    selections: int = 0


def audit_run(folder: Path, *, files: bool = True) -> Audit:
    """Audit a run; without `files`, only the journal.

    Raises RunFolderError or ConfigurationError where there is no run to audit.
    """
    try:
        setup, state, contents = read_state(folder)
    except JournalError as error:
        return Audit(breaks=(str(error),))
    found = _Findings()
    if contents.torn_bytes:
        found.notes.append(f"{contents.torn_bytes} bytes of a record that was never acknowledged")
    laws = laws_of(state, _in_flight(folder, state, found) if files else 0)
    if files:
        events = _by_snapshot(contents)
        found.breaks += [line for s in range(state.ingested) for line in _batch(folder, state, s)]
        for embedded in events.embedded:
            found.breaks += _embedding(folder, embedded)
        found.breaks += _versions(folder, state)
        found.breaks += _results(folder, state)
        found.breaks += _boundaries(folder, setup, state)
        found.breaks += _selection(folder, setup, state, events.selected)
        found.files = state.ingested + state.embedded + state.done + state.version
        found.selections = len(state.order)
    return Audit(laws, tuple(found.breaks), tuple(found.notes), found.files, found.selections)


def laws_of(state: CampaignState, in_flight: int = 0) -> tuple[Law, ...]:
    """The conservation laws; patches but for the last two, which count jobs.

    `in_flight` patches are durable but not in the journal.
    """
    waiting = sum(batch.count for batch in state.batches[state.embedded :])
    unseen = state.patches_embedded - state.patches_offered
    return (
        Law(
            "patches emitted",
            state.patches_ingested + in_flight,
            {"ingested": sum(batch.count for batch in state.batches), "in flight": in_flight},
        ),
        Law(
            "patches ingested",
            state.patches_ingested,
            {
                "embedded": state.patches_embedded,
                "quarantined": state.patches_quarantined,
                "waiting": waiting,
            },
        ),
        Law(
            "patches embedded",
            state.patches_embedded,
            {
                "candidates": state.candidates,
                "selected": len(state.order),
                "discarded": state.patches_discarded,
                "not yet offered": unseen,
            },
        ),
        Law(
            "jobs selected",
            len(state.order),
            {
                "queued": state.queued,
                "running": len(state.running),
                "done": state.done,
                "abandoned": state.abandoned,
            },
        ),
        Law(
            "jobs done",
            sum(job.status == JobStatus.DONE for job in state.order),
            {
                "fed back": sum(job.version > 0 for job in state.order),
                "pending": sum(
                    job.version == 0 and job.status == JobStatus.DONE for job in state.order
                ),
            },
        ),
    )


@dataclass(frozen=True, slots=True)
class _Events:
    embedded: list[BatchEmbedded]
    selected: list[Selected]


def _by_snapshot(contents: Contents) -> _Events:
    events = [record.event for record in contents.records]
    return _Events(
        [event for event in events if isinstance(event, BatchEmbedded)],
        [event for event in events if isinstance(event, Selected)],
    )


def _in_flight(folder: Path, state: CampaignState, found: _Findings) -> int:
    """Patches in files that follow the journal's last batch without a gap."""
    numbers = sorted(int(path.stem) for path in (folder / "patches").glob("[0-9]" * 10 + ".h5"))
    later = [number for number in numbers if number >= state.ingested]
    for expected, number in enumerate(later, start=state.ingested):
        if number != expected:
            found.breaks.append(f"the patches of snapshot {expected} are lost: {number} is there")
            break
    if later:
        found.notes.append(f"snapshots {later[0]} to {later[-1]} are in flight")
    return sum(len(read_patches(patch_path(folder, number))) for number in later)


def _batch(folder: Path, state: CampaignState, snapshot: int) -> Iterator[str]:
    event, path = state.batches[snapshot], patch_path(folder, snapshot)
    try:
        batch = read_patches(path)
    except (OSError, ValueError) as error:
        yield f"patches lost: {error}"
        return
    controls = int((batch.central_state < 0).sum())
    if (len(batch), controls) != (event.count, event.controls):
        yield (
            f"{path} holds {len(batch)} patches, {controls} of them controls;"
            f" the journal says {event.count} and {event.controls}"
        )
    elif batch_crc32(batch) != event.crc32:
        yield f"{path} holds other patches than were ingested"


def _embedding(folder: Path, event: BatchEmbedded) -> Iterator[str]:
    path = embedding_path(folder, event.snapshot_index)
    try:
        embeddings = read_embeddings(path)
        patch_id = read_patches(patch_path(folder, event.snapshot_index)).patch_id
    except (OSError, ValueError) as error:
        yield f"embeddings lost: {error}"
        return
    if embedding_crc32(embeddings) != event.crc32:
        yield f"{path} holds other embeddings than the journal says"
        return
    slots = {slot_of(int(patch)) for patch in embeddings.patch_id}
    both = slots & set(event.quarantined)
    accounted = slots | set(event.quarantined)
    if both or accounted != {slot_of(int(patch)) for patch in patch_id}:
        yield f"{path} does not account for each patch of its snapshot exactly once"


def _results(folder: Path, state: CampaignState) -> Iterator[str]:
    for job in state.order:
        if job.status != JobStatus.DONE:
            continue
        path = folder / "md" / f"{job.job}.h5"
        try:
            stored = read_result(path)
        except (OSError, ValueError) as error:
            yield f"result lost: {error}"
            continue
        if (stored.job, stored.patch_id) != (job.job, job.patch_id):
            yield f"{path} is the result of job {stored.job}"
        elif stored.result.crc32() != job.crc32:
            yield f"{path} holds another result than the journal says"
    for path in sorted((folder / "md").glob("*.h5")):
        if path.stem not in state.jobs:
            yield f"{path} is a result that no job asked for"


def _versions(folder: Path, state: CampaignState) -> Iterator[str]:
    consumed: set[str] = set()
    for event in state.versions:
        twice = consumed.intersection(event.jobs)
        consumed.update(event.jobs)
        if twice:
            yield f"parameter version {event.version} uses {', '.join(sorted(twice))} again"
        try:
            made = read_parameter_version(version_path(folder / "parameters", event.version))
        except (OSError, ValueError) as error:
            yield f"parameter version lost: {error}"
            continue
        if made.version != event.version:
            yield f"parameter version {event.version} holds version {made.version}"
    early = folder / "parameters" / version_path(folder, state.version + 2).name
    if early.exists():
        yield f"{early} is ahead of the journal by more than one version"


def _boundaries(folder: Path, setup: CampaignSetup, state: CampaignState) -> Iterator[str]:
    """In lockstep, version and snapshot belong together for ever."""
    adopted = adopted_versions(folder / "parameters")
    for snapshot in adopted:
        if snapshot > state.permitted and setup.config.continuum.source == "launched":
            yield f"the membrane passed boundary {snapshot} without a permit"
    if setup.config.feedback.pacing != "lockstep":
        return
    boundaries = np.array([event.boundary_snapshot for event in state.versions], dtype=np.int64)
    for snapshot, version in adopted.items():
        due = int(np.searchsorted(boundaries, snapshot, side="right"))
        if version != due:
            yield f"boundary {snapshot} was passed under version {version}, {due} was due"
    for batch in state.batches:
        due = int(np.searchsorted(boundaries, batch.snapshot_index - 1, side="right"))
        if batch.parameter_version != due:
            yield (
                f"snapshot {batch.snapshot_index} was made under version"
                f" {batch.parameter_version}, {due} was due"
            )


def _selection(
    folder: Path, setup: CampaignSetup, state: CampaignState, selected: Iterable[Selected]
) -> Iterator[str]:
    """Select everything again. Stops at the first difference: all later ones follow from it."""
    selection, read = PatchSelection(selection_settings(setup)), reader(folder)
    for event in selected:
        snapshot = event.snapshot_index
        try:
            outcome = selection.advance(read(snapshot), picks_at(state.rules, snapshot))
        except (OSError, ValueError) as error:
            yield f"the selection after snapshot {snapshot} cannot be repeated: {error}"
            return
        if outcome != Outcome(event.patches, event.discarded, event.candidates):
            yield (
                f"the selection after snapshot {snapshot} was {_shown(event.patches)},"
                f" repeated it is {_shown(outcome.patches)}"
            )
            return


def _shown(picks: Iterable[tuple[int, str, float]]) -> str:
    return ", ".join(f"{patch:016x} ({rank:.6g})" for patch, _, rank in picks) or "none"
