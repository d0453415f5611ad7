"""The evaluation of one encoder: the paper's criteria and checks as JSON, and its figures.

Criteria (Bhatia 2022, 3.1) and dz against dμ use patches drawn at random; dz against dx (figure
7a) and the most similar patches (figure 5) need whole snapshots, so they use as many snapshots,
evenly spaced, as hold that number of patches, whether the encoder learned from them or not: no
position was ever part of training.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ml.atomic_file import write_atomically
from ml.encoder import Encoder
from ml.metric.checks import relation_to_means, relation_to_space, similar_and_dissimilar
from ml.metric.criteria import embed, judge, profiles_of
from ml.metric.figures import draw_criteria, draw_neighbourhoods, in_plane
from ml.metric.figures_of_checks import (
    draw_relation_to_means,
    draw_relation_to_space,
    draw_similar_patches,
)
from ml.metric.standard_metrics import mean_concentrations
from ml.patch_data import PatchSet, Standardisation, split_by_history
from ml.patch_set import blocks, load_batch

SCHEMA = "bilayer/metric-evaluation/1"
SHOWN_IN_PLANE = 2000

Split = Literal["auto", "validation", "all"]
Report = Callable[[str, int, int], None]
"""Hears (what, done, total)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """How an encoder is evaluated."""

    patches: int = 30_000
    split: Split = "auto"
    seed: int = 0
    factor: float = 0.1  # λ
    device: str = "cpu"


def evaluate_metric(
    encoder: Encoder,
    patches: PatchSet,
    out: Path,
    options: EvaluationOptions,
    report: Report = lambda what, done, total: None,
) -> dict[str, Any]:
    """Write evaluation.json and figures 3, 5, 6, 7a and 11 into `out`; returns the JSON's content.

    Raises ValueError (PatchDataError, EncoderError) if the patches or the encoder cannot be used.
    A check that the data cannot support (no side of the membrane, no patch of two proteins) is
    left out, and `left_out` says why.
    """
    started = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    index, split = judged_patches(patches, encoder.info.training, options)
    moments = encoder.info.standardisation
    standardisation = Standardisation(
        mean=np.array(moments.mean, np.float32), std=np.array(moments.std, np.float32)
    )
    embedding = embed(
        encoder.encode,
        patches,
        index,
        progress=lambda done: report("embedding", done, len(index)),
    )
    embedded = time.perf_counter()
    kinds = patches.kind[index]
    criteria = judge(
        embedding,
        kinds,
        profiles_of(patches, index, standardisation),
        factor=options.factor,
        device=options.device,
        progress=lambda done: report("comparing all pairs", done, len(index)),
    )
    judged = time.perf_counter()
    shown = slice(0, SHOWN_IN_PLANE)
    draw_criteria(
        out / "figure_3.png",
        criteria,
        in_plane(embedding.vectors[shown], seed=options.seed),
        kinds[shown],
    )
    draw_neighbourhoods(out / "figure_11.png", criteria)
    means = np.concatenate(
        [mean_concentrations(load_batch(patches, block)) for block in blocks(index)]
    )
    to_means = relation_to_means(embedding.vectors, means, device=options.device)
    draw_relation_to_means(out / "figure_6.png", to_means, len(index))
    checks: dict[str, Any] = {"dz_dmu": to_means.as_json()}
    checks |= _checks_of_snapshots(encoder, patches, out, options, report)
    content = {
        "schema": SCHEMA,
        "encoder": {"version": encoder.version, "network": encoder.info.network.model_dump()},
        "data": {
            "fingerprint": patches.fingerprint,
            "split": split,
            "patches": len(index),
            "patches_available": len(patches),
            "seed": options.seed,
        },
        "criteria": criteria.as_json(),
        "checks": checks,
        "embedding_s": embedded - started,
        "criteria_s": judged - embedded,
        "total_s": time.perf_counter() - started,
    }
    write_atomically(out / "evaluation.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    return content


def judged_patches(
    patches: PatchSet, training: Mapping[str, Any], options: EvaluationOptions
) -> tuple[NDArray[np.int64], str]:
    """(index of up to `patches` patches drawn at random, "validation" or "all").

    By "auto" the validation histories, if an encoder with this `training` learned from the others
    of this very data, else all.
    """
    split = options.split
    if split == "auto":
        here = training.get("data_fingerprint") == patches.fingerprint
        split = "validation" if here else "all"
    pool = np.arange(len(patches))
    if split == "validation":
        data = training.get("data", {})
        share, seed = data.get("validation_share", 0.1), data.get("split_seed", 0)
        _, pool = split_by_history(patches, share, seed)
    random = np.random.default_rng([options.seed, 3])
    return random.permutation(pool)[: options.patches], split


def trained_factor(encoder: Encoder) -> float:
    """λ that an encoder was trained for; the paper's 0.1 if it does not say."""
    return float(encoder.info.training.get("loss", {}).get("scale", 0.1))


def whole_snapshots(patches: PatchSet, most: int) -> NDArray[np.int64]:
    """Index of evenly spaced snapshots, as many as hold at most `most` patches (at least one)."""
    moment = patches.run.astype(np.int64) << 40 | patches.snapshot_index
    snapshots, sizes = np.unique(moment, return_counts=True)
    count = min(len(snapshots), max(1, int(most / sizes.mean())))
    chosen = snapshots[np.linspace(0, len(snapshots) - 1, count).round().astype(np.int64)]
    return np.flatnonzero(np.isin(moment, chosen))


def _checks_of_snapshots(
    encoder: Encoder, patches: PatchSet, out: Path, options: EvaluationOptions, report: Report
) -> dict[str, Any]:
    index = whole_snapshots(patches, options.patches)
    vectors = []
    for block in blocks(index):
        vectors.append(encoder.encode(load_batch(patches, block)))
        report("embedding snapshots", sum(map(len, vectors)), len(index))
    z = np.concatenate(vectors)
    # Their densities, of which four are drawn, would take a gigabyte to copy.
    chosen = replace(patches, density=np.empty((len(patches), 0))).subset(index)
    checks: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    try:
        to_space = relation_to_space(z, chosen)
        draw_relation_to_space(out / "figure_7a.png", to_space)
        checks["dz_dx"] = to_space.as_json() | {"patches": len(index)}
    except ValueError as error:
        left_out["dz_dx"] = str(error)
    try:
        found = similar_and_dissimilar(z, chosen, seed=options.seed)
        rows = np.array([found.reference, found.similar, found.dissimilar, found.crowded])
        draw_similar_patches(out / "figure_5.png", patches.subset(index[rows]), found)
        checks["similar_patches"] = {
            "patch_id": [int(name) for name in chosen.patch_id[rows]],
            "dz_similar": found.dz_similar,
            "dz_dissimilar": found.dz_dissimilar,
            "dz_crowded": found.dz_crowded,
            "patches": len(index),
        }
    except ValueError as error:
        left_out["similar_patches"] = str(error)
    return checks | {"left_out": left_out}
