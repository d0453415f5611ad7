"""Error bars of fed-back potentials: a jackknife over the jobs behind a version."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from campaign.configuration_schema import FeedbackSection
from campaign.feedback import correlation_of, lone_profiles, observation_of, prior_counts
from campaign.lone_counts import LoneCounts
from campaign.molecular_dynamics.settings import FeedbackLimits
from campaign.recovery_errors import ring_rms
from campaign.selection_weights import read_weights
from campaign.single_thread import single_threaded
from campaign.state import CampaignState
from continuum.parameter_versions import ParameterVersion
from continuum.parameters import INNER, Model, RadialPotentials
from continuum.potential_inversion import InversionLimits, updated_potentials

Array = NDArray[np.float64]

GROUPS = 8  # of jobs, left out in turn


def weights_behind(
    run: Path, state: CampaignState, section: FeedbackSection, version: int
) -> dict[str, float]:
    """Job -> weight of all jobs behind a version (from 1) of a campaign."""
    jobs = [job for earlier in state.versions[:version] for job in earlier.jobs]
    if section.weights == "equal":
        return dict.fromkeys(jobs, 1.0)
    boundary = state.versions[version - 1].boundary_snapshot
    weights = read_weights(run / "selections", boundary - state.rules.lag_snapshots)
    return {job: float(weights[job]) for job in jobs}


def bars_of(
    run: Path,
    version: ParameterVersion,
    weights: Mapping[str, float],
    model: Model,
    limits: FeedbackLimits,
) -> Array | None:
    """Standard error of u within 4 nm, (S, L), of a stored version; None for too few jobs."""
    if len(weights) < GROUPS:
        return None
    prior_frames = json.loads(version.provenance)["prior_frames"]
    return standard_errors_kt(
        run,
        sorted(weights),
        weights,
        version.potentials,
        model,
        prior_frames=prior_frames,
        limits=limits,
    )


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
            group.add_all(
                (observation_of(run / "md", job), weights[job] / mean_weight)
                for job in names[first::GROUPS]
            )
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
