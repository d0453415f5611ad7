"""Do fed-back potentials approach the hidden truth: errors by version, a control, a figure.

`recover_without_membrane` closes the loop of simulation and feedback with no continuum in between.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from campaign.feedback import correlation_of, lone_profiles, make_feedback
from campaign.molecular_dynamics.engines import Engine
from campaign.molecular_dynamics.hidden_truth import FILE_NAME, TruthTables, read_truth
from campaign.molecular_dynamics.patch import Patch
from campaign.molecular_dynamics.results import write_result
from campaign.molecular_dynamics.settings import FeedbackLimits
from campaign.recovery_bars import bars_of
from campaign.recovery_errors import Recovery, recovery_of
from campaign.recovery_figure import VersionCurves, recovery_figure
from campaign.single_thread import single_threaded
from continuum.parameter_versions import (
    ParameterVersion,
    latest_version,
    read_parameter_version,
    version_path,
)
from continuum.parameters import INNER, Model, RadialPotentials
from continuum.patch_batch import NODES, SLOT_BITS, PatchBatch

Array = NDArray[np.float64]

MOST_VERSIONS = 12  # with a curve in the figure


def recovery_by_version(run: Path, model: Model, truth: TruthTables) -> list[Recovery]:
    """Errors of version 0, the initial potentials, and of every version of a run."""
    recoveries = [recovery_of(model.potentials, truth, model, version=0, frames={})]
    for stored in _versions(run):
        frames = json.loads(stored.provenance)["independent_frames"]
        recoveries.append(
            recovery_of(stored.potentials, truth, model, version=stored.version, frames=frames)
        )
    return recoveries


def recover_without_membrane(
    run: Path,
    engine: Engine,
    model: Model,
    *,
    states: Sequence[int],
    feedbacks: int,
    jobs_per_feedback: int,
    duration_us: float,
    prior_frames: float,
    seed: int = 0,
) -> list[str]:
    """Jobs on lone proteins of the given states in turn, and feedbacks; the names of the jobs.

    Results and versions are left in `run` as a campaign leaves them.
    """
    (run / "md").mkdir(parents=True, exist_ok=True)
    jobs: list[str] = []
    for version in range(1, feedbacks + 1):
        for _ in range(jobs_per_feedback):
            number = len(jobs)
            patch = lone_patch(model, states[number % len(states)], patch_id=number)
            name = f"{number:016x}"
            result = engine.run(patch, seed * 2**32 + number, duration_us, run / "work" / name)
            write_result(run / "md" / f"{name}.h5", result, name, 1, number)
            jobs.append(name)
        weights = dict.fromkeys(jobs, 1.0)
        make_feedback(run, version, jobs, weights, model, prior_frames=prior_frames)
    return jobs


def lone_patch(model: Model, state: int, patch_id: int = 0) -> Patch:
    """Bulk membrane with one protein at the centre, and its ligand beside it if it has one."""
    proteins = model.proteins
    names = [s.name for s in proteins.states]
    beads, positions = [state], [(0.0, 0.0)]
    for complex_ in proteins.complexes:
        if complex_.primary_state == names[state]:
            beads.append(proteins.index_of(complex_.ligand_state))
            positions.append((complex_.rest_length_nm, 0.0))
    density = np.broadcast_to(
        model.lipids.bulk_density.astype(np.float32)[:, None, None],
        (model.lipids.count, NODES, NODES),
    )
    return Patch(
        batch=PatchBatch(
            patch_id=np.array([patch_id], dtype=np.uint64),
            density=density[None].copy(),
            centre_nm=np.zeros((1, 2)),
            central_state=np.array([state], dtype=np.int8),
            n_ras=np.ones(1, dtype=np.uint8),
            n_raf=np.array([len(beads) - 1], dtype=np.uint8),
            kind=np.array([len(beads)], dtype=np.uint8),
            bead_offset=np.array([0, len(beads)]),
            bead_position_nm=np.array(positions),
            bead_state=np.array(beads, dtype=np.int8),
            time_us=0.0,
            snapshot_index=patch_id >> SLOT_BITS,
            parameter_version=0,
        ),
        species=model.lipids.labels,
        state_names=tuple(names),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryStudy:
    """How far a run has come to the truth; no figure where the truth is not known."""

    figure: Figure | None = None
    numbers: Mapping[str, object] = field(default_factory=dict)
    table: Sequence[str] = ()  # lines
    sentence: str


def recovery_study(
    run: Path,
    model: Model,
    *,
    limits: FeedbackLimits | None = None,
    weights: Callable[[int], Mapping[str, float]] | None = None,
    bars: int = 1,
    control: Recovery | None = None,
) -> RecoveryStudy:
    """Errors by version, with error bars on `bars` of them, the last among these.

    `weights` tells the jobs behind a version and their weights; by default all results in `md/`
    count alike. `control` is what a campaign without feedback ended with.
    """
    path = run / FILE_NAME
    if not path.is_file():
        return RecoveryStudy(
            sentence="No mock engine ran, so that there is no hidden truth to compare with."
        )
    truth = read_truth(path)
    recoveries = recovery_by_version(run, model, truth)
    versions = _versions(run)
    alike = {p.stem: 1.0 for p in (run / "md").glob("*.h5")}
    for n in _spread(len(versions), bars):
        behind = alike if weights is None else weights(n)
        found = bars_of(run, versions[n - 1], behind, model, limits or FeedbackLimits())
        if found is not None:
            recoveries[n] = replace(recoveries[n], bar_kt=found)
    potentials = [model.potentials, *(version.potentials for version in versions)]
    shown = sorted({0, *_spread(len(versions), MOST_VERSIONS - 1)})
    curves = [_curves(model, recoveries[n], potentials[n]) for n in shown]
    first, last = recoveries[0], recoveries[-1]
    return RecoveryStudy(
        figure=recovery_figure(recoveries, curves, truth, control),
        numbers={
            "first": first.summary(),
            "last": last.summary(),
            "control": None if control is None else control.summary(),
            "error_fraction_by_version": {
                name: [float(recovery.fraction[s, recovery.deepest]) for recovery in recoveries]
                for s, name in enumerate(truth.state_names)
            },
        },
        table=_table(first, last, control),
        sentence=_sentence(recoveries, control),
    )


def _table(first: Recovery, last: Recovery, control: Recovery | None) -> list[str]:
    """Lines for a terminal: errors in % of the depth, of the deepest lipid and of the worst."""
    lines = [
        f"{'state':8}{'depth (kT)':>11}{'frames':>8}{'start':>8}{'end':>8}{'bar':>7}"
        f"{'worst lipid at the end':>26}{'control':>9}"
    ]
    well = last.deepest
    for s, name in enumerate(last.state_names):
        worst = int(np.argmax(last.fraction[s]))
        bars = 100 * last.bar_kt[s] / last.scale_kt[s]
        label = last.lipid_labels[worst].removeprefix("inner ")
        lines.append(
            f"{name:8}{last.scale_kt[s]:11.2f}{last.frames[s]:8.0f}"
            f"{100 * first.fraction[s, well]:7.1f}%{100 * last.fraction[s, well]:7.1f}%"
            f"{bars[well]:6.1f}%"
            f"{label:>12}{100 * last.fraction[s, worst]:6.1f} ± {bars[worst]:3.1f}%"
            + (f"{100 * control.fraction[s, well]:8.1f}%" if control is not None else "")
        )
    return lines


def _spread(last: int, count: int) -> list[int]:
    """At most `count` whole numbers from 1 to `last`, which is among them."""
    if last == 0:
        return []
    spread = np.linspace(last, 1, min(count, last)).round().astype(int)
    return [int(each) for each in np.unique(spread)]


def _sentence(recoveries: Sequence[Recovery], control: Recovery | None) -> str:
    first, last = recoveries[0], recoveries[-1]
    simulated = last.frames > 0
    if not simulated.any():
        return "No protein has been simulated yet."
    lipid = last.lipid_labels[last.deepest].removeprefix("inner ")
    before, after = (r.fraction[simulated].mean() for r in (first, last))
    well_before, well_after = (r.fraction[simulated, last.deepest].mean() for r in (first, last))
    text = (
        f"After {last.version} feedbacks the potentials differ from the hidden truth by "
        f"{after:.1%} of the {lipid} well's depth, averaged over {int(simulated.sum())} protein "
        f"states and all lipids (at the start {before:.1%}); those of {lipid} by {well_after:.1%} "
        f"(at the start {well_before:.1%})."
    )
    if control is not None:
        same = control.fraction[simulated, last.deepest].mean()
        text += f" Without feedback, those of {lipid} still differ by {same:.1%}."
    return text


def _versions(run: Path) -> list[ParameterVersion]:
    folder = run / "parameters"
    return [
        read_parameter_version(version_path(folder, version))
        for version in range(1, (latest_version(folder) or 0) + 1)
    ]


def _curves(model: Model, recovery: Recovery, potentials: RadialPotentials) -> VersionCurves:
    with single_threaded():
        profiles = lone_profiles(model, potentials, correlation_of(model))
    u = potentials.u[:, model.lipids.leaflet == INNER]
    return VersionCurves(version=recovery.version, u=u, profiles=profiles)
