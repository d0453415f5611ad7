"""The shell without Ray: ranks under mpiexec, threads that embed, worker processes for MD.

Everything it starts ends with it; what was durable is taken up again by the next one.
"""

import queue
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from campaign import feedback
from campaign.configuration import CampaignConfig, CampaignSetup
from campaign.control import FolderControls
from campaign.embedding import Encoder, embed_snapshot
from campaign.events import (
    BatchEmbedded,
    BatchIngested,
    ContinuumEnded,
    FeedbackMade,
    JobFailed,
    JobFinished,
    SlotCordoned,
)
from campaign.molecular_dynamics.hidden_truth import (
    FILE_NAME,
    true_model,
    truth_tables,
    write_truth,
)
from campaign.molecular_dynamics.job import Completion, JobSpec
from campaign.molecular_dynamics.worker_pool import SlotPool
from campaign.mpi_launcher import LaunchSettings, MpiLauncher
from campaign.plan import MakeFeedback, StartJob
from campaign.selection_weights import read_weights
from campaign.shell_protocol import EmbeddingFailed, FeedbackError, Slots, Survivors
from campaign.spool import (
    Permit,
    SpoolIntake,
    patch_path,
    read_incarnation,
    write_incarnation,
    write_permit,
)


class FolderIntake:
    """Batches from the spool; the file is the acknowledgement."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._spool: SpoolIntake | None = None

    def poll(self, expected: int) -> list[BatchIngested]:
        if self._spool is None:
            self._spool = SpoolIntake(self._run, expected)
        arrived = self._spool.poll()
        incarnation = (read_incarnation(self._run) or 0) if arrived else 0
        return [
            BatchIngested(
                snapshot_index=batch.snapshot_index,
                incarnation=incarnation,
                time_us=batch.time_us,
                count=batch.count,
                controls=batch.controls,
                crc32=batch.crc32,
                parameter_version=batch.parameter_version,
            )
            for batch in arrived
        ]

    def accepted(self, snapshot_index: int) -> None:
        """The sender went on when the file was durable."""

    def permit(self, snapshot_index: int, parameter_version: int) -> None:
        permit = Permit(snapshot_index=snapshot_index, parameter_version=parameter_version)
        write_permit(self._run, permit)


class ThreadEmbedders:
    """Threads that embed; the encoder leaves Python's lock while it works."""

    def __init__(self, run: Path, encoder: Encoder, workers: int, batch: int) -> None:
        self._run, self._encoder, self._batch = run, encoder, batch
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="embed")
        self._done: queue.SimpleQueue[BatchEmbedded | EmbeddingFailed] = queue.SimpleQueue()

    @property
    def version(self) -> str:
        return self._encoder.version

    def embed(self, snapshot_index: int) -> None:
        self._threads.submit(self._embed, snapshot_index)

    def poll(self) -> list[BatchEmbedded | EmbeddingFailed]:
        return [self._done.get() for _ in range(self._done.qsize())]

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def _embed(self, snapshot: int) -> None:
        try:
            self._done.put(embed_snapshot(self._run, snapshot, self._encoder, self._batch))
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            self._done.put(EmbeddingFailed(snapshot_index=snapshot, message=str(error)))


class PoolPilots:
    """The MD slots of this host."""

    def __init__(self, run: Path, config: CampaignConfig, truth: Path | None) -> None:
        self._run = run
        self._total = config.molecular_dynamics.slots
        self._pool = SlotPool(self._total, config.molecular_dynamics.engines, run, truth=truth)
        self._early: list[Completion] = []
        self._announced: set[int] = set()

    def slots(self) -> Slots:
        return Slots(total=self._total, free=self._pool.free, cordoned=len(self._pool.cordoned))

    def start(self, job: StartJob) -> int:
        return self._pool.start(job_spec(self._run, job))

    def poll(self) -> list[JobFinished | JobFailed | SlotCordoned]:
        completions = self._early + self._pool.poll()
        self._early = []
        events: list[JobFinished | JobFailed | SlotCordoned] = [
            event_of(completion) for completion in completions
        ]
        for slot, reason in self._pool.cordoned.items():
            if slot not in self._announced:
                self._announced.add(slot)
                events.append(SlotCordoned(slot=slot, reason=reason))
        return events

    def wait(self, seconds: float) -> None:
        """Until a job ends, or so long."""
        self._early += self._pool.poll(seconds)

    def close(self) -> None:
        self._pool.close()


class LaunchedContinuum:
    """Ranks under mpiexec."""

    def __init__(self, settings: LaunchSettings) -> None:
        self._launcher = MpiLauncher(settings)
        self._incarnation = 0  # of ranks that run
        self._stopped = 0  # incarnation whose end is to be told

    def launch(self, incarnation: int, last_snapshot: int) -> int:
        continues_from = self._launcher.launch(incarnation, last_snapshot)
        self._incarnation = incarnation
        return continues_from

    def poll(self) -> ContinuumEnded | None:
        if self._stopped:
            incarnation, self._stopped = self._stopped, 0
            return ContinuumEnded(
                incarnation=incarnation, exit_code=0, finished=False, message="stopped"
            )
        end = self._launcher.poll()
        if end is None:
            return None
        self._incarnation = 0
        return ContinuumEnded(
            incarnation=end.incarnation,
            exit_code=end.exit_code,
            finished=end.finished,
            message=end.message,
        )

    def stop(self) -> None:
        if self._incarnation:
            self._launcher.stop()
            self._stopped, self._incarnation = self._incarnation, 0

    def end_stale(self) -> None:
        """Kill what an earlier coordinator left, which must not write any more."""
        self._launcher.end_stale()


class AttachedContinuum:
    """Ranks that somebody else starts, or patches that are there already."""

    def launch(self, incarnation: int, last_snapshot: int) -> int:
        raise ValueError("continuum.source is attached: ranks are started by hand")

    def poll(self) -> ContinuumEnded | None:
        return None

    def stop(self) -> None:
        """They are not ours to stop; without permits they wait."""

    def end_stale(self) -> None:
        """They are not ours to end."""


def make_version(
    run: Path, setup: CampaignSetup, action: MakeFeedback, weights: dict[str, int]
) -> FeedbackMade:
    """Make a parameter version. Raises `feedback.FeedbackError`, ValueError or OSError."""
    jobs = (*action.earlier, *action.jobs)
    if setup.config.feedback.weights == "equal":
        weights = dict.fromkeys(jobs, 1)
    _, crc32 = feedback.make_feedback(
        run,
        action.version,
        jobs,
        weights,
        setup.model,
        prior_frames=setup.config.feedback.prior_frames,
        limits=setup.config.feedback.limits,
    )
    return FeedbackMade(
        version=action.version,
        boundary_snapshot=action.boundary_snapshot,
        jobs=action.jobs,
        crc32=crc32,
    )


class ThreadFeedback:
    """Makes parameter versions in a thread, one at a time."""

    def __init__(self, run: Path, setup: CampaignSetup) -> None:
        self._run, self._setup = run, setup
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="feedback")
        self._future: Future[FeedbackMade] | None = None

    @property
    def busy(self) -> bool:
        """Whether a version is in hand that `poll` has not reported."""
        return self._future is not None

    def begin(self, action: MakeFeedback) -> None:
        cut = action.boundary_snapshot - self._setup.config.feedback.lag_snapshots
        weights = read_weights(self._run / "selections", cut)
        self._future = self._thread.submit(make_version, self._run, self._setup, action, weights)

    def poll(self) -> FeedbackMade | None:
        if self._future is None or not self._future.done():
            return None
        future, self._future = self._future, None
        try:
            return future.result()
        except (feedback.FeedbackError, ValueError, OSError, ArithmeticError) as error:
            raise FeedbackError(str(error)) from error

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)


class LocalShell:
    """All of it in this process and its children."""

    name = "local"

    def __init__(self, run: Path, setup: CampaignSetup, encoder: Encoder) -> None:
        config = setup.config
        self.continuum: LaunchedContinuum | AttachedContinuum = AttachedContinuum()
        if config.continuum.source == "launched":
            self.continuum = LaunchedContinuum(
                LaunchSettings(run=run, ranks=config.continuum.ranks, pacing=config.feedback.pacing)
            )
        elif read_incarnation(run) is None:
            write_incarnation(run, 1)
        self.continuum.end_stale()
        self.intake = FolderIntake(run)
        self.controls = FolderControls(run)
        self.embedders = ThreadEmbedders(
            run, encoder, config.embedding.workers, config.embedding.batch
        )
        self.feedback = ThreadFeedback(run, setup)
        self.pilots = PoolPilots(run, config, prepared_truth(run, setup))

    def survivors(self) -> Survivors:
        """Workers end with the coordinator, and ranks were ended before."""
        return Survivors()

    def now(self) -> float:
        return time.time()

    def wait(self, seconds: float) -> None:
        self.pilots.wait(seconds)

    def close(self) -> None:
        self.continuum.stop()
        self.pilots.close()
        self.embedders.close()
        self.feedback.close()


def prepared_truth(run: Path, setup: CampaignSetup) -> Path | None:
    """Tables of the hidden truth for mock engines, made once a run; None where none needs them."""
    section = setup.config.molecular_dynamics
    if set(section.mix) <= {"command"}:
        return None
    path = run / FILE_NAME
    if not path.exists():
        write_truth(path, truth_tables(true_model(section.hidden_truth, setup.membrane)))
    return path


def job_spec(run: Path, job: StartJob) -> JobSpec:
    """What a worker is told of a job."""
    return JobSpec(
        job=job.job,
        attempt=job.attempt,
        patch_id=job.patch_id,
        patch_file=patch_path(run, job.snapshot_index),
        engine=job.engine,
        seed=job.seed,
        duration_us=job.duration_us,
        time_limit_s=job.time_limit_s,
        result_path=run / "md" / f"{job.job}.h5",
    )


def event_of(completion: Completion) -> JobFinished | JobFailed:
    """The event of an attempt that ended."""
    if completion.failure is not None:
        return JobFailed(
            job=completion.job,
            attempt=completion.attempt,
            failure=completion.failure,
            message=completion.message,
        )
    return JobFinished(
        job=completion.job,
        attempt=completion.attempt,
        crc32=completion.crc32,
        frames=completion.frames,
        simulated_us=completion.simulated_us,
        wall_s=completion.wall_s,
    )
