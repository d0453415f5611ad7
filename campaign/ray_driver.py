"""A campaign on Ray: a detached coordinator that carries it on, and a thin driver that watches it.

The driver may die: the coordinator goes on, and stops in good order only when no driver has come
back for a while. The coordinator may die: Ray restarts it, and it takes up the journal.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from campaign.configuration import CampaignSetup, rules_of
from campaign.control import send_command
from campaign.coordinator import Watcher, nobody
from campaign.encoder_store import encoder_folder
from campaign.journal_follower import JournalFollower
from campaign.process_identity import die_with_parent
from campaign.ray_bridge import first_line
from campaign.ray_cluster import (
    Cluster,
    attached,
    check_resources,
    end_stale_cluster,
    own_cluster,
)
from campaign.ray_metrics import CampaignMetrics
from campaign.ray_shell import RayShell, needs
from campaign.run_folder import fold, read_setup, read_state
from campaign.run_lock import RunInUse, holder
from campaign.running import carry_on, stopping_on_signals
from campaign.shell_protocol import Shell
from campaign.state import CampaignState, apply
from ml.training.errors import ClusterError

LOGGER = logging.getLogger(__name__)
COORDINATOR = "coordinator"
_LOOK_S = 0.5
_FOLLOW_S = 1.0  # between two looks at the journal
_LEASE_LOOK_S = 1.0
_NAME_LIMIT_S = 30.0
_PATIENCE_S = 3.0  # until the cluster is asked whether it lives
LEASE_S = 900.0


class CampaignActor:
    """The coordinator's process: a thread that carries the campaign on from its first moment."""

    def __init__(self, run: str, repair: bool, lease_s: float, after: int) -> None:
        """`after` is the number of the last coordinator before this actor's first life."""
        die_with_parent()
        self._run, self._lease_s = Path(run), lease_s
        self._leased_s = time.monotonic()
        self._ended = ThreadPoolExecutor(1, thread_name_prefix="coordinator").submit(
            self._carry_on, repair, after
        )
        self._awaited: asyncio.Future[str] | None = None
        threading.Thread(target=self._watch_lease, name="lease", daemon=True).start()

    async def outcome(self, wait_s: float) -> str | None:
        """Why the campaign ended, once it has; renews the lease. Raises what ended it instead."""
        self._leased_s = time.monotonic()
        self._awaited = self._awaited or asyncio.wrap_future(self._ended)
        await asyncio.wait({self._awaited}, timeout=wait_s)
        return self._awaited.result() if self._awaited.done() else None

    def _carry_on(self, repair: bool, after: int) -> str:
        metrics = CampaignMetrics(self._run.name)
        state = carry_on(self._run, open_ray_shell, watch=metrics.watch, repair=repair, after=after)
        return state.finished or ""

    def _watch_lease(self) -> None:
        """Without a driver for too long, stop the campaign, and leave the cluster once it ended."""
        own = ray.get_runtime_context().current_actor
        while True:
            time.sleep(min(_LEASE_LOOK_S, self._lease_s))
            if time.monotonic() - self._leased_s <= self._lease_s:
                continue
            if not self._ended.done():
                send_command(self._run, "stop")
                wait([self._ended])
            ray.kill(own)
            return


@contextmanager
def open_ray_shell(run: Path, setup: CampaignSetup) -> Iterator[Shell]:
    """The shell on the cluster that this process is connected to, ended with the block."""
    shell = RayShell(run, setup, encoder_folder(run).name)
    try:
        yield shell
    finally:
        shell.close()


def carry_on_with_ray(
    run: Path,
    *,
    address: str | None = None,
    watch: Watcher = nobody,
    repair: bool = False,
    lease_s: float = LEASE_S,
) -> CampaignState:
    """Carry a campaign on with Ray, at `address` or $RAY_ADDRESS or in a cluster of its own.

    A coordinator that is at work on the run already is joined. Raises ClusterError,
    MissingResources, RunInUse, and what `running.carry_on` raises.
    """
    setup = read_setup(run)
    address = address or os.environ.get("RAY_ADDRESS")
    follower = JournalFollower(run / "journal")
    state = fold(rules_of(setup), list(follower.new()))
    with _cluster(run, setup, address) as cluster:
        after = state.shell.incarnation if state.shell else 0
        actor = _running_coordinator(cluster)
        if actor is None:
            actor = _new_coordinator(run, setup, repair, lease_s, after)
        with stopping_on_signals(run):
            _follow(state, follower, cluster, actor, watch)
        ray.kill(actor)
    return read_state(run)[1]


def _cluster(
    run: Path, setup: CampaignSetup, address: str | None
) -> AbstractContextManager[Cluster]:
    if address:
        return attached(run, address)
    end_stale_cluster(run)
    _require_unused(run)
    return own_cluster(run, needs(setup)["needed"], dashboard=False)


def _require_unused(run: Path) -> None:
    other = holder(run / "journal")
    if other is not None:
        raise RunInUse(f"{run} is in use by a live campaign: process {other.pid} on {other.host}")


def _running_coordinator(cluster: Cluster) -> Any | None:
    """The coordinator at work on the run; one whose campaign has ended is ended."""
    found = _named_coordinator()
    if found is None:
        return None
    try:
        if _asked(cluster, found, wait_s=0.0) is None:
            return found
    except (RayTaskError, RayActorError) as error:
        LOGGER.warning("an earlier coordinator had failed: %s", first_line(error))
    ray.kill(found)
    deadline = time.monotonic() + _NAME_LIMIT_S
    while _named_coordinator() is not None and time.monotonic() < deadline:
        time.sleep(_LOOK_S)  # its name is free only when it is gone
    return None


def _named_coordinator() -> Any | None:
    try:
        return ray.get_actor(COORDINATOR)
    except ValueError:
        return None


def _new_coordinator(
    run: Path, setup: CampaignSetup, repair: bool, lease_s: float, after: int
) -> Any:
    _require_unused(run)
    check_resources(**needs(setup))
    remote = ray.remote(CampaignActor).options(
        name=COORDINATOR,
        lifetime="detached",
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=-1,
    )
    return remote.remote(str(run.resolve()), repair, lease_s, after)


def _follow(
    state: CampaignState, follower: JournalFollower, cluster: Cluster, actor: Any, watch: Watcher
) -> None:
    """Show what the journal says until the campaign has ended. Raises what ended it."""
    finished = None
    while finished is None:
        cluster.check_vital()
        finished = _outcome(cluster, actor, _FOLLOW_S)
        for record in follower.new():
            apply(state, record.event)
            watch(state, record.event)


def _outcome(cluster: Cluster, actor: Any, wait_s: float) -> str | None:
    """Why the campaign ended, once it has. Raises what ended it, or ClusterError."""
    try:
        return _asked(cluster, actor, wait_s)
    except RayTaskError as error:
        raise error.cause or error from error
    except RayActorError as error:
        raise ClusterError(f"the coordinator cannot be kept alive: {error}") from error


def _asked(cluster: Cluster, actor: Any, wait_s: float) -> str | None:
    asked = actor.outcome.remote(wait_s)
    while not ray.wait([asked], timeout=_PATIENCE_S)[0]:
        cluster.check()
    finished: str | None = ray.get(asked)
    return finished
