"""Benchmark of the analyses after a campaign: a million patches, or the contract's three.

python benchmarks/analysis.py [--quick] [--json] [--only SECTION ...] [--cores N]

Exact: dz and dz² of every pair of a history at some 125 lags up to half its length, every pair of a
snapshot within 60 nm, lipids and proteins of every patch. Sampled: R of dz with time (100,000
pairs, standard error below 0.003), embeddings outside the training data (20,000 a period, 0.0007),
criteria (30,000 patches, all their pairs), coverage (every patch selected and 200,000 others).
Every analysis embeds anew, which is most of its time. Patch files are read over and over: the disk
is not measured.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# Run as a script, this file's folder comes first: import from the project's root instead.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.report import Bar, Result, arguments_of, conclude, measure, opened, print_figures
from campaign.analysis.decorrelation import decorrelation_times, distance_curve
from campaign.analysis.drift_analysis import REFERENCE_PATCHES, Period, drift_between
from campaign.analysis.embedding import SHIPPED, EmbeddedSnapshot, embed_run
from campaign.analysis.evolution_time import evolution_time
from campaign.analysis.histories import histories_of
from campaign.analysis.judged_patches import JudgedPatches
from campaign.analysis.linear_theory import composition_in_time
from campaign.analysis.metric import judge_on_campaign
from campaign.analysis.space import relation_in_space
from campaign.analysis.time_correlation import correlation_with_time
from campaign.analysis.workers import Workers
from campaign.report_figures import EmbeddedPatches, coverage_numbers
from continuum import load_model
from continuum.patch_batch import PatchBatch
from continuum.patch_files import write_patches
from ml.metric.criteria import Embedding
from ml.patch_set import CHANNELS, PatchSet

PROTEINS, DIMENSION, SIDE_NM = 300, 9, 1000.0
MILLION = 1_000_000
SECTIONS = ("embedding", "decorrelation", "space", "drift", "coverage", "metric")
REQUIRED_S, REQUIRED_GB = 300.0, 2.0


class Benchmark:
    """The sections; each says how many patches it took and what a million would have taken."""

    def __init__(self, *, quick: bool, cores: int, millions: float) -> None:
        self.quick, self.cores = quick, cores
        self.frames = round(millions * MILLION / PROTEINS)

    def embedding(self) -> Result:
        """Patch files read and embedded by processes."""
        files, repeats = (2, 10) if self.quick else (12, 20)
        with tempfile.TemporaryDirectory() as folder:
            paths = [_write_file(Path(folder), index) for index in range(files)]
            workers = Workers(processes=self.cores)
            list(embed_run(paths[:1] * self.cores, SHIPPED, proteins_only=True, workers=workers))
            began = time.perf_counter()
            count = sum(
                len(snapshot.z)
                for snapshot in embed_run(
                    paths * repeats, SHIPPED, proteins_only=True, workers=workers
                )
            )
            return _told(count, time.perf_counter() - began)

    def decorrelation(self) -> Result:
        """Histories gathered, compared at all lags, fitted with intervals, inverted; theory."""
        snapshots = _snapshots(self.frames)
        began = time.perf_counter()
        histories = histories_of(snapshots, "synthetic")
        gathered = time.perf_counter()
        curve = distance_curve(histories.z, histories.interval_us, threads=self.cores)
        times = decorrelation_times(curve)
        evolution_time(curve, times, "synthetic")
        correlation_with_time(histories.z, histories.interval_us)
        composition_in_time(
            load_model("laptop-post-campaign"), histories, resamples=400, threads=self.cores
        )
        told = _told(PROTEINS * self.frames, time.perf_counter() - gathered)
        pairs = self.frames * (self.frames - 1) // 2 * PROTEINS
        return {
            **told,
            "pairs_of_histories": pairs,
            "pairs_compared": int(curve.pairs.sum()) * PROTEINS,
            "making_and_gathering_s": gathered - began,
            "fitted_us": times.fitted_us.value,
            "true_us": TAU_US,
        }

    def space(self) -> Result:
        """All pairs of each snapshot within 60 nm."""
        snapshots = list(_snapshots(min(self.frames, MILLION // PROTEINS)))
        began = time.perf_counter()
        found = relation_in_space(snapshots, SIDE_NM).relation
        count = PROTEINS * len(snapshots)
        pairs = found.near.all_pairs + found.far.all_pairs
        return {**_told(count, time.perf_counter() - began), "pairs_within_60_nm": pairs}

    def drift(self) -> Result:
        """Lipids, proteins and embeddings of a run against those of a reference."""
        count = PROTEINS * self.frames
        generator = np.random.default_rng(0)
        reference = _period("reference", count // 10, 0.0, generator)
        periods = [_period(f"period {i}", count // 3, 0.1 * i, generator) for i in range(3)]
        began = time.perf_counter()
        found = drift_between(reference, periods)
        error = float(np.sqrt(0.01 * 0.99 / REFERENCE_PATCHES))
        return {
            **_told(count, time.perf_counter() - began),
            "standard_error_of_share_outside": error,
            "outside": [each.outside for each in found],
        }

    def coverage(self) -> Result:
        """Selected patches among 200,000, which is where a run is thinned to."""
        count = 20_000 if self.quick else 200_000
        generator = np.random.default_rng(1)
        z = generator.standard_normal((count, DIMENSION)).astype(np.float32)
        selected = np.zeros(count, bool)
        selected[generator.choice(count, count // 100, replace=False)] = True
        began = time.perf_counter()
        kind = np.ones(count, np.uint8)
        coverage_numbers(EmbeddedPatches(z=z, kind=kind, selected=selected))
        taken = time.perf_counter() - began
        whole = taken * 200_000 / count
        return {"patches": count, "wall_s": taken, "s_for_1000000_patches": whole}

    def metric(self) -> Result:
        """Criteria and dz against dμ over all pairs; embedding them is told by `embedding`."""
        count = 3_000 if self.quick else 30_000
        judged = _judged(count)
        began = time.perf_counter()
        judge_on_campaign(judged, factor=0.1)
        taken = time.perf_counter() - began
        whole = taken * (30_000 / count) ** 2
        return {"patches": count, "wall_s": taken, "s_for_1000000_patches": whole}


TAU_US = 0.5
_INTERVAL_US = 0.01


def _snapshots(frames: int) -> Any:
    """Ornstein-Uhlenbeck embeddings of PROTEINS proteins, snapshot after snapshot."""
    generator = np.random.default_rng(2)
    keep = np.exp(-_INTERVAL_US / TAU_US)
    z = generator.standard_normal((PROTEINS, DIMENSION))
    slots = np.arange(PROTEINS, dtype=np.uint64)
    for index in range(frames):
        z = keep * z + np.sqrt(1 - keep**2) * generator.standard_normal(z.shape)
        yield EmbeddedSnapshot(
            snapshot_index=index,
            time_us=index * _INTERVAL_US,
            parameter_version=0,
            patch_id=(np.uint64(index) << np.uint64(20)) | slots,
            centre_nm=generator.uniform(0, SIDE_NM, (PROTEINS, 2)),
            central_state=np.zeros(PROTEINS, np.int8),
            proteins=np.ones(PROTEINS, np.int64),
            kind=np.ones(PROTEINS, np.uint8),
            mean_density=generator.random((PROTEINS, len(CHANNELS)), np.float32),
            z=z.astype(np.float32),
        )


def _period(name: str, count: int, shift: float, generator: np.random.Generator) -> Period:
    z = generator.standard_normal((count, DIMENSION)).astype(np.float32)
    return Period(
        name=name,
        lipid=(generator.random(count) + shift).astype(np.float32),
        proteins=generator.poisson(2 + shift, count),
        z=z + np.float32(shift),
    )


def _write_file(folder: Path, index: int) -> Path:
    generator = np.random.default_rng([3, index])
    density = generator.random((PROTEINS, len(CHANNELS), 37, 37), np.float32)
    path = folder / f"{index:010d}.h5"
    slots = np.arange(PROTEINS, dtype=np.uint64)
    batch = PatchBatch(
        patch_id=(np.uint64(index) << np.uint64(20)) | slots,
        density=density,
        centre_nm=generator.uniform(0, SIDE_NM, (PROTEINS, 2)),
        central_state=np.zeros(PROTEINS, np.int8),
        n_ras=np.ones(PROTEINS, np.uint8),
        n_raf=np.zeros(PROTEINS, np.uint8),
        kind=np.ones(PROTEINS, np.uint8),
        bead_offset=np.zeros(PROTEINS + 1, np.int64),
        bead_position_nm=np.zeros((0, 2)),
        bead_state=np.zeros(0, np.int8),
        time_us=index * _INTERVAL_US,
        snapshot_index=index,
        parameter_version=0,
    )
    write_patches(path, batch, CHANNELS)
    return path


def _judged(count: int) -> JudgedPatches:
    generator = np.random.default_rng(4)
    slot = (np.arange(count) % PROTEINS).astype(np.int32)
    patches = PatchSet(
        density=np.empty((count, 0)),
        patch_id=np.arange(count, dtype=np.uint64),
        run=np.zeros(count, np.int16),
        snapshot_index=np.arange(count) // PROTEINS,
        time_us=np.zeros(count),
        slot=slot,
        kind=generator.integers(0, 4, count).astype(np.uint8),
        central_state=np.zeros(count, np.int8),
        n_ras=generator.integers(1, 4, count).astype(np.uint8),
        n_raf=np.zeros(count, np.uint8),
        centre_nm=np.zeros((count, 2)),
        parameter_version=np.zeros(count, np.int32),
        side_nm=np.array([SIDE_NM]),
        fingerprint="",
    )
    return JudgedPatches(
        patches=patches,
        embedding=Embedding(
            vectors=generator.standard_normal((count, DIMENSION)).astype(np.float32),
            transform_distances=generator.random((count, 5)) * 0.1,
        ),
        profiles=generator.standard_normal((count, 8, 38)).astype(np.float32),
        means=(0.05 * generator.standard_normal((count, 14))).astype(np.float32),
    )


def _told(patches: int, wall_s: float) -> Result:
    return {
        "patches": patches,
        "wall_s": wall_s,
        "s_for_1000000_patches": wall_s * MILLION / patches,
    }


def _peak_gb() -> float:
    """Most memory of this process since `_forget_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1e6
    return float("nan")


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


# How often each analysis embeds a million patches: the metric 30,000 and five transforms of each.
EMBEDDED = {"decorrelation": 1.0, "space": 1.0, "drift": 1.0, "coverage": 0.0, "metric": 0.18}
WITH_EMBEDDING = "s_for_1000000_patches_with_embedding"
BARS = (
    *(
        Bar(
            name,
            f"{name} with its embedding, s for 1M patches",
            WITH_EMBEDDING,
            REQUIRED_S,
            at_least=False,
        )
        for name in EMBEDDED
    ),
    *(
        Bar(name, f"{name}, GB at most in one process", "peak_gb", REQUIRED_GB, at_least=False)
        for name in SECTIONS
    ),
)


def main() -> None:
    """The command line."""
    parser = arguments_of(__doc__, "a tenth of a million patches", SECTIONS)
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--millions", type=float, help="of patches; 3 unless --quick")
    arguments = parser.parse_args()
    millions = arguments.millions or (0.1 if arguments.quick else 3.0)
    benchmark = Benchmark(quick=arguments.quick, cores=arguments.cores, millions=millions)
    result = opened(arguments.quick, cores_used=arguments.cores)
    result["millions_of_patches"] = millions
    for section in arguments.only or SECTIONS:
        _forget_peak()
        measure(benchmark, (section,), result)
        result[section]["peak_gb"] = _peak_gb()
    if "embedding" in result:
        embedding_s = result["embedding"]["s_for_1000000_patches"]
        for section in EMBEDDED.keys() & result.keys():
            own_s = result[section]["s_for_1000000_patches"]
            result[section][WITH_EMBEDDING] = own_s + EMBEDDED[section] * embedding_s
        result["all_analyses_one_after_another_s"] = sum(
            result[section].get(WITH_EMBEDDING, 0.0) for section in EMBEDDED.keys() & result.keys()
        )
    for section in arguments.only or SECTIONS:
        print_figures(section, result[section])
    conclude(result, BARS, as_json=arguments.json, busy=arguments.cores + 0.5)


if __name__ == "__main__":
    main()
