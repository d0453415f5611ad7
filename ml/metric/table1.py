"""Table 1 of Bhatia 2022 on our own patches: train each row for several seeds, judge, compare.

All rows and seeds share one split by history, one standardisation (of the training patches) and
one set of validation patches. OUT/rows/ROW/seed-K holds each training and its judgement; running
again continues where a killed run stopped and repeats nothing that is done.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.atomic_file import write_atomically
from ml.encoder import load_encoder
from ml.metric.configuration import MetricConfig, metric_identity, read_metric_config
from ml.metric.criteria import Encode, embed, judge, profiles_of
from ml.metric.standard_metrics import (
    STANDARD_FACTOR,
    images,
    mean_concentrations,
    standardised_profiles,
)
from ml.metric.table1_report import summarised, write_report
from ml.metric.table1_rows import ROW_NAMES, ROWS, Row
from ml.metric.training_run import train_metric
from ml.patch_data import PatchSet, Standardisation, open_patches, split_by_history

JUDGEMENT = "judgement.json"

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableOptions:
    """What is trained and judged. `None` keeps what the presets say."""

    sources: tuple[Path, ...]
    cache: Path | None = None  # OUT/cache
    rows: tuple[str, ...] = ROW_NAMES
    seeds: int = 3
    epochs: int | None = None
    judged: int = 30_000  # at most this many validation patches
    every: int = 1
    first_us: float = 1.0
    validation_share: float = 0.1
    split_seed: int = 0
    overrides: tuple[str, ...] = ()  # key.path=value of every trained row
    ray: bool = False
    address: str | None = None
    device: str = "cpu"
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bench:
    """What every row is judged on."""

    patches: PatchSet
    index: NDArray[np.int64]
    standardisation: Standardisation
    profiles: NDArray[np.float32]
    key: dict[str, Any]  # what a judgement depends on, beside the metric


def make_table(out: Path, options: TableOptions, report: Report = lambda _: None) -> dict[str, Any]:
    """Train and judge what is not yet done, and write table1.json, .csv and .png into `out`.

    Returns the content of the JSON. ValueError for data, rows or overrides that cannot be used.
    """
    rows = _chosen(options.rows)
    out.mkdir(parents=True, exist_ok=True)
    bench = prepare(out, options)
    report(
        f"{len(bench.patches)} patches, judged on {len(bench.index)} of validation"
        f" ({bench.key['validation_patches']})"
    )
    judgements: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row.preset is None:
            judgements[row.name] = [judge_standard(out, row, bench, options, report)]
            continue
        judgements[row.name] = [
            judge_trained(out, row, seed, bench, options, report) for seed in range(options.seeds)
        ]
    content = summarised(rows, judgements, bench.key)
    write_report(out, content)
    return content


def prepare(out: Path, options: TableOptions) -> Bench:
    """Open the patches, split them, and draw those to be judged."""
    patches = open_patches(
        options.sources, cache=_cache(out, options), first_us=options.first_us, every=options.every
    )
    training, validation = split_by_history(patches, options.validation_share, options.split_seed)
    standardisation = Standardisation.of(patches, training)
    index = np.random.default_rng([options.split_seed, 4]).permutation(validation)
    index = index[: options.judged]
    return Bench(
        patches=patches,
        index=index,
        standardisation=standardisation,
        profiles=profiles_of(patches, index, standardisation),
        key={
            "fingerprint": patches.fingerprint,
            "patches": len(patches),
            "training_patches": len(training),
            "validation_patches": len(validation),
            "judged_patches": len(index),
            "first_us": options.first_us,
            "every": options.every,
            "validation_share": options.validation_share,
            "split_seed": options.split_seed,
        },
    )


def judge_standard(
    out: Path, row: Row, bench: Bench, options: TableOptions, report: Report
) -> dict[str, Any]:
    """The judgement of a standard metric, read if it stands there already."""
    encoders: dict[str, Encode] = {
        "l2-images": images,
        "l2-means": mean_concentrations,
        "l2-profiles": standardised_profiles(bench.standardisation),
    }
    folder = out / "rows" / row.name
    wanted = {"row": row.name, **bench.key}
    return _judgement(
        folder, wanted, lambda: encoders[row.name], bench, STANDARD_FACTOR, options, report
    )


def judge_trained(
    out: Path, row: Row, seed: int, bench: Bench, options: TableOptions, report: Report
) -> dict[str, Any]:
    """The judgement of a trained row, trained first unless it stands there already."""
    config = row_config(out, row, seed, options)
    folder = out / "rows" / row.name / f"seed-{seed}"
    wanted = {
        "row": row.name,
        "seed": seed,
        "identity": metric_identity(config, bench.patches.fingerprint),
        "epochs": config.training.epochs,
        **bench.key,
    }

    def encoder() -> Encode:
        report(f"training {row.name}, seed {seed}, up to {config.training.epochs} epochs")
        trained = train_metric(
            config, folder, ray=options.ray, address=options.address, command=options.command
        )
        return load_encoder(trained, device=options.device).encode

    return _judgement(folder, wanted, encoder, bench, config.loss.scale, options, report)


def row_config(out: Path, row: Row, seed: int, options: TableOptions) -> MetricConfig:
    """The configuration of a trained row: its preset, the overrides, the table's data and seed."""
    config = read_metric_config(str(row.preset), options.overrides)
    data = config.data.model_copy(
        update={
            "sources": tuple(source.resolve() for source in options.sources),
            "cache": _cache(out, options).resolve(),
            "every": options.every,
            "first_us": options.first_us,
            "validation_share": options.validation_share,
            "split_seed": options.split_seed,
        }
    )
    training: dict[str, Any] = {"seed": seed}
    if options.epochs is not None:
        training["epochs"] = options.epochs
    return config.model_copy(
        update={"data": data, "training": config.training.model_copy(update=training)}
    )


def _judgement(
    folder: Path,
    wanted: dict[str, Any],
    encoder: Callable[[], Encode],
    bench: Bench,
    factor: float,
    options: TableOptions,
    report: Report,
) -> dict[str, Any]:
    path = folder / JUDGEMENT
    if path.is_file():
        known: dict[str, Any] = json.loads(path.read_text())
        if known.get("of") == wanted:
            return known
    encode = encoder()
    report(f"judging {folder.name if 'seed' not in wanted else wanted['row']}")
    criteria = judge(
        embed(encode, bench.patches, bench.index),
        bench.patches.kind[bench.index],
        bench.profiles,
        factor=factor,
        device=options.device,
    )
    found = {"of": wanted, "criteria": criteria.as_json()}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(found, indent=1, allow_nan=False) + "\n")
    return found


def _chosen(names: Sequence[str]) -> tuple[Row, ...]:
    unknown = [name for name in names if name not in ROW_NAMES]
    if unknown or not names:
        raise ValueError(
            f"rows must be of {', '.join(ROW_NAMES)}, given {', '.join(names) or 'none'}"
        )
    return tuple(row for row in ROWS if row.name in names)


def _cache(out: Path, options: TableOptions) -> Path:
    return options.cache or out / "cache"
