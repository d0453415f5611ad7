"""What two journals of one campaign agree in, whatever shell, timing and accidents they had."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace

from campaign.events import (
    BatchEmbedded,
    BatchIngested,
    CampaignFinished,
    CampaignOpened,
    Event,
    FeedbackMade,
    JobAbandoned,
    JobFinished,
    Permitted,
    Selected,
)
from campaign.journal import Record


@dataclass(slots=True)
class Course:
    """A journal without wall time, shells, incarnations, attempts and the order of the jobs."""

    opened: list[CampaignOpened] = field(default_factory=list)
    batches: list[BatchIngested] = field(default_factory=list)
    embedded: list[BatchEmbedded] = field(default_factory=list)
    selected: list[Selected] = field(default_factory=list)
    results: dict[str, tuple[int, int, float]] = field(default_factory=dict)  # crc, frames, µs
    abandoned: set[str] = field(default_factory=set)
    versions: list[FeedbackMade] = field(default_factory=list)
    permitted: list[int] = field(default_factory=list)
    finished: str | None = None


def course_of(records: Iterable[Record]) -> Course:
    """The course of a campaign."""
    course = Course()
    for record in records:
        _add_patches(course, record.event)
        _add_jobs(course, record.event)
    return course


def _add_patches(course: Course, event: Event) -> None:
    match event:
        case CampaignOpened():
            course.opened.append(event)
        case BatchIngested():
            course.batches.append(replace(event, incarnation=0))
        case BatchEmbedded():
            course.embedded.append(event)
        case Selected():
            course.selected.append(event)
        case Permitted(snapshot_index=snapshot):
            course.permitted.append(snapshot)


def _add_jobs(course: Course, event: Event) -> None:
    match event:
        case JobFinished():
            course.results[event.job] = (event.crc32, event.frames, event.simulated_us)
        case JobAbandoned(job=job):
            course.abandoned.add(job)
        case FeedbackMade():
            course.versions.append(event)
        case CampaignFinished(reason=reason):
            course.finished = reason


def differences(one: Course, other: Course) -> list[str]:
    """A line for each part of two courses that differs; empty where they conform."""
    lines = []
    for part in fields(Course):
        first, second = getattr(one, part.name), getattr(other, part.name)
        if first != second:
            lines.append(f"{part.name}: {_first_difference(first, second)}")
    return lines


def _first_difference(first: object, second: object) -> str:
    if isinstance(first, list) and isinstance(second, list):
        for index, (a, b) in enumerate(zip(first, second, strict=False)):
            if a != b:
                return f"number {index} is {a} and {b}"
        return f"there are {len(first)} and {len(second)}"
    if isinstance(first, dict) and isinstance(second, dict):
        keys = [key for key in {*first, *second} if first.get(key) != second.get(key)]
        return f"{min(keys)} is {first.get(min(keys))} and {second.get(min(keys))}"
    return f"{first} and {second}"
