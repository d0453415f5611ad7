"""The shell on Ray: the coordinator's hands are detached actors, found by name after its death.

One placement group holds the CPUs of the ranks and of the MD slots for as long as the campaign
lasts. Actors that die are restarted by Ray and asked again; jobs that were in a dead pilot are
lost, and tried again.
"""

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray._private.state import available_resources_per_node
from ray.exceptions import (
    GetTimeoutError,
    RayActorError,
    RayTaskError,
)
from ray.util.placement_group import (
    PlacementGroup,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from campaign.configuration import CampaignSetup
from campaign.control import FolderControls
from campaign.embedder import Embedder
from campaign.events import (
    BatchEmbedded,
    ContinuumEnded,
    from_json,
)
from campaign.local_executor import (
    AttachedContinuum,
    ThreadFeedback,
    prepared_truth,
)
from campaign.mpi_launcher import LaunchError, LaunchSettings
from campaign.pilot import Pilot
from campaign.placement import spread
from campaign.rank_launcher import RankLauncher
from campaign.ray_bridge import (
    INTAKE,
    NAMESPACE_VARIABLE,
    ONCE,
    BridgeReader,
    Intake,
    StandingQuestion,
    first_line,
)
from campaign.ray_cluster import MissingResources, check_resources, environment_for_ranks
from campaign.ray_pilots import RayPilots
from campaign.shell_protocol import EmbeddingFailed, Survivors
from campaign.spool import read_incarnation, write_incarnation

GROUP = "campaign"
_LONG_S = 5.0
_IDLE_S, _FEEDBACK_LOOK_S = 0.5, 0.1
_LAUNCH_LIMIT_S = 300.0
_RESERVE_LIMIT_S = 60.0
_END_LIMIT_S = 5.0
_EMBEDDER_RETRIES = 2
_DETACHED = {"lifetime": "detached", "get_if_exists": True, "max_restarts": -1}


class RayEmbedders:
    """One snapshot at a time on each actor; a dead actor's snapshot goes to its successor."""

    def __init__(self, actors: Sequence[Any], version: str) -> None:
        self._idle = list(actors)
        self._version = version
        self._queue: list[int] = []
        self._asked: dict[Any, tuple[Any, int]] = {}  # actor and snapshot by reference

    @property
    def version(self) -> str:
        return self._version

    @property
    def references(self) -> list[Any]:
        return list(self._asked)

    def embed(self, snapshot_index: int) -> None:
        self._queue.append(snapshot_index)
        self._hand_out()

    def poll(self) -> list[BatchEmbedded | EmbeddingFailed]:
        if not self._asked:
            return []
        done, _ = ray.wait(self.references, num_returns=len(self._asked), timeout=0)
        results = []
        for reference in done:
            actor, snapshot = self._asked.pop(reference)
            self._idle.append(actor)
            results.append(_embedding(reference, snapshot))
        self._hand_out()
        return results

    def _hand_out(self) -> None:
        while self._queue and self._idle:
            actor, snapshot = self._idle.pop(0), self._queue.pop(0)
            self._asked[actor.embed.remote(snapshot)] = (actor, snapshot)


def _embedding(reference: Any, snapshot: int) -> BatchEmbedded | EmbeddingFailed:
    try:
        answer = ray.get(reference)
    except (RayActorError, RayTaskError) as error:
        return EmbeddingFailed(snapshot_index=snapshot, message=first_line(error))
    if "failed" in answer:
        return EmbeddingFailed(snapshot_index=snapshot, message=answer["failed"])
    event = from_json(answer)
    if not isinstance(event, BatchEmbedded):
        raise TypeError(f"an embedder answered with {event!r}")
    return event


class RayContinuum:
    """Ranks behind the launcher actor."""

    def __init__(self, run: Path, actor: Any) -> None:
        self._run, self._actor = run, actor
        self._incarnation = 0
        self.question = StandingQuestion(
            lambda: actor.ended.options(**ONCE).remote(self._incarnation, _LONG_S)
        )

    def adopt(self) -> int:
        """The incarnation that outlived an earlier coordinator, 0 if none; others are ended."""
        self._incarnation = ray.get(self._actor.running.remote(), timeout=_LAUNCH_LIMIT_S)
        if not self._incarnation:
            ray.get(self._actor.end_stale.remote(), timeout=_LAUNCH_LIMIT_S)
        return self._incarnation

    def launch(self, incarnation: int, last_snapshot: int) -> int:
        asked = self._actor.launch.remote(incarnation, last_snapshot)
        try:
            continues_from = ray.get(asked, timeout=_LAUNCH_LIMIT_S)
        except RayTaskError as error:
            raise LaunchError(first_line(error.cause or error)) from error
        self._incarnation = incarnation
        return int(continues_from)

    def poll(self) -> ContinuumEnded | None:
        if not self._incarnation:
            return None
        try:
            end = self.question.answer()
        except RayActorError:
            return None  # it is being restarted, and will say that its ranks are gone
        if end is None or end["incarnation"] != self._incarnation:
            return None
        self._incarnation = 0
        return ContinuumEnded(**end)

    def stop(self) -> None:
        if self._incarnation:
            ray.get(self._actor.stop.remote(), timeout=_LAUNCH_LIMIT_S)


class RayShell:
    """All of it, as actors in the namespace of the run."""

    name = "ray"

    def __init__(self, run: Path, setup: CampaignSetup, encoder_version: str) -> None:
        """Find or make the actors. Raises MissingResources where there is no room for them."""
        config = setup.config
        self._run = run
        self._kept: list[Any] = []
        self._groups: list[PlacementGroup] = []
        launched = config.continuum.source == "launched"
        check_resources(**needs(setup))
        self.controls = FolderControls(run)
        self.feedback = ThreadFeedback(run, setup)
        self.intake = BridgeReader(run, self._actor(Intake, INTAKE, str(run), max_task_retries=-1))
        self.continuum: RayContinuum | AttachedContinuum = AttachedContinuum()
        if launched:
            self.continuum = RayContinuum(run, self._rank_launcher(setup))
        elif read_incarnation(run) is None:
            write_incarnation(run, 1)
        self.pilots = RayPilots(run, self._pilots(setup))
        self.embedders = RayEmbedders(self._embedders(setup), encoder_version)

    def survivors(self) -> Survivors:
        continuum = self.continuum.adopt() if isinstance(self.continuum, RayContinuum) else 0
        return Survivors(jobs=self.pilots.survivors(), continuum=continuum)

    def now(self) -> float:
        return time.time()

    def wait(self, seconds: float) -> None:
        """Until something can be polled; commands and feedback are looked at now and then."""
        self.pilots.flush()
        questions = [self.intake.question]
        if isinstance(self.continuum, RayContinuum):
            questions.append(self.continuum.question)
        references = [each.reference for each in questions if each.reference is not None]
        references += self.pilots.references + self.embedders.references
        if references:
            patience_s = _FEEDBACK_LOOK_S if self.feedback.busy else _IDLE_S
            ray.wait(references, timeout=max(seconds, patience_s), fetch_local=False)
        else:
            time.sleep(seconds)

    def close(self) -> None:
        """End the actors and what they run, and give their CPUs back."""
        if isinstance(self.continuum, RayContinuum):
            self.continuum.stop()
        self.feedback.close()
        for actor in self._kept:
            ray.kill(actor)
        for actor in self._kept:  # a group that is removed under a live actor has it restarted
            with suppress(RayActorError, GetTimeoutError):
                ray.get(actor.__ray_ready__.options(**ONCE).remote(), timeout=_END_LIMIT_S)
        for group in self._groups:
            remove_placement_group(group)

    def _actor(self, kind: type, name: str, *arguments: Any, **options: Any) -> Any:
        remote: Any = ray.remote(kind).options(
            **{**_DETACHED, "name": name, "num_cpus": 0, **options}
        )
        actor = remote.remote(*arguments)
        self._kept.append(actor)
        return actor

    def _rank_launcher(self, setup: CampaignSetup) -> Any:
        config = setup.config
        group = self._group("ranks", config.continuum.ranks)
        nodes = _nodes_of(group)
        settings = LaunchSettings(
            run=self._run,
            ranks=config.continuum.ranks,
            transport="spool" if config.bridge.transport == "spool" else "ray",
            pacing=config.feedback.pacing,
            hosts=tuple((address, cpus) for _, address, cpus in nodes) if len(nodes) > 1 else (),
            environment={
                **environment_for_ranks(ray.get_runtime_context().gcs_address),
                NAMESPACE_VARIABLE: ray.get_runtime_context().namespace,
            },
        )
        strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0)
        return self._actor(
            *(RankLauncher, "launcher", settings),
            num_cpus=nodes[0][2],
            max_task_retries=-1,
            scheduling_strategy=strategy,
        )

    def _pilots(self, setup: CampaignSetup) -> list[tuple[Any, int]]:
        section = setup.config.molecular_dynamics
        truth = prepared_truth(self._run, setup)
        group = self._group("slots", section.slots)
        pilots = []
        for number, (bundle, _, cpus) in enumerate(_nodes_of(group)):
            strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=bundle)
            actor = self._actor(
                *(Pilot, f"pilot-{number}", str(self._run), number, cpus, section.engines),
                None if truth is None else str(truth),
                num_cpus=cpus,
                scheduling_strategy=strategy,
            )
            pilots.append((actor, cpus))
        return pilots

    def _embedders(self, setup: CampaignSetup) -> list[Any]:
        section = setup.config.embedding
        gpus = gpu_share(section.use_gpu, section.workers)
        device = "cuda" if gpus else "cpu"
        return [
            self._actor(
                *(Embedder, f"embedder-{number}", str(self._run), section.batch, device),
                num_gpus=gpus,
                max_task_retries=_EMBEDDER_RETRIES,
                scheduling_strategy="SPREAD",
            )
            for number in range(section.workers)
        ]

    def _group(self, name: str, cpus: int) -> PlacementGroup:
        """Find or make a placement group of one bundle a node."""
        try:
            group: PlacementGroup = get_placement_group(name)
        except ValueError:
            try:
                bundles = spread(cpus, free_cpus())
            except ValueError as error:
                raise MissingResources(f"no room for {cpus} {name} now: {error}") from None
            sizes = [{"CPU": float(count)} for count in bundles.values()]
            group = placement_group(sizes, strategy="PACK", name=name, lifetime="detached")
        self._groups.append(group)
        if not group.wait(_RESERVE_LIMIT_S):
            raise MissingResources(
                f"{cpus} CPUs for {name} could not be had in {_RESERVE_LIMIT_S:g} s:"
                " others use the cluster"
            )
        return group


def needs(setup: CampaignSetup) -> dict[str, Any]:
    """Arguments of `check_resources`: what a campaign needs, and what for."""
    config = setup.config
    ranks = config.continuum.ranks if config.continuum.source == "launched" else 0
    slots = config.molecular_dynamics.slots
    needed = {"CPU": float(ranks + slots)}
    if config.embedding.use_gpu == "yes":
        needed["GPU"] = 1.0
    return {"needed": needed, "why": f"{ranks} ranks, {slots} MD slots"}


def free_cpus() -> dict[str, float]:
    """CPUs that nobody has reserved, by node."""
    nodes = available_resources_per_node()  # type: ignore[no-untyped-call]
    return {node: float(resources.get("CPU", 0)) for node, resources in nodes.items()}


def gpu_share(wish: str, workers: int) -> float:
    """What part of a GPU each embedder takes; 0 where it works on a CPU."""
    if wish == "no":
        return 0.0
    gpus = float(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]
    return min(1.0, math.floor(100 * gpus / workers) / 100)


def _nodes_of(group: PlacementGroup) -> list[tuple[int, str, int]]:
    """Bundle, address of its node, and CPUs, in the order of the bundles."""
    addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}  # type: ignore[no-untyped-call]
    where = placement_group_table(group)["bundles_to_node_id"]
    return [
        (bundle, addresses[where[bundle]], int(resources["CPU"]))
        for bundle, resources in enumerate(group.bundle_specs)
    ]
