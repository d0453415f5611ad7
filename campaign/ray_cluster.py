"""A Ray cluster for a campaign: one of its own that ends with it, or one that is there already.

Tokens are always on for a cluster of our own. What is missing (Ray, a token, CPUs) is said in one
sentence before anything is started, and nothing waits without a limit.
"""

import json
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import psutil

from campaign.process_identity import ProcessIdentity, kill, marked_processes
from continuum.atomic_file import write_atomically
from ml.training.errors import ClusterError
from ml.training.ray_connection import TOKEN_VARIABLES, check_port, join, start

LOGGER = logging.getLogger(__name__)
MARK = "BILAYER_CLUSTER_OF"
RECORD = "cluster.json"
_OBJECT_STORE_BYTES = 512 << 20
_LONGEST_FOLDER = 40  # unix socket names are limited to 107 characters
_SETTLE_S = 5.0
_VITAL = ("raylet", "gcs_server")
_IDLE_SERVICES = ("log_monitor.py", "monitor.py", "dashboard.py")


class MissingResources(ValueError):
    """The cluster is smaller than the campaign asks for."""


def namespace_of(run: Path) -> str:
    """The Ray namespace of a run's actors, the same from wherever they are looked for."""
    return f"campaign-{blake2b(str(run.resolve()).encode(), digest_size=6).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Cluster:
    """What this process is connected to, through which node.

    `vital` are the processes of a cluster of our own.
    """

    address: str
    vital: tuple[psutil.Process, ...] = ()
    node: str = ""

    def check(self) -> None:
        """Raise ClusterError where the cluster is gone; Ray itself may wait for it for ever."""
        self.check_vital()
        check_port(self.address)
        if self.node:
            _check_node(self.address, self.node)

    def check_vital(self) -> None:
        """The part of `check` that is cheap; actors may go on for a minute without their head."""
        dead = [process.pid for process in self.vital if not _lives(process)]
        if dead:
            raise ClusterError(f"the local Ray cluster died (process {dead[0]})")


@contextmanager
def own_cluster(run: Path, resources: Mapping[str, float], *, dashboard: bool) -> Iterator[Cluster]:
    """A cluster on this machine with these logical resources, connected to.

    It has its own token, ports and temporary folder, and ends with the block: what does not end by
    itself is killed by pid. Raises ClusterError where it does not start.
    """
    end_stale_cluster(run)
    folder = Path(tempfile.mkdtemp(prefix="bilayer-", dir=_short_temporary_folder()))
    mark = secrets.token_hex(8)
    record = {"folder": str(folder), "mark": mark, "driver": ProcessIdentity.of().as_json()}
    (run / "control").mkdir(parents=True, exist_ok=True)
    write_atomically(run / "control" / RECORD, json.dumps(record) + "\n")
    chosen = {} if dashboard else {key: os.environ.get(key, v) for key, v in _LEAN.items()}
    added = {MARK: mark, **_own_token(folder), **_QUIET, **_AS_URGENT_AS_WE_ARE, **chosen}
    saved = {name: os.environ.get(name) for name in (*added, "RAY_ADDRESS", "RAY_AUTH_TOKEN")}
    _set_environment({**dict.fromkeys(saved), **added})
    import ray

    vital: list[psutil.Process] = []
    try:
        start(
            namespace=namespace_of(run),
            num_cpus=int(resources.get("CPU", 1)),
            num_gpus=int(resources["GPU"]) if "GPU" in resources else None,
            include_dashboard=dashboard,
            dashboard_host="127.0.0.1",
            object_store_memory=_OBJECT_STORE_BYTES,
            log_to_driver=False,
            _temp_dir=str(folder),
        )
        if not dashboard:
            _end_idle_services(mark)
        vital = [p for p in marked_processes(MARK, mark) if p.name() in _VITAL]
        yield Cluster(str(ray.get_runtime_context().gcs_address), tuple(vital))
    finally:
        if not all(map(_lives, vital)):
            _end_marked(mark, settle_s=0.0)
        ray.shutdown()
        _end_marked(mark)
        shutil.rmtree(folder, ignore_errors=True)
        (run / "control" / RECORD).unlink(missing_ok=True)
        _set_environment(saved)


def end_stale_cluster(run: Path) -> None:
    """End what is left of the cluster of a driver of this run that died; nothing where it lives."""
    path = run / "control" / RECORD
    try:
        record = json.loads(path.read_text())
        driver = ProcessIdentity.from_json(record["driver"])
        folder, mark = Path(record["folder"]), str(record["mark"])
    except (FileNotFoundError, ValueError, KeyError):
        return
    if not driver.here() or driver.process() is not None:
        return
    _end_marked(mark, settle_s=0.0)
    shutil.rmtree(folder, ignore_errors=True)
    path.unlink(missing_ok=True)


@contextmanager
def attached(run: Path, address: str) -> Iterator[Cluster]:
    """A connection to a cluster that is there already, which stays as it is.

    Raises ClusterError where nothing answers at the address, or refuses the token.
    """
    os.environ.update(_QUIET)
    import ray

    join(address, namespace=namespace_of(run), log_to_driver=False)
    try:
        context = ray.get_runtime_context()
        yield Cluster(str(context.gcs_address), node=context.get_node_id())
    finally:
        ray.shutdown()


def check_resources(needed: Mapping[str, float], why: str) -> None:
    """Raise MissingResources where the connected cluster has less in all than is needed."""
    import ray

    there = ray.cluster_resources()  # type: ignore[no-untyped-call]
    missing = [
        f"{amount:g} {name} are needed and {there.get(name, 0):g} are there"
        for name, amount in needed.items()
        if amount > there.get(name, 0)
    ]
    if missing:
        raise MissingResources(
            f"the Ray cluster is too small: {'; '.join(missing)} ({why}). Add nodes, or lower"
            " molecular_dynamics.slots or continuum.ranks"
        )


def environment_for_ranks(address: str) -> dict[str, str]:
    """What a process needs to connect to the cluster that this one is connected to."""
    token = {key: os.environ[key] for key in TOKEN_VARIABLES if key in os.environ}
    return {"RAY_ADDRESS": address, **token}


_AS_URGENT_AS_WE_ARE = {"RAY_worker_niceness": "0"}
# On one machine that nobody watches, Ray's looks at itself cost more than what it does for us.
# Where the environment says otherwise (`RAY_enable_metrics_collection=1`), it is as that says.
_LEAN = {
    "RAY_enable_metrics_collection": "0",
    "RAY_event_stats": "0",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_memory_monitor_refresh_ms": "2000",
    "RAY_raylet_report_resources_period_milliseconds": "1000",
    "RAY_gcs_pull_resource_loads_period_milliseconds": "10000",
    "RAY_raylet_check_gc_period_milliseconds": "5000",
    "RAY_object_manager_timer_freq_ms": "1000",
    "RAY_io_context_monitor_probe_interval_ms": "60000",
    "REPORTER_UPDATE_INTERVAL_MS": "60000",
}
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}


def _end_idle_services(mark: str) -> None:
    """The log monitor, the autoscaler and the API server have nobody to serve without a dashboard.

    `ray.init` has no option that leaves them out.
    """
    for process in marked_processes(MARK, mark):
        with suppress(psutil.NoSuchProcess):
            if any(Path(word).name in _IDLE_SERVICES for word in process.cmdline()):
                process.kill()
                process.wait(10.0)


def _own_token(folder: Path) -> dict[str, str]:
    path = folder / "token"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}


def _set_environment(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _check_node(address: str, node: str) -> None:
    import ray

    alive = {each["NodeID"] for each in ray.nodes() if each["Alive"]}  # type: ignore[no-untyped-call]
    if node not in alive:
        raise ClusterError(
            f"the node through which this process used the Ray cluster at {address} died;"
            f" {len(alive)} others are alive"
        )


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _end_marked(mark: str, settle_s: float = _SETTLE_S) -> None:
    """Wait for the processes of a cluster to end, then kill those that have not."""
    deadline = time.monotonic() + settle_s
    while (left := marked_processes(MARK, mark)) and time.monotonic() < deadline:
        psutil.wait_procs(left, timeout=0.2)
    stubborn = kill(left)
    if stubborn:
        LOGGER.warning("processes of the cluster do not end: %s", [p.pid for p in stubborn])


def _short_temporary_folder() -> str:
    folder = tempfile.gettempdir()
    return folder if len(folder) <= _LONGEST_FOLDER else "/tmp"
