"""Costs of the metric: inference, training, loading and evaluation, on patches of pure noise.

On a CPU, times are CPU times of the process with one thread of tensor operations, medians of
several repeats; the evaluation alone is timed by the wall, on all cores.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.keras_peer import FORMATS, keras_step, keras_there
from ml.encoder import Encoder, EncoderInfo
from ml.metric.configuration import MetricConfig, read_metric_config
from ml.metric.criteria import Embedding, embed, judge
from ml.metric.deployment import deployed
from ml.metric.networks import NetworkSpec, build_network
from ml.metric.task import MetricTask
from ml.metric.triplet_losses import metric_loss
from ml.patch_set import CHANNELS, NODES, PatchSet, Standardisation
from ml.training.loop import fit
from ml.training.worker import Worker

Result = dict[str, Any]

_HISTORIES = 50


def noise_patches(count: int, seed: int = 0) -> PatchSet:
    """Patches of plausible densities and kinds without any structure, float16 in memory."""
    random = np.random.default_rng(seed)
    density = random.standard_normal((count, len(CHANNELS), NODES, NODES), dtype=np.float32)
    slot = (np.arange(count) % _HISTORIES).astype(np.int32)
    snapshot = np.arange(count) // _HISTORIES
    return PatchSet(
        density=(0.25 + 0.03 * density).astype(np.float16),
        patch_id=(snapshot << 20 | slot).astype(np.uint64),
        run=np.zeros(count, np.int16),
        snapshot_index=snapshot.astype(np.int64),
        time_us=snapshot * 0.5,
        slot=slot,
        kind=random.integers(0, 4, count).astype(np.uint8),
        central_state=np.zeros(count, np.int8),
        n_ras=np.ones(count, np.uint8),
        n_raf=np.zeros(count, np.uint8),
        centre_nm=random.uniform(0, 500, (count, 2)),
        parameter_version=np.zeros(count, np.int32),
        side_nm=np.array([500.0]),
        fingerprint="noise",
    )


def measure_inference(encoder: Encoder, count: int, repeats: int) -> Result:
    """Patches a second of `Encoder.encode` on one core, from float16 and float32 densities."""
    half = noise_patches(count).density
    single = half.astype(np.float32)
    rates = {
        name: count / _median_cpu_s(lambda d=density: encoder.encode(d), repeats)
        for name, density in (("float32", single), ("float16", half))
    }
    return {
        "patches_per_s_one_core": rates["float32"],
        "patches_per_s_one_core_from_float16": rates["float16"],
        "patches": count,
    }


def measure_inference_on_gpu(kind: str, count: int, repeats: int) -> Result:
    """Patches a second from densities that lie in the memory of the GPU."""
    encoder = untrained_encoder(kind, "cuda")
    density = torch.rand(count, len(CHANNELS), NODES, NODES, device="cuda")

    def work() -> None:
        encoder.embed(density)
        torch.cuda.synchronize()

    return {"patches_per_s": count / _median_wall_s(work, repeats), "patches": count}


def measure_training(batches: int, repeats: int) -> Result:
    """Our loop with all it loads, our step alone, and the step of the same network in Keras.

    The preset `ours`: batches of 256 patches and their five transforms. `loop` is a whole epoch of
    `batches` batches, loading, standardising, profiling and transforming included.
    """
    config = read_metric_config("ours", ("training.threads=1", "training.use_gpu=false"))
    task, batch = _task(config, batches)
    _epoch(task)  # imports, first allocations
    began = time.process_time()
    records = _epoch(task)
    loop_s = (time.process_time() - began) / batches
    size = config.training.batch_size
    load_s = _median_cpu_s(lambda: task.load("training", np.arange(size), 0), repeats)
    images, loss_of = _prepared(task, batch, config)
    steps = {"ours": _our_step(config, images, loss_of)}
    parameters = 0
    if keras_there():
        for data_format in FORMATS:
            steps[data_format], parameters = keras_step(data_format, images, loss_of)
    step_s = {name: _median_cpu_s(step, repeats) for name, step in steps.items()}
    result: Result = {
        "batch_patches": size,
        "images_per_batch": len(images),
        "loop_patches_per_s": size / loop_s,
        "step_patches_per_s": size / step_s["ours"],
        "loading_share_of_cpu": load_s / loop_s,
        "waiting_share_of_wall": records[-1].waiting_share,
    }
    if keras_there():
        peer = min(FORMATS, key=lambda name: step_s[name])
        result |= {
            "keras_parameters": parameters,
            "keras_data_format": peer,
            "keras_step_patches_per_s": size / step_s[peer],
            "keras_step_patches_per_s_by_format": {name: size / step_s[name] for name in FORMATS},
            "step_speed_ratio_to_keras": step_s[peer] / step_s["ours"],
            "loop_speed_ratio_to_keras_step": step_s[peer] / loop_s,
        }
    return result


def measure_evaluation(judged: int, embedded: int, device: str) -> Result:
    """The criteria of `judged` patches (all pairs), and embedding `embedded` with transforms.

    `s_for_30000_patches` scales pairs by their number and embeddings by theirs.
    """
    random = np.random.default_rng(1)
    found = Embedding(
        vectors=random.standard_normal((judged, 9)).astype(np.float32),
        transform_distances=np.abs(random.standard_normal((judged, 5))) * 1e-3,
    )
    types = random.integers(0, 4, judged)
    profiles = random.standard_normal((judged, 8, 38)).astype(np.float32)
    few = slice(0, 500)
    judge(  # compiles the kernels
        Embedding(vectors=found.vectors[few], transform_distances=found.transform_distances[few]),
        types[few], profiles[few], factor=0.1, device=device,
    )  # fmt: skip
    wall, cpu = time.perf_counter(), time.process_time()
    judge(found, types, profiles, factor=0.1, device=device)
    judge_s, judge_cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    encoder = untrained_encoder("published", device)
    patches = noise_patches(min(embedded, 3000))
    index = np.arange(embedded) % len(patches)
    wall, cpu = time.perf_counter(), time.process_time()
    embed(encoder.encode, patches, index)
    embed_s, embed_cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    pairs = judged * (judged - 1) / 2
    more_pairs = 30_000 * 29_999 / 2 / pairs
    return {
        "device": device,
        "threads": torch.get_num_threads(),
        "patches_judged": judged,
        "pairs": int(pairs),
        "criteria_s": judge_s,
        "criteria_cpu_s": judge_cpu_s,
        "patches_embedded_six_times": embedded,
        "embedding_s": embed_s,
        "embedding_cpu_s": embed_cpu_s,
        "s_for_30000_patches": judge_s * more_pairs + embed_s * 30_000 / embedded,
        "cpu_s_for_30000_patches": judge_cpu_s * more_pairs + embed_cpu_s * 30_000 / embedded,
    }


def untrained_encoder(kind: str, device: str) -> Encoder:
    """An untrained encoder: what it costs does not depend on its weights."""
    spec = NetworkSpec.model_validate({"kind": kind})
    moments = {"mean": np.full(14, 0.25, np.float32), "std": np.full(14, 0.03, np.float32)}
    network = build_network(spec, seed=0).eval()
    info = EncoderInfo.model_construct(network=spec, version="untrained")
    where = torch.device(device)
    return Encoder(info, deployed(network, Standardisation(**moments)).to(where), where)


def _task(config: MetricConfig, batches: int) -> tuple[MetricTask, dict[str, torch.Tensor]]:
    size = config.training.batch_size
    wanted = int(batches * size / (1 - config.data.validation_share))
    task = MetricTask(config, noise_patches(-(-wanted // _HISTORIES) * _HISTORIES))
    return task, task.load("training", np.arange(size), 0)


def _epoch(task: MetricTask) -> Any:
    """The records of one epoch of our loop."""
    keeper = _NothingKept()
    settings = task.settings.model_copy(update={"epochs": 1})
    one = _OneEpoch(task, settings)
    fit(one, Worker(device=torch.device("cpu")), keeper)
    return keeper.records


class _OneEpoch:
    """A task whose settings say one epoch, and which has next to nothing to validate by."""

    def __init__(self, task: MetricTask, settings: Any) -> None:
        self._task, self.settings = task, settings

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def size(self, split: Any) -> int:
        return self._task.size(split) if split == "training" else 2


class _NothingKept:
    records: Any = ()

    def restore(self, progress: Any) -> None:
        """There is nothing to continue."""

    def keep(self, progress: Any) -> None:
        self.records = progress.records


def _prepared(
    task: MetricTask, batch: dict[str, torch.Tensor], config: MetricConfig
) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
    """The images that the network sees in one step, and the loss of their embeddings."""
    seen: list[torch.Tensor] = []

    class Watched(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return images.new_zeros((len(images), 9))

    task.outputs(Watched(), batch)
    weights = config.loss.as_loss_weights()

    def loss_of(z: torch.Tensor) -> torch.Tensor:
        views = z.unflatten(0, (-1, len(batch["kind"]))).transpose(0, 1)
        return metric_loss(views, batch["kind"], batch["profiles"], weights)[0]

    return seen[0], loss_of


def _our_step(
    config: MetricConfig,
    images: torch.Tensor,
    loss_of: Callable[[torch.Tensor], torch.Tensor],
) -> Callable[[], float]:
    model = build_network(config.network, seed=0).train()
    optimiser = torch.optim.Adam(model.parameters())

    def step() -> float:
        loss = loss_of(model(images))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    return step


def _median_cpu_s(work: Callable[[], object], repeats: int) -> float:
    return _median(work, repeats, time.process_time)


def _median_wall_s(work: Callable[[], object], repeats: int) -> float:
    return _median(work, repeats, time.perf_counter)


def _median(work: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    work()
    times: list[float] = []
    for _ in range(repeats):
        start = clock()
        work()
        times.append(clock() - start)
    return statistics.median(times)
