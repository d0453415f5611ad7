"""Where a campaign that is to be killed runs, and which of its processes is which."""

import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

import psutil

from campaign.process_identity import kill, marked_processes
from campaign.ray_cluster import MARK
from tests.campaign.ray_laboratory import ROOT, cluster_processes, environment

ACTORS = {
    "ray::CampaignActor": "coordinator",
    "ray::Intake": "intake",
    "ray::RankLauncher": "launcher",
    "ray::Embedder": "embedder",
    "ray::Pilot": "pilot",
}
PORTS = ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port")
START_LIMIT_S = 120.0


def kind_of(process: psutil.Process) -> str:
    """What a process is to a campaign; "" for those that Ray can do without."""
    try:
        words = process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""
    title = words[0] if words else ""
    for start, kind in ACTORS.items():
        if title.startswith(start):
            return kind
    name = Path(title).name
    if name in ("raylet", "gcs_server"):
        return name.removesuffix("_server")
    if "campaign.molecular_dynamics.worker" in words:
        return "MD worker"
    if name.startswith("mpiexec") or name.startswith("hydra"):
        return "mpiexec"
    return "rank" if "campaign.continuum_rank" in words else ""


class Place(Protocol):
    """Where drivers are started and victims found."""

    def start(self, words: Sequence[object], log: Path) -> psutil.Popen:
        """`python -m campaign ...` in the background, after whatever it needs has been started."""

    def processes(self, run: Path) -> list[psutil.Process]:
        """All that belongs to the cluster."""


class OwnCluster:
    """The cluster a campaign starts for itself."""

    def start(self, words: Sequence[object], log: Path) -> psutil.Popen:
        return _driver(words, log, environment())

    def processes(self, run: Path) -> list[psutil.Process]:
        return cluster_processes(run)


class AttachedCluster:
    """A cluster with a token, started by `ray start`, and started anew when its head has died."""

    def __init__(self, folder: Path) -> None:
        self._mark = secrets.token_hex(8)
        self._folder = folder
        folder.mkdir(mode=0o700)
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        self._environment = environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token))
        self._ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))

    def start(self, words: Sequence[object], log: Path) -> psutil.Popen:
        if {"raylet", "gcs"} - {kind_of(process) for process in self.processes(log)}:
            self._start_head()
        address = f"127.0.0.1:{self._ports['port']}"
        return _driver([*words, "--address", address], log, self._environment)

    def processes(self, run: Path) -> list[psutil.Process]:
        return marked_processes(MARK, self._mark)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        kill(self.processes(self._folder))

    def _start_head(self) -> None:
        kill(self.processes(self._folder))
        words = ["--head", "--disable-usage-stats", "--num-cpus=4", "--dashboard-host=127.0.0.1"]
        words += ["--include-dashboard=false", "--object-store-memory=200000000"]
        words += [f"--{name}={port}" for name, port in self._ports.items()]
        subprocess.run(
            [Path(sys.executable).parent / "ray", "start", *words],
            env={**self._environment, MARK: self._mark, "RAY_raylet_start_wait_time_s": "120"},
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=START_LIMIT_S,
        )


def free_ports(count: int) -> list[int]:
    """Not in use now, and not among those that Ray gives to workers."""
    found, port = [], 20_000 + time.time_ns() % 10_000
    while len(found) < count:
        port += 7
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                found.append(port)
    return found


def _driver(words: Sequence[object], log: Path, env: dict[str, str]) -> psutil.Popen:
    with open(log, "ab") as file:
        return psutil.Popen(
            [sys.executable, "-m", "campaign", *map(str, words)],
            env=env,
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
