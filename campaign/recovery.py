"""Do fed-back potentials approach the hidden truth: errors by version, error bars, a figure.

`recover_without_membrane` closes the loop of simulation and feedback with no continuum in between.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from campaign.feedback import correlation_of, lone_profiles, make_feedback, prior_counts
from campaign.lone_counts import LoneCounts
from campaign.molecular_dynamics.engines import Engine
from campaign.molecular_dynamics.hidden_truth import FILE_NAME, TruthTables, read_truth
from campaign.molecular_dynamics.patch import Patch
from campaign.molecular_dynamics.results import read_result, write_result
from campaign.molecular_dynamics.settings import FeedbackLimits
from campaign.recovery_errors import Recovery, recovery_of, ring_rms
from campaign.recovery_figure import VersionCurves, recovery_figure
from campaign.single_thread import single_threaded
from continuum.parameter_versions import (
    ParameterVersion,
    latest_version,
    read_parameter_version,
    version_path,
)
from continuum.parameters import INNER, Model, RadialPotentials
from continuum.patches import NODES, SLOT_BITS, PatchBatch
from continuum.potential_inversion import InversionLimits, updated_potentials

Array = NDArray[np.float64]

GROUPS = 8  # of jobs, left out in turn
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


def standard_errors_kt(
    run: Path,
    jobs: Sequence[str],
    weights: Mapping[str, float],
    potentials: RadialPotentials,
    model: Model,
    *,
    prior_frames: float,
    limits: FeedbackLimits | None = None,
) -> Array:
    """Standard error of u within 4 nm, (S, L): jackknife over groups of jobs.

    Each group is left out in turn and the rest inverted around `potentials` without a limit on the
    change. Raises ValueError for fewer jobs than groups.
    """
    names = sorted(jobs)
    if len(names) < GROUPS:
        raise ValueError(f"a jackknife over {GROUPS} groups needs as many jobs, got {len(names)}")
    inversion = InversionLimits(
        **{**(limits or FeedbackLimits()).model_dump(), "largest_change_kt": np.inf}
    )
    inner = model.lipids.leaflet == INNER
    mean_weight = float(np.mean([weights[job] for job in names]))
    with single_threaded():
        operator = correlation_of(model)
        profiles = lone_profiles(model, potentials, operator)
        prior = prior_counts(model, prior_frames, operator)
        groups = []
        for first in range(GROUPS):
            group = LoneCounts.none(profiles)
            for job in names[first::GROUPS]:
                result = read_result(run / "md" / f"{job}.h5").result
                group.add_all([(result, weights[job] / mean_weight)])
            groups.append(group)
        without = []
        for left_out in groups:
            rest = LoneCounts.none(profiles)
            for group in groups:
                if group is not left_out:
                    rest.add(group)
            made = updated_potentials(
                potentials, prior + rest.alone(), model.lipids, operator, inversion
            )
            without.append(made.u[:, inner])
    spread = np.array(without)
    deviation = np.sqrt((GROUPS - 1) * np.mean((spread - spread.mean(axis=0)) ** 2, axis=0))
    return ring_rms(deviation, potentials.dr_nm)


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


def recovery_section(
    run: Path,
    model: Model,
    *,
    limits: FeedbackLimits | None = None,
    weights: Mapping[str, float] | None = None,
) -> tuple[Figure | None, dict[str, object], str]:
    """Figure, numbers and a sentence for a report; no figure where the truth is not known.

    `weights` names the jobs behind the last version; by default all results in `md/` count alike.
    """
    path = run / FILE_NAME
    if not path.is_file():
        return None, {}, "No mock engine ran, so that there is no hidden truth to compare with."
    truth = read_truth(path)
    recoveries = recovery_by_version(run, model, truth)
    if weights is None:
        weights = {p.stem: 1.0 for p in (run / "md").glob("*.h5")}
    versions = _versions(run)
    potentials = [model.potentials, *(version.potentials for version in versions)]
    if versions and len(weights) >= GROUPS:
        bars = standard_errors_kt(
            run,
            sorted(weights),
            weights,
            potentials[-1],
            model,
            prior_frames=json.loads(versions[-1].provenance)["prior_frames"],
            limits=limits,
        )
        recoveries[-1] = replace(recoveries[-1], bar_kt=bars)
    last = len(potentials) - 1
    shown = np.unique(np.linspace(0, last, min(last + 1, MOST_VERSIONS)).round().astype(int))
    curves = [_curves(model, recoveries[n], potentials[n]) for n in shown.tolist()]
    figure = recovery_figure(recoveries, curves, truth)
    summary: dict[str, object] = {
        "first": recoveries[0].summary(),
        "last": recoveries[-1].summary(),
    }
    return figure, summary, _sentence(recoveries)


def _sentence(recoveries: Sequence[Recovery]) -> str:
    first, last = recoveries[0], recoveries[-1]
    simulated = last.frames > 0
    if not simulated.any():
        return "No protein has been simulated yet."
    lipid = last.lipid_labels[last.deepest].removeprefix("inner ")
    before, after = (r.fraction[simulated].mean() for r in (first, last))
    well_before, well_after = (r.fraction[simulated, last.deepest].mean() for r in (first, last))
    return (
        f"After {last.version} feedbacks the potentials differ from the hidden truth by "
        f"{after:.1%} of the {lipid} well's depth, averaged over {int(simulated.sum())} protein "
        f"states and all lipids (at the start {before:.1%}); those of {lipid} by {well_after:.1%} "
        f"(at the start {well_before:.1%})."
    )


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
