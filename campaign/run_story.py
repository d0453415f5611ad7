"""What a campaign did, over wall time and simulated time: the journal read for people.

Step functions of wall time are kept as the times of their changes, so that occupancy is an exact
integral and not an average of samples.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from campaign.events import (
    BatchIngested,
    CampaignFinished,
    Event,
    FeedbackMade,
    JobAbandoned,
    JobFailed,
    JobFinished,
    JobStarted,
    Selected,
    ShellStarted,
)
from campaign.journal import Record

Array = NDArray[np.float64]


@dataclass(slots=True)
class RunStory:
    """Times are seconds since the campaign was opened; counts are cumulative."""

    opened_s: float = 0.0  # since the epoch
    seconds: float = 0.0  # to the last event
    shells: list[tuple[float, str]] = field(default_factory=list)
    ingested: list[tuple[float, float, int]] = field(default_factory=list)  # s, simulated µs, sum
    selected: list[tuple[float, float, int]] = field(default_factory=list)
    running: list[tuple[float, int]] = field(default_factory=list)  # s, jobs from then on
    done: list[tuple[float, int]] = field(default_factory=list)
    failed: list[tuple[float, str, str]] = field(default_factory=list)  # s, job, message
    versions: list[tuple[float, int, int]] = field(default_factory=list)  # s, version, boundary
    finished: str | None = None
    first_job_s: float | None = None
    last_selection_s: float | None = None

    def occupancy(self, slots: int) -> tuple[float, float]:
        """Share of slot time in use: from the first job to the last selection, and to the end.

        After the last selection slots run dry by design, so the first is what scheduling achieves.
        Both are 0 without jobs.
        """
        if self.first_job_s is None or self.last_selection_s is None:
            return 0.0, 0.0
        until = max(self.last_selection_s, self.first_job_s)
        return (
            self._share(self.first_job_s, until, slots),
            self._share(self.first_job_s, self.seconds, slots),
        )

    def _share(self, start: float, end: float, slots: int) -> float:
        if end <= start:
            return 0.0
        times = np.array([time for time, _ in self.running])
        counts = np.array([count for _, count in self.running], dtype=np.float64)
        edges = np.clip(np.append(times, self.seconds), start, end)
        return float(np.sum(np.diff(edges) * counts) / (slots * (end - start)))


def tell(records: list[Record]) -> RunStory:
    """The story in a journal's records."""
    story = RunStory()
    if not records:
        return story
    story.opened_s = records[0].t_wall
    running: set[str] = set()
    for record in records:
        now = record.t_wall - story.opened_s
        story.seconds = max(story.seconds, now)
        before = len(running)
        _take_patches(story, now, record.event)
        _take_jobs(story, running, now, record.event)
        if len(running) != before:
            story.running.append((now, len(running)))
    return story


def _take_patches(story: RunStory, now: float, event: Event) -> None:
    match event:
        case BatchIngested():
            total = story.ingested[-1][2] if story.ingested else 0
            story.ingested.append((now, event.time_us, total + event.count))
        case Selected():
            total = story.selected[-1][2] if story.selected else 0
            time_us = story.ingested[event.snapshot_index][1]
            story.selected.append((now, time_us, total + len(event.patches)))
            story.last_selection_s = now
        case FeedbackMade():
            story.versions.append((now, event.version, event.boundary_snapshot))
        case CampaignFinished():
            story.finished = event.reason
        case _:
            pass


def _take_jobs(story: RunStory, running: set[str], now: float, event: Event) -> None:
    match event:
        case ShellStarted():
            story.shells.append((now, event.shell))
            running.intersection_update(event.surviving)
            story.finished = None
        case JobStarted():
            running.add(event.job)
            if story.first_job_s is None:
                story.first_job_s = now
        case JobFinished():
            running.discard(event.job)
            story.done.append((now, len(story.done) + 1))
        case JobFailed():
            running.discard(event.job)
            story.failed.append((now, event.job, f"{event.failure}: {event.message}"))
        case JobAbandoned():
            story.failed.append((now, event.job, f"abandoned: {event.reason}"))
        case _:
            pass
