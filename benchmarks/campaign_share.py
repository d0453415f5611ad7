"""What a real campaign on Ray spends on itself: CPU of every process by what it is, and occupancy.

CPU times are read from the kernel twice a second. The work is that of the ranks and of the MD
workers, with what these spend on files and messages. Ours is everything else but embedding: driver,
coordinator (with selector, journal and the inversion of feedback), intake, pilots, launcher,
mpiexec, and all of Ray's own processes. The embedders are told apart and are neither: what they do
between start and end is the network. The share is ours over the work from the first job to the last
selection, when everything has been imported, compiled kernels have been loaded and Ray is up; what
the start and the end add to it is told as well, and matters less the longer a campaign is.
"""

import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import psutil

from campaign.journal import read_journal
from campaign.process_identity import descendants, marked_processes
from campaign.ray_cluster import MARK, RECORD
from campaign.run_story import tell

ROOT = Path(__file__).resolve().parents[1]
WORK, EMBEDDING = ("ranks", "MD workers"), "embedders"
ACTORS = {
    "ray::CampaignActor": "coordinator",
    "ray::Intake": "intake",
    "ray::RankLauncher": "launcher",
    "ray::Embedder": EMBEDDING,
    "ray::Pilot": "pilots",
}
LOOK_S, SEARCH_S = 0.5, 2.0


def part_of(process: psutil.Process) -> str:
    """What a process of the campaign's cluster is."""
    words = process.cmdline()
    title = words[0] if words else ""
    for start, part in ACTORS.items():
        if title.startswith(start):
            return part
    if "campaign.continuum_rank" in words:
        return "ranks" if "python" in Path(title).name else "mpiexec"
    if "campaign.molecular_dynamics.worker" in words:
        return "MD workers"
    return "Ray"


class CpuMeter(threading.Thread):
    """Follows the CPU time of a driver and of all processes of the cluster it starts."""

    def __init__(self, run: Path, driver: psutil.Process) -> None:
        super().__init__(daemon=True)
        self._run, self._driver = run, driver
        self._found: dict[psutil.Process, str] = {driver: "driver"}
        self._cpu_s: dict[psutil.Process, float] = {}
        self._searched_s = 0.0
        self.samples: list[tuple[float, dict[str, float]]] = []  # epoch, CPU s by part

    def run(self) -> None:
        while self._driver.is_running() and self._driver.status() != psutil.STATUS_ZOMBIE:
            self._look()
            time.sleep(LOOK_S)

    def between(self, start_s: float, end_s: float) -> dict[str, float]:
        """CPU seconds by part from the last sample before `start_s` to the first after `end_s`."""
        first = [parts for at, parts in self.samples if at <= start_s][-1:] or [{}]
        last = [parts for at, parts in self.samples if at >= end_s][:1] or [self.samples[-1][1]]
        return {part: cpu - first[0].get(part, 0.0) for part, cpu in last[0].items()}

    def _look(self) -> None:
        if time.monotonic() - self._searched_s > SEARCH_S:
            self._searched_s = time.monotonic()
            self._search()
        for process in self._found:
            try:
                times = process.cpu_times()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue  # it has ended: what it had used by then stays
            self._cpu_s[process] = times.user + times.system
        total: dict[str, float] = defaultdict(float)
        for process, cpu_s in self._cpu_s.items():
            total[self._found[process]] += cpu_s
        self.samples.append((time.time(), dict(total)))

    def _search(self) -> None:
        """Ray gives its workers their titles late, so that all are asked again.

        Ray's agents overwrite their environment with their titles: they are found as descendants.
        """
        try:
            record = json.loads((self._run / "control" / RECORD).read_text())
        except FileNotFoundError:
            return
        for process in {*marked_processes(MARK, record["mark"]), *descendants(self._driver)}:
            try:
                self._found[process] = part_of(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue


def measure_share(run: Path, words: Sequence[str]) -> dict[str, object]:
    """`python -m campaign run WORDS`: shares of CPU and occupancy of the MD slots."""
    command = [sys.executable, "-m", "campaign", "run", *words, "--out", str(run)]
    began = time.perf_counter()
    driver = psutil.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    meter = CpuMeter(run, driver)
    meter.start()
    said, _ = driver.communicate()
    wall_s = time.perf_counter() - began
    meter.join()
    if driver.returncode or ": complete:" not in said:
        raise RuntimeError(f"the campaign ended with {driver.returncode}: {said[-2000:]}")
    story = tell(read_journal(run / "journal").records)
    resolved = json.loads(_resolved(run))
    slots = resolved["molecular_dynamics"]["slots"]
    if story.first_job_s is None or story.last_selection_s is None:
        raise RuntimeError("the campaign had no jobs")
    begin = story.opened_s + story.first_job_s
    working = meter.between(begin, story.opened_s + story.last_selection_s)
    whole = meter.between(0.0, time.time())
    occupancy, to_the_end = story.occupancy(slots)
    return {
        "campaign": " ".join(words),
        "own_cpu_share": _share(working),
        "own_cpu_share_with_start_and_end": _share(whole),
        "occupancy": occupancy,
        "occupancy_to_the_end": to_the_end,
        "measured_s": story.last_selection_s - story.first_job_s,
        "campaign_wall_s": wall_s,
        "jobs": len(story.done),
        "cpu_s": working,
        "cpu_s_with_start_and_end": whole,
    }


def _share(cpu_s: dict[str, float]) -> float:
    """Ours as a part of the work's."""
    work = sum(cpu_s.get(part, 0.0) for part in WORK)
    ours = sum(used for part, used in cpu_s.items() if part not in (*WORK, EMBEDDING))
    return ours / work


def _resolved(run: Path) -> str:
    import yaml

    return json.dumps(yaml.safe_load((run / "config.resolved.yaml").read_text()))
