"""Campaigns as commands, and the processes of their Ray clusters: found by mark, ended by pid."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from campaign.process_identity import marked_processes
from campaign.ray_cluster import MARK, RECORD
from campaign.run_folder import read_state

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 900.0  # of a busy machine
CALM = {
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONPATH": str(ROOT),
}


def environment(**more: str) -> dict[str, str]:
    """This one, without what would lead to somebody else's cluster."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**own, **CALM, **more}


def campaign(*words: object, env: dict[str, str] | None = None, cwd: Path = ROOT) -> list[object]:
    """Exit code, standard output and error of `python -m campaign ...`."""
    done = subprocess.run(
        [sys.executable, "-m", "campaign", *map(str, words)],
        env=env or environment(),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return [done.returncode, done.stdout, done.stderr]


def begin(*words: object, log: Path) -> "subprocess.Popen[bytes]":
    """A campaign command in the background."""
    with open(log, "ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "campaign", *map(str, words)],
            env=environment(),
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def wait_until(
    condition: Callable[[], object], what: str, driver: "subprocess.Popen[bytes] | None" = None
) -> object:
    """Its first true value, which no campaign brings about whose `driver` has ended."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"in vain: {what}"
        assert driver is None or driver.poll() is None, f"the campaign ended before {what}"
        time.sleep(0.1)
    return found


def ingested(run: Path) -> int:
    """Snapshots in the journal of a run, which may be live or not even begun."""
    try:
        return read_state(run)[1].ingested
    except ValueError:
        return 0


def picks(run: Path) -> list[tuple[str, str, float]]:
    """What was selected, in order."""
    return [(job.job, job.queue, job.importance) for job in read_state(run)[1].order]


def cluster_processes(run: Path) -> list[psutil.Process]:
    """Processes of the cluster that a run has started for itself."""
    try:
        record = json.loads((run / "control" / RECORD).read_text())
    except FileNotFoundError:
        return []
    return marked_processes(MARK, record["mark"])


def actor(run: Path, name: str) -> psutil.Process | None:
    """The process of a Ray actor of a run's cluster, or a vital one by its name."""
    for process in cluster_processes(run):
        try:
            title = process.cmdline()[0]
        except (psutil.NoSuchProcess, IndexError):
            continue
        if title.startswith(f"ray::{name}") or title.endswith(f"/{name}"):
            return process
    return None
