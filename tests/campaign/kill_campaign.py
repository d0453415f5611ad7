"""Kills a campaign on Ray again and again, and compares what is left with an undisturbed one.

    python -m tests.campaign.kill_campaign --kills 100 --out FOLDER

Every kill is SIGKILL, at a random time, of a process of a kind drawn from a shuffled deck: each
gets its share. The first part of the kills hits a cluster of the campaign's own, which ends
with its driver; the rest a cluster that was there before, whose campaigns outlive their drivers. A
line a kill says what it hit, what followed and how long it took to the next selection.
"""

import argparse
import random
import shutil
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
import psutil

from campaign.audit import audit_run
from campaign.conformance import course_of, differences
from campaign.events import (
    ContinuumEnded,
    ContinuumStarted,
    Event,
    JobFailed,
    Selected,
    ShellStarted,
)
from campaign.journal import read_journal
from campaign.journal_follower import JournalFollower
from campaign.process_identity import kill
from campaign.run_folder import read_state
from tests.campaign.kill_places import AttachedCluster, OwnCluster, Place, kind_of
from tests.campaign.ray_laboratory import campaign, picks

KINDS = (
    *("coordinator", "intake", "launcher", "embedder"),
    *("pilot", "MD worker", "mpiexec", "rank"),
)
HEADS = ("driver", "gcs", "raylet")  # one a deck: what comes after them takes a minute
OVERRIDES = (
    "continuum.ranks=2",
    "continuum.attempts=20",  # ranks may be killed again and again before they have sent anything
    "molecular_dynamics.mix={brownian: 1.0}",
    "molecular_dynamics.duration_us=5.0",
    "molecular_dynamics.engines.brownian.checkpoint_interval_us=1.0",
)
ENDLESS = 100_000  # snapshots; the campaign is given its end once it has been killed enough
HANG_S = 180.0
AT_ONCE = 0.5  # share of the kills that do not wait for a selection after the last one
PAUSE_S = 2.0  # at most, after it has


@dataclass
class Kill:
    """One kill and what the journal and the driver said until the next."""

    number: int
    at_s: float
    kind: str
    pid: int
    snapshot: int
    still_s: float | None = None  # until the next selection; None: it was killed again before
    said: Counter[str] = field(default_factory=Counter)

    def line(self) -> str:
        moved = "killed again" if self.still_s is None else f"selection after {self.still_s:5.1f} s"
        said = ", ".join(f"{what} x{n}" if n > 1 else what for what, n in self.said.items())
        return (
            f"kill {self.number:3d} at {self.at_s:7.1f} s, snapshot {self.snapshot:4d}:"
            f" {self.kind:11s} {self.pid:7d}: {moved}{'; ' + said if said else ''}"
        )


class Disturbance:
    """A campaign under kills: keeps its driver up and watches its journal."""

    def __init__(self, run: Path, log: Path, chance: random.Random) -> None:
        self._run, self._log, self._chance = run, log, chance
        self._follower = JournalFollower(run / "journal")
        self._snapshot, self._began_s, self._told = -1, time.monotonic(), 0
        self._heads: list[str] = []
        self.kills: list[Kill] = []
        self.hangs: list[str] = []

    def go_through(self, place: Place, kills: int) -> None:
        """So many kills in one place; the campaign is stopped in good order after the last."""
        driver = self._start(place)
        deck: list[str] = []
        last = len(self.kills) + kills
        while len(self.kills) < last:
            driver = self._wait(place, driver)
            deck = deck or self._shuffled()
            victim, driver = self._victim(place, driver, deck.pop())
            kind = kind_of(victim) if victim.pid != driver.pid else "driver"
            self._kill(victim, kind)
        driver = self._wait(place, driver, patient=True)
        self._tell()
        driver.terminate()
        code = driver.wait(HANG_S)
        click.echo(f"         at {self._now():7.1f} s: stopped, driver ended with {code}")

    def _shuffled(self) -> list[str]:
        self._heads = self._heads or self._chance.sample(HEADS, len(HEADS))
        deck = [*KINDS, self._heads.pop()]
        return self._chance.sample(deck, len(deck))

    def _now(self) -> float:
        return time.monotonic() - self._began_s

    def _start(self, place: Place) -> psutil.Popen:
        begun = (self._run / "config.resolved.yaml").exists()
        words = ["resume", self._run] if begun else ["run", "small", "--out", self._run]
        if not begun:
            words += ["--snapshots", ENDLESS, *overrides()]
        return place.start(words, self._log)

    def _wait(self, place: Place, driver: psutil.Popen, *, patient: bool = False) -> psutil.Popen:
        """Until a selection is made and a random while longer, or hardly at all."""
        hurry = self._chance.random() < AT_ONCE and not patient
        began = time.monotonic()
        while not self._look() and not (hurry and time.monotonic() - began > 1.0):
            if time.monotonic() - began > HANG_S:
                driver, began = self._broken(place, driver, "no selection"), time.monotonic()
            driver = self._kept_up(place, driver)
            time.sleep(0.05)
        end = time.monotonic() + self._chance.uniform(0.0, PAUSE_S)
        while time.monotonic() < end:
            self._look()
            driver = self._kept_up(place, driver)
            time.sleep(0.05)
        return driver

    def _kept_up(self, place: Place, driver: psutil.Popen) -> psutil.Popen:
        code = driver.poll()
        if code is None:
            return driver
        if self.kills:
            self.kills[-1].said[f"driver ended with {code}"] += 1
        return self._start(place)

    def _victim(
        self, place: Place, driver: psutil.Popen, kind: str
    ) -> tuple[psutil.Process, psutil.Popen]:
        """A random process of a kind, as soon as there is one."""
        began = time.monotonic()
        while True:
            driver = self._kept_up(place, driver)
            if kind == "driver":
                return driver, driver
            found = [p for p in place.processes(self._run) if kind_of(p) == kind]
            if found:
                return self._chance.choice(found), driver
            if time.monotonic() - began > HANG_S:
                driver, began = self._broken(place, driver, f"no {kind}"), time.monotonic()
            self._look()
            time.sleep(0.02)

    def _broken(self, place: Place, driver: psutil.Popen, what: str) -> psutil.Popen:
        """Something waits for ever: say so, and begin again, so that other kills are tried too."""
        self._tell()
        self.hangs.append(f"{what} for {HANG_S:g} s after kill {len(self.kills)}")
        click.echo(f"         at {self._now():7.1f} s: HANGS: {self.hangs[-1]}")
        kill([driver, *place.processes(self._run)])
        driver.wait()
        return self._start(place)

    def _kill(self, victim: psutil.Process, kind: str) -> None:
        self._look()
        self._tell()
        victim.kill()
        self.kills.append(Kill(len(self.kills) + 1, self._now(), kind, victim.pid, self._snapshot))

    def _tell(self) -> None:
        if len(self.kills) > self._told:
            self._told = len(self.kills)
            click.echo(self.kills[-1].line())

    def _look(self) -> bool:
        """Take in what the journal has got; whether a snapshot has been selected from."""
        selected = False
        for record in self._follower.new():
            said = notable(record.event)
            if said and self.kills:
                self.kills[-1].said[said] += 1
            if isinstance(record.event, Selected):
                selected, self._snapshot = True, record.event.snapshot_index
        if selected and self.kills and self.kills[-1].still_s is None:
            self.kills[-1].still_s = self._now() - self.kills[-1].at_s
        return selected


def notable(event: Event) -> str:
    """What an event may say of a kill, else ""."""
    match event:
        case ShellStarted(incarnation=number):
            return f"coordinator {number}"
        case ContinuumStarted(incarnation=number):
            return f"ranks {number}"
        case ContinuumEnded():
            return "ranks ended"
        case JobFailed(failure=failure):
            return f"job {failure}"
    return ""


def overrides() -> Iterator[str]:
    for override in OVERRIDES:
        yield from ("--set", override)


def compare(run: Path, undisturbed: Path) -> list[str]:
    """What differs from the same campaign without Ray and without kills, and what is unsound."""
    last = read_state(run)[1].rules.last_snapshot
    words = ("run", "small", "--out", undisturbed, "--local", "--snapshots", last, *overrides())
    code, _, error = campaign(*words)
    if code:
        return [f"the undisturbed campaign failed: {error}"]
    courses = [course_of(read_journal(each / "journal").records) for each in (run, undisturbed)]
    courses[0].opened = courses[1].opened  # one was opened without an end
    found = differences(*courses)
    if picks(run) != picks(undisturbed):
        found.append("the lists of selected patches differ")
    for each in (run, undisturbed):
        report = audit_run(each)
        click.echo(f"audit of {each.name}: {'sound' if report.sound else 'NOT SOUND'}")
        click.echo("\n".join(f"  {law}" for law in report.laws))
        found += [*report.breaks, *(str(law) for law in report.laws if not law.holds)]
    return found


def summary(run: Path, kills: list[Kill]) -> Iterator[str]:
    """Kills by kind with the time to the next selection, and what the campaign went through."""
    still: dict[str, list[float]] = defaultdict(list)
    for one in kills:
        still[one.kind] += [] if one.still_s is None else [one.still_s]
    for kind, count in Counter(one.kind for one in kills).most_common():
        middle = f"{statistics.median(still[kind]):5.1f}" if still[kind] else "    -"
        longest = f"{max(still[kind]):5.1f}" if still[kind] else "    -"
        yield f"{count:4d} x {kind:11s} next selection after {middle} s (median) to {longest} s"
    state = read_state(run)[1]
    failures = sum((job.failures for job in state.order), Counter())
    yield (
        f"{state.shell.incarnation if state.shell else 0} coordinators, {state.continuum}"
        f" incarnations of the ranks, {state.patches_ingested} patches, {len(state.order)} picked,"
        f" {state.done} jobs done, {state.abandoned} given up, attempts lost: {dict(failures)}"
    )


def kill_campaign(folder: Path, kills: int, attached: int, seed: int) -> list[str]:
    """All of it; what is wrong in the end."""
    run, undisturbed, log = folder / "killed", folder / "undisturbed", folder / "driver.log"
    folder.mkdir(parents=True)
    chance = random.Random(seed)
    disturbance = Disturbance(run, log, chance)
    disturbance.go_through(OwnCluster(), kills - attached)
    if attached:
        with AttachedCluster(folder / "cluster") as place:
            disturbance.go_through(place, attached)
    last = read_state(run)[1].least_last_snapshot + 3
    code, said, error = campaign("resume", run, "--snapshots", last)
    click.echo(said + error)
    found = disturbance.hangs
    if code or ": complete:" not in said:
        found.append(f"the last resume ended with {code}")
    found += compare(run, undisturbed)
    click.echo("\n".join(summary(run, disturbance.kills)))
    ours = [psutil.Process(), *psutil.Process().parents()]  # name the folder in their commands
    leftover = [p for p in psutil.process_iter() if str(folder) in " ".join(_words(p))]
    found += [f"process {p.pid} is left: {' '.join(_words(p))}" for p in leftover if p not in ours]
    return found


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--attached", type=int, help="how many on a cluster that was there before")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    attached = given.kills // 3 if given.attached is None else given.attached
    began = time.monotonic()
    found = kill_campaign(given.out, given.kills, attached, given.seed)
    took = time.monotonic() - began
    click.echo("\n".join(f"WRONG: {line}" for line in found))
    verdict = "equal to the undisturbed campaign, 0 lost, 0 duplicated" if not found else "WRONG"
    click.echo(f"{given.kills} kills in {took:.0f} s: {verdict}")
    if not found:
        shutil.rmtree(given.out)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
