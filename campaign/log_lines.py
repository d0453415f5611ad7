"""How a campaign shows itself without a terminal: a line for each thing worth knowing."""

import sys
import time

from campaign.coordinator import Watcher
from campaign.events import (
    CampaignFinished,
    ContinuumEnded,
    ContinuumStarted,
    ControlReceived,
    Event,
    FeedbackMade,
    JobAbandoned,
    Selected,
    ShellStarted,
    SlotCordoned,
)
from campaign.state import CampaignState


def log_lines() -> Watcher:
    """A watcher that writes to standard error, with the seconds since it was made."""
    began = time.monotonic()

    def watch(state: CampaignState, event: Event) -> None:
        text = describe(state, event)
        if text is not None:
            sys.stderr.write(f"{time.monotonic() - began:8.1f} s  {text}\n")
            sys.stderr.flush()

    return watch


def describe(state: CampaignState, event: Event) -> str | None:
    """A line about an event; None for what happens all the time."""
    match event:
        case ShellStarted():
            return f"{event.shell} coordinator {event.incarnation} took over"
        case ContinuumStarted():
            after = (
                "the beginning" if event.from_snapshot < 0 else f"snapshot {event.from_snapshot}"
            )
            return f"ranks of incarnation {event.incarnation} start from {after}"
        case ContinuumEnded():
            how = "reached the end" if event.finished else f"ended with code {event.exit_code}"
            return f"ranks {how}" + (f": {event.message}" if event.message else "")
        case Selected():
            return _progress(state, event)
        case FeedbackMade():
            return (
                f"parameter version {event.version} from {len(event.jobs)} new results,"
                f" due at snapshot {event.boundary_snapshot}"
            )
        case JobAbandoned():
            return f"job {event.job} is given up: {event.reason}"
        case SlotCordoned():
            return f"slot {event.slot} is cordoned: {event.reason}"
        case ControlReceived():
            return f"{event.command} {' '.join(event.arguments)}".rstrip()
        case CampaignFinished():
            return f"ended: {event.reason}"
        case _:
            return None


def _progress(state: CampaignState, event: Selected) -> str:
    batch = state.batches[event.snapshot_index]
    return (
        f"snapshot {event.snapshot_index} of {state.rules.last_snapshot}, {batch.time_us:g} µs:"
        f" {batch.count} patches, {len(event.patches)} picked;"
        f" jobs {state.queued} queued, {len(state.running)} running, {state.done} done"
    )
