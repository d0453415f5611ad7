"""Reader of LLNL dynim's history CSV: time, event, id, rank and four counts, one event per line.

Identifiers may contain commas, so a line is cut from both ends; unlike dynim's own reader this one
accepts rejected and invalidated rows and a file of one row.
"""

from pathlib import Path
from typing import NamedTuple

EVENTS = ("added", "selected", "discarded", "rejected", "invalidated")
FIELDS_BEFORE, FIELDS_AFTER = 2, 5


class DynimHistoryError(ValueError):
    """A file that is not a dynim history."""


class DynimEvent(NamedTuple):
    """One line."""

    time: str  # local time, one-second resolution
    event: str  # added, selected, discarded, rejected[:reason], invalidated
    id: str
    rank: float  # importance, random in dynim's random phase, -1 or NaN where it has none
    selected: int  # counts after the event
    discarded: int
    candidates: int
    cached: int


def read_dynim_history(path: str | Path) -> list[DynimEvent]:
    """The events of a history in file order. Raises DynimHistoryError, naming the line."""
    lines = Path(path).read_text().splitlines()
    if not lines or lines[0].replace(" ", "").split(",")[:3] != ["tstamp", "event", "id"]:
        raise DynimHistoryError(f"{path} must start with dynim's header 'tstamp, event, id, ...'")
    return [_event(path, i, line) for i, line in enumerate(lines[1:], 2) if line.strip()]


def _event(path: str | Path, number: int, line: str) -> DynimEvent:
    time, event, *rest = (field.strip() for field in line.split(",", FIELDS_BEFORE))
    fields = rest[0].rsplit(",", FIELDS_AFTER) if rest else []
    if len(fields) != FIELDS_AFTER + 1 or event.split(":")[0] not in EVENTS:
        raise DynimHistoryError(f"{path}, line {number} is not a dynim event: {line!r}")
    try:
        counts = [int(field) for field in fields[2:]]
        return DynimEvent(time, event, fields[0].strip(), float(fields[1]), *counts)
    except ValueError:
        raise DynimHistoryError(f"{path}, line {number} has a bad number: {line!r}") from None


def selected_ids(events: list[DynimEvent]) -> list[str]:
    """The selections in their order, to continue a dynim campaign with `mark_selected`."""
    return [event.id for event in events if event.event == "selected"]
