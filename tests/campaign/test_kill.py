"""The real campaign, killed for good at random moments, is the undisturbed campaign."""

import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest

from campaign.audit import audit_run
from campaign.conformance import course_of, differences
from campaign.journal import read_journal

LONGEST_S = 10.0  # kernels may have been compiled; kills that wait for that long come too late
KILLS = 4
LIMIT_S = 900.0
OVERRIDES = (
    "continuum.snapshots=5",
    "molecular_dynamics.duration_us=100.0",
    "selection.per_snapshot=3.0",
)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "campaign", *arguments]


def begin(run):
    options = [word for override in OVERRIDES for word in ("--set", override)]
    return command("run", "small", "--local", "--out", str(run), *options)


def carry_on(run):
    made = (run / "config.resolved.yaml").exists()
    return command("resume", str(run), "--local") if made else begin(run)


def victims(process):
    """The coordinator, its ranks and its MD workers."""
    return [process, *psutil.Process(process.pid).children(recursive=True)]


@pytest.mark.slow
def test_kill_9_of_anything_at_any_time_changes_nothing(tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    began = time.monotonic()
    subprocess.run(begin(undisturbed), check=True, timeout=LIMIT_S)
    length_s = min(time.monotonic() - began, LONGEST_S)

    chance = random.Random(2)
    process, kills = subprocess.Popen(carry_on(killed)), 0
    while kills < KILLS:
        try:
            process.wait(chance.uniform(0.05, 0.5) * length_s)
            break
        except subprocess.TimeoutExpired:
            victim = process if kills % 2 == 0 else chance.choice(victims(process))
            os.kill(victim.pid, signal.SIGKILL)
            kills += 1
        if victim.pid == process.pid:
            process.wait()
            process = subprocess.Popen(carry_on(killed))
    assert process.wait(LIMIT_S) == 0
    assert kills > 1
    courses = [course_of(read_journal(run / "journal").records) for run in (undisturbed, killed)]
    assert differences(*courses) == []
    for run in (undisturbed, killed):
        report = audit_run(run)
        assert report.sound, report
    assert courses[0].finished == "complete"
