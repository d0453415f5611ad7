"""Starts the ranks of a continuum under the right mpiexec, watches them, and ends all of them.

Ranks may leave mpiexec's process group and session, so each carries a mark in its environment by
which it is found again. Ranks whose launcher died end by themselves when their standard input does;
those that did not are killed before the next incarnation starts.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

from campaign.heartbeat import read_heartbeat
from campaign.process_identity import ProcessIdentity, descendants, kill, marked_processes
from campaign.rank_contract import FINISHED, TransportName
from campaign.rules import Pacing
from campaign.spool import write_incarnation
from continuum.atomic_file import write_atomically
from continuum.checkpoints import checkpoint_files

MARK = "BILAYER_CONTINUUM_OF"
MPIEXEC_VARIABLE = "BILAYER_MPIEXEC"
RECORD = "continuum.json"
_FOREIGN = ("PMI_", "PMIX_", "OMPI_", "OPAL_", "PRTE_", "HYDRA_", "HYDI_", "MPI_LOCAL", "SLURM_")
_LIBRARY_PROBE = (
    "import mpi4py; mpi4py.rc(initialize=False, finalize=False);"
    "from mpi4py import MPI; print(MPI.Get_library_version())"
)
_CHILDREN_LOOK_S = 2.0


class LaunchError(RuntimeError):
    """The ranks cannot be started; the message says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSettings:
    """How to start ranks, the same for every incarnation."""

    run: Path
    ranks: int
    transport: TransportName = "spool"
    pacing: Pacing = "lockstep"
    hosts: tuple[tuple[str, int], ...] = ()  # (host, ranks there); none: this host
    environment: Mapping[str, str] = field(default_factory=dict)  # added to this process's own
    stall_s: float = 900.0  # without a sign of life for so long, the ranks are taken for dead


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchEnd:
    """How an incarnation ended."""

    incarnation: int
    exit_code: int
    finished: bool
    message: str  # the last line of its log


def last_checkpoint(run: Path) -> int:
    """Index of the newest checkpoint, from which ranks continue; -1 where there is none."""
    files = checkpoint_files(run / "checkpoints")
    return int(files[-1].stem) if files else -1


class MpiLauncher:
    """Ranks of one continuum: at most one incarnation lives, and it lives no longer than this."""

    def __init__(self, settings: LaunchSettings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Path | None = None
        self._incarnation = 0
        self._launched_s = 0.0
        self._looked_s = 0.0  # for children of mpiexec
        self._had_children, self._childless_looks = False, 0

    @property
    def mark(self) -> str:
        return str(self._settings.run.resolve())

    def launch(self, incarnation: int, last_snapshot: int) -> int:
        """Start an incarnation after ending older ones; the snapshot it continues from, else -1.

        Raises LaunchError where older ranks cannot be ended or no fitting mpiexec is found.
        """
        run = self._settings.run
        self.stop()
        command = self._command(incarnation, last_snapshot)
        write_incarnation(run, incarnation)
        self.end_stale()
        (run / "logs").mkdir(parents=True, exist_ok=True)
        self._log = run / "logs" / f"continuum-{incarnation:04d}.log"
        continues_from = last_checkpoint(run)
        with open(self._log, "ab") as log:
            self._process = self._start(command, log)
        self._incarnation, self._launched_s = incarnation, time.time()
        self._had_children, self._childless_looks = False, 0
        record = {
            **ProcessIdentity.of(self._process.pid).as_json(),
            "incarnation": incarnation,
            "ranks": self._settings.ranks,
        }
        write_atomically(run / "control" / RECORD, json.dumps(record) + "\n")
        return continues_from

    def poll(self) -> LaunchEnd | None:
        """The end of the current incarnation, once; ranks that stall are ended first."""
        if self._process is None:
            return None
        code = self._process.poll()
        trouble = self._trouble() if code is None else ""
        if trouble:
            self._kill_all()
            self._process.wait()
            code = -signal.SIGKILL
        if code is None:
            return None
        last = _last_line(self._log)
        self._forget()
        return LaunchEnd(
            incarnation=self._incarnation,
            exit_code=code,
            finished=code == FINISHED,
            message=f"{trouble}; {last}" if trouble else last,
        )

    def stop(self) -> None:
        """End the ranks at once, if they run; `poll` then has nothing to report."""
        if self._process is not None:
            self._kill_all()
            self._process.wait()
            self._forget()

    def end_stale(self) -> list[int]:
        """Kill ranks of this run that an earlier launcher left; their pids.

        Raises LaunchError where one will not die, or mpiexec ran on another host.
        """
        stale = marked_processes(MARK, self.mark)
        recorded = _recorded(self._settings.run)
        if recorded and (leader := recorded.process()):
            stale += [leader, *descendants(leader)]
        stubborn = kill(stale)
        if stubborn:
            raise LaunchError(
                f"ranks of an earlier incarnation will not end: pids {[p.pid for p in stubborn]}"
            )
        return sorted({process.pid for process in stale})

    def _forget(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None

    def _kill_all(self) -> None:
        if self._process is not None:
            try:
                leader = psutil.Process(self._process.pid)
            except psutil.NoSuchProcess:
                return
            kill([leader, *descendants(leader)])
            self.end_stale()

    def _trouble(self) -> str:
        """Why ranks that have not ended must be; "" where they may go on."""
        if self._stalled_for_s() > self._settings.stall_s:
            return f"no sign of life for {self._settings.stall_s:g} s"
        if self._lost_its_children():
            return "mpiexec waits for ranks that are gone"
        return ""

    def _lost_its_children(self) -> bool:
        """MPICH's mpiexec does not miss a proxy of its own that was killed, and waits for ever."""
        now = time.monotonic()
        if self._process is None or now - self._looked_s < _CHILDREN_LOOK_S:
            return False
        self._looked_s = now
        alone = self._settings.ranks == 1 and not self._settings.hosts
        if alone or _has_children(self._process.pid):
            self._had_children, self._childless_looks = not alone, 0
        elif self._had_children:
            self._childless_looks += 1
        return self._childless_looks > 1  # at the end there are none for a moment

    def _stalled_for_s(self) -> float:
        beat = read_heartbeat(self._settings.run)
        current = beat is not None and beat.incarnation == self._incarnation
        return time.time() - (beat.beaten_s if beat and current else self._launched_s)

    def _start(self, command: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        environment = scrubbed({**os.environ, **self._settings.environment})
        environment.setdefault("OMP_NUM_THREADS", "1")
        environment[MARK] = self.mark
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )

    def _command(self, incarnation: int, last_snapshot: int) -> list[str]:
        settings = self._settings
        rank = [
            *(sys.executable, "-m", "campaign.continuum_rank", str(settings.run.resolve())),
            *("--last-snapshot", str(last_snapshot), "--incarnation", str(incarnation)),
            *("--transport", settings.transport, "--pacing", settings.pacing, "--supervised"),
        ]
        if settings.ranks == 1 and not settings.hosts:
            return rank
        launcher = find_mpiexec()
        return [*launcher, *self._placement(launcher[0]), "-n", str(settings.ranks), *rank]

    def _placement(self, launcher: str) -> list[str]:
        """The hosts, in the words of the launcher at hand."""
        if not self._settings.hosts:
            return []
        if Path(launcher).name == "srun":
            return ["--nodelist", ",".join(host for host, _ in self._settings.hosts)]
        hosts = ",".join(f"{host}:{ranks}" for host, ranks in self._settings.hosts)
        if linked_mpi() == "MPICH":
            return ["-hosts", hosts]
        names = (MARK, *self._settings.environment)
        return ["--host", hosts, *(word for name in names for word in ("-x", name))]


def scrubbed(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without what tells a process that it is already somebody's rank."""
    return {key: value for key, value in environment.items() if not key.startswith(_FOREIGN)}


def linked_mpi() -> str:
    """Name of the MPI that mpi4py is linked with, asked of a process of its own.

    Raises LaunchError where mpi4py cannot be loaded.
    """
    probe = subprocess.run(
        [sys.executable, "-c", _LIBRARY_PROBE],
        env=scrubbed(os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if probe.returncode:
        reason = probe.stderr.strip().rpartition("\n")[2]
        raise LaunchError(f"mpi4py cannot be loaded ({reason}): pip install 'bilayer[mpi]'")
    return "Open MPI" if "Open MPI" in probe.stdout else "MPICH"


def find_mpiexec() -> list[str]:
    """The words that start ranks of mpi4py's own MPI: beside Python, else on the PATH.

    The environment variable BILAYER_MPIEXEC replaces the search, for instance by
    `srun --mpi=pmi2`. Raises LaunchError, which says what was found instead.
    """
    given = os.environ.get(MPIEXEC_VARIABLE)
    if given:
        words = shlex.split(given)
        if not shutil.which(words[0]):
            raise LaunchError(f"{MPIEXEC_VARIABLE} = {given!r}: there is no program {words[0]}")
        return words
    wanted = linked_mpi()
    beside = Path(sys.executable).parent / "mpiexec"
    candidates = [str(beside), *filter(None, map(shutil.which, ("mpiexec", "mpirun")))]
    found = {}
    for path in dict.fromkeys(candidates):
        if os.access(path, os.X_OK):
            found[path] = _vendor(path)
            if found[path] == wanted:
                return [path, *_as_root(wanted)]
    seen = ", ".join(f"{path} is {vendor}'s" for path, vendor in found.items()) or "there is none"
    raise LaunchError(
        f"mpi4py is linked with {wanted} and needs its mpiexec beside {sys.executable} or on the"
        f" PATH; {seen}. Or set {MPIEXEC_VARIABLE}."
    )


def _vendor(mpiexec: str) -> str:
    answer = subprocess.run(
        [mpiexec, "--version"],
        env=scrubbed(os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    text = answer.stdout + answer.stderr
    if "Open MPI" in text or "OpenRTE" in text or "PRRTE" in text:
        return "Open MPI"
    return "MPICH" if "HYDRA" in text or "mpich" in text.lower() else "an unknown MPI"


def _as_root(vendor: str) -> list[str]:
    if vendor != "Open MPI":
        return []
    return ["--oversubscribe", *(["--allow-run-as-root"] if os.geteuid() == 0 else [])]


def _has_children(pid: int) -> bool:
    try:
        children = psutil.Process(pid).children()
        return any(child.status() != psutil.STATUS_ZOMBIE for child in children)
    except psutil.NoSuchProcess:
        return False


def _recorded(run: Path) -> ProcessIdentity | None:
    try:
        return ProcessIdentity.from_json(json.loads((run / "control" / RECORD).read_text()))
    except (FileNotFoundError, ValueError):
        return None


def _last_line(log: Path | None) -> str:
    if log is None or not log.exists():
        return ""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("Error: ")]
    return (errors or [line for line in lines if line.strip()] or [""])[-1].strip()
