"""A live view of a campaign on a terminal: membrane, patches, jobs, parameters, time left."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from campaign.coordinator import Watcher
from campaign.events import Event, Selected
from campaign.heartbeat import read_heartbeat
from campaign.log_lines import describe
from campaign.state import CampaignState
from campaign.status import CampaignStatus, status_of

REFRESHES_PER_S = 2.0
LATEST = 6


class _View:
    """What is shown: made by the coordinator's thread, drawn by that of rich."""

    def __init__(self, run: Path, slots: int, end_us: float) -> None:
        self.run, self.slots, self.end_us = run, slots, end_us
        self.began = time.monotonic()
        self.began_us: float | None = None
        self.status: CampaignStatus | None = None
        self.said: list[str] = []
        self._next = 0.0

    def watch(self, state: CampaignState, event: Event) -> None:
        """Take note of an event; a picture of the state is made at most at the refresh rate."""
        text = None if isinstance(event, Selected) else describe(state, event)
        if text is not None:
            seconds = int(time.monotonic() - self.began)
            self.said = [*self.said, f"{seconds:5d} s  {text}"][-LATEST:]
        if self.status is None or time.monotonic() >= self._next or state.finished is not None:
            self.status = status_of(state)
            if self.began_us is None:
                self.began_us = self.status.time_us
            self._next = time.monotonic() + 1 / REFRESHES_PER_S

    def __rich__(self) -> RenderableType:
        if self.status is None:
            return Text("starting")
        return Group(_table(self, self.status), Text("\n".join(self.said), style="dim"))


def _table(view: _View, status: CampaignStatus) -> Table:
    heartbeat = read_heartbeat(view.run)
    time_us = max(status.time_us, heartbeat.time_us if heartbeat else 0.0)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    table.add_column()
    table.add_row(
        "membrane",
        ProgressBar(total=view.end_us, completed=time_us, width=30),
        f"{time_us:.4g} of {view.end_us:g} µs, {_time_left(view, time_us)}",
    )
    table.add_row(
        "patches",
        f"{status.patches['ingested']:,}",
        f"{status.patches['candidates']:,} candidates, {status.patches['selected']:,} selected, "
        f"{status.patches['discarded']:,} discarded",
    )
    queues = ", ".join(f"{name} {count}" for name, count in status.picks_by_queue.items())
    table.add_row("queues", "", queues or "nothing picked yet")
    jobs = status.jobs
    table.add_row(
        "MD slots",
        ProgressBar(total=max(view.slots, 1), completed=jobs["running"], width=30),
        f"{jobs['running']} of {view.slots} in use; {jobs['queued']:,} queued, "
        f"{jobs['done']:,} done, {jobs['abandoned']:,} abandoned",
    )
    due = "" if status.next_version_at is None else f", next at snapshot {status.next_version_at}"
    table.add_row("parameters", f"version {status.version}", f"{status.phase}{due}")
    return table


def _time_left(view: _View, time_us: float) -> str:
    done_us = time_us - (view.began_us or 0.0)
    seconds = time.monotonic() - view.began
    if done_us <= 0 or seconds < 1:
        return "time left unknown"
    left_s = (view.end_us - time_us) * seconds / done_us
    return f"{86400 * done_us / seconds:,.0f} µs/day, {left_s / 60:.0f} min left"


@contextmanager
def live_view(run: Path, slots: int, end_us: float, console: Console) -> Iterator[Watcher]:
    """Show a campaign until the block ends; yields the watcher to give to its coordinator."""
    view = _View(run, slots, end_us)
    with Live(
        get_renderable=view.__rich__,
        console=console,
        refresh_per_second=REFRESHES_PER_S,
        transient=False,
    ):
        yield view.watch
