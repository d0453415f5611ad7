"""Table 1 as text, JSON, CSV and a figure, beside the paper's values."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from ml.atomic_file import write_atomically
from ml.metric.figures import drawn
from ml.metric.table1_rows import Row

SCHEMA = "bilayer/table1/1"
CRITERIA = ("overlap_percent", "mare_star", "auc")
FURTHER = ("auc_of_points", "pearson_r_of_profiles", "mare", "largest_transform_distance")
_LABELS = {
    "overlap_percent": "overlap (% of pairs)",
    "mare_star": "MARE* (units of dΥ)",
    "auc": "AUC",
}


def summarised(
    rows: Sequence[Row],
    judgements: Mapping[str, Sequence[Mapping[str, Any]]],
    data: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of table1.json: means and spread (sample standard deviation) over seeds.

    `ranking` is Spearman's correlation of a criterion over the paper's rows with the paper's, and
    `claims` the comparisons that the invariant network has to win.
    """
    told = []
    for row in rows:
        found = [judgement["criteria"] for judgement in judgements[row.name]]
        entry: dict[str, Any] = {
            "name": row.name,
            "label": row.label,
            "dimension": found[0]["dimension"],
            "seeds": len(found),
        }
        for criterion in (*CRITERIA, *FURTHER):
            values = [each[criterion] for each in found if each[criterion] is not None]
            entry[criterion] = float(np.mean(values)) if values else None
            entry[f"{criterion}_std"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
            entry[f"{criterion}_by_seed"] = values
        entry["paper"] = (
            None
            if row.paper is None
            else {
                "dimension": row.paper.dimension,
                **{name: getattr(row.paper, name) for name in CRITERIA},
            }
        )
        told.append(entry)
    by_name = {entry["name"]: entry for entry in told}
    prevalence = next(iter(judgements.values()))[0]["criteria"]["prevalence"]
    return {
        "schema": SCHEMA,
        "data": dict(data),
        "prevalence": prevalence,
        "rows": told,
        "ranking": {name: _ranking(told, name) for name in CRITERIA},
        "claims": _claims(by_name),
    }


def as_text(content: Mapping[str, Any]) -> str:
    """The table for a terminal."""
    head = f"{'metric':30} {'d':>6} | {'overlap %':>17} {'paper':>6} | {'MARE*':>17} {'paper':>7}"
    head += f" | {'AUC':>13} {'paper':>5} | {'AUC pts':>7} {'R(dΥ)':>6}"
    lines = [head, "-" * len(head)]
    for row in content["rows"]:
        paper = row["paper"] or dict.fromkeys(CRITERIA)
        lines.append(
            f"{row['label']:30} {row['dimension']:>6} |"
            f" {_spread(row, 'overlap_percent', 4):>17} {_value(paper['overlap_percent'], 6):>6} |"
            f" {_spread(row, 'mare_star', 4):>17} {_value(paper['mare_star'], 7):>7} |"
            f" {_spread(row, 'auc', 3):>13} {_value(paper['auc'], 5):>5} |"
            f" {_value(row['auc_of_points'], 3):>7}"
            f" {_value(row['pearson_r_of_profiles'], 3):>6}"
        )
    data = content["data"]
    lines.append(
        f"{data['judged_patches']} validation patches of {data['patches']};"
        f" AUC by chance {content['prevalence']:.3f}; ± is the standard deviation over seeds"
    )
    ranking = ", ".join(
        f"{_LABELS[name].split(' (')[0]} {value:.2f}"
        for name, value in content["ranking"].items()
        if value is not None
    )
    if ranking:
        lines.append(f"Spearman correlation with the paper's rows: {ranking}")
    for claim in content["claims"]:
        verdict = "holds" if claim["holds"] else "FAILS"
        lines.append(f"{verdict}: {claim['claim']} ({claim['found']:.4g}, {claim['bound']:.4g})")
    return "\n".join(lines)


def write_report(out: Path, content: Mapping[str, Any]) -> None:
    """table1.json, table1.csv and table1.png in `out`."""
    write_atomically(
        out / "table1.json",
        json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
    )
    columns = ["name", "label", "dimension", "seeds"]
    for criterion in (*CRITERIA, *FURTHER):
        columns += [criterion, f"{criterion}_std"]
    columns += [f"paper_{name}" for name in ("dimension", *CRITERIA)]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in content["rows"]:
        paper = {f"paper_{name}": value for name, value in (row["paper"] or {}).items()}
        writer.writerow({**row, **paper})
    write_atomically(out / "table1.csv", text.getvalue())
    draw_table(out / "table1.png", content)


def draw_table(path: Path, content: Mapping[str, Any]) -> None:
    """Each criterion of each row, our seeds and the paper's value."""
    rows = content["rows"]
    places = np.arange(len(rows))[::-1]
    with drawn(path, 1, len(CRITERIA), size=(14.0, 0.42 * len(rows) + 1.8)) as (_, axes):
        for axis, name in zip(axes[0], CRITERIA, strict=True):
            axis.barh(
                places,
                [row[name] or 0.0 for row in rows],
                xerr=[row[f"{name}_std"] or np.nan for row in rows],
                height=0.62,
                color="#4477aa",
                alpha=0.75,
                error_kw={"lw": 1, "capsize": 3},
                label="here: mean ± std over seeds",
            )
            paper = [(place, row["paper"][name]) for place, row in zip(places, rows, strict=True)
                     if row["paper"]]  # fmt: skip
            if paper:
                axis.plot(
                    [value for _, value in paper], [place for place, _ in paper], "D",
                    color="#ee6677", ms=5, label="Bhatia et al. 2022",
                )  # fmt: skip
            axis.set_yticks(places, [row["label"] for row in rows] if axis is axes[0, 0] else [])
            axis.set_xlabel(_LABELS[name])
            axis.grid(alpha=0.3, axis="x")
        axes[0, 0].set_xscale("symlog", linthresh=0.01)
        axes[0, 0].set_xlim(-0.003, 300)
        axes[0, 1].set_xscale("symlog", linthresh=0.1)
        axes[0, 1].set_xlim(-0.03, 1500)
        axes[0, 2].set_xlim(0, 1)
        axes[0, 2].axvline(content["prevalence"], color="0.5", ls=":", label="by chance")
        axes[0, 2].legend(fontsize=8, loc="upper right")
        axes[0, 0].set_title("lower is better", fontsize=9)
        axes[0, 1].set_title("lower is better", fontsize=9)
        axes[0, 2].set_title("higher is better", fontsize=9)


def _ranking(rows: Sequence[Mapping[str, Any]], criterion: str) -> float | None:
    pairs = [(row[criterion], row["paper"][criterion]) for row in rows if row["paper"]]
    if len(pairs) < 3 or len({a for a, _ in pairs}) < 2 or len({b for _, b in pairs}) < 2:
        return None
    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


def _claims(rows: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    claims: list[dict[str, Any]] = []

    def claim(text: str, found: float, bound: float, holds: bool) -> None:
        claims.append({"claim": text, "found": found, "bound": bound, "holds": bool(holds)})

    ours = rows.get("invariant")
    if ours is None:
        return claims
    claim("invariant: overlap is 0", ours["overlap_percent"], 0.0, ours["overlap_percent"] == 0)
    if "radial" in rows:
        bound = 1.1 * rows["radial"]["mare_star"]
        text = "invariant: MARE* at most 1.1 times that of L rad"
        claim(text, ours["mare_star"], bound, ours["mare_star"] <= bound)
    if "label-radial" in rows:
        bound = rows["label-radial"]["auc"] - 0.02
        text = "invariant: AUC at least that of L rad + L lab less 0.02"
        claim(text, ours["auc"], bound, ours["auc"] >= bound)
    return claims


def _value(value: float | None, width: int) -> str:
    return "" if value is None else f"{value:.{min(width, 4)}g}"


def _spread(row: Mapping[str, Any], name: str, digits: int) -> str:
    if row[name] is None:
        return ""
    spread = row[f"{name}_std"]
    return f"{row[name]:.{digits}g}" + ("" if spread is None else f" ± {spread:.2g}")
