"""From lipids counted by simulations to protein-lipid potentials (membrane-physics 4 and 7.7).

Counts are freed of the neighbours' share, summed with the selector's weights onto prior counts of
the initial potentials, and inverted (HNC). A version is a function of the initial model, the
version before it, the set of jobs and their weights; it is written once, and making it again
changes nothing.
"""

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from campaign.lone_counts import LoneCounts, LoneProfiles, Observation
from campaign.molecular_dynamics.results import BINS, read_result
from campaign.molecular_dynamics.settings import FeedbackLimits
from campaign.single_thread import single_threaded
from continuum.correlation import LEAST_EIGENVALUE, stability_matrix
from continuum.parameter_versions import (
    ParameterVersion,
    read_parameter_version,
    version_path,
    write_parameter_version,
)
from continuum.parameters import INNER, Model, RadialPotentials
from continuum.potential_inversion import InversionLimits, shell_areas, updated_potentials
from continuum.radial_equilibrium import (
    RadialCorrelation,
    equilibrium_profiles,
    potential_on,
    radial_correlation,
)
from continuum.sweep_polynomial import bead_w, largest_w

Array = NDArray[np.float64]

SPACING_NM = 0.1  # of the radial grid; profiles agree with those of 0.05 nm to 1e-5
_SAME_KT = 1e-6  # another machine's arithmetic may differ in the last bits
_SMALLEST_STEP = 1.0 / 16.0
_REMEMBERED = 1 << 15  # observations, of 5 to 20 kB


class FeedbackError(RuntimeError):
    """No version can be made of what is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackOutcome:
    """A durable version and how it came about; what its provenance says."""

    version: int
    jobs: int
    jobs_crc32: int  # of the sorted names of all jobs behind it
    prior_frames: float
    independent_frames: dict[str, float]  # by state, without the prior
    largest_change_kt: float  # from the version before
    step: float  # 1; less where all of it would have been unstable or too steep, 0 where any would
    least_eigenvalue: float  # of M(k) at the densities around a protein

    def provenance(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


def make_feedback(
    run: Path,
    version: int,
    jobs: Sequence[str],
    weights: Mapping[str, float],
    model: Model,
    *,
    prior_frames: float,
    limits: FeedbackLimits | None = None,
) -> tuple[FeedbackOutcome, int]:
    """Make `parameters/v<version>.h5` of a run from the results of all `jobs`; its checksum too.

    `jobs` are all that count, not only new ones; `weights` (job -> 1 + patches it stands for) are
    taken relative to their mean, and must hold every job. `model` is the initial one, of version 0.
    Raises FeedbackError where a result or the version before is missing or damaged, or this version
    exists with other content.
    """
    if missing := sorted(set(jobs) - weights.keys()):
        raise FeedbackError(f"version {version}: job {missing[0]} has no weight")
    if not prior_frames > 0:
        raise ValueError(f"prior_frames must be > 0, got {prior_frames}")
    folder = run / "parameters"
    potentials = _previous(folder, version, model)
    with single_threaded():
        potentials, outcome = next_potentials(
            potentials,
            _observations(run / "md", jobs, weights),
            model,
            version=version,
            jobs=jobs,
            prior_frames=prior_frames,
            limits=limits or FeedbackLimits(),
        )
    made = ParameterVersion(
        version=version,
        potentials=potentials,
        state_names=tuple(state.name for state in model.proteins.states),
        lipid_labels=model.lipids.labels,
        provenance=outcome.provenance(),
    )
    return outcome, _written(folder, made)


def next_potentials(
    previous: RadialPotentials,
    observations: Iterable[tuple[Observation, float]],
    model: Model,
    *,
    version: int,
    jobs: Sequence[str],
    prior_frames: float,
    limits: FeedbackLimits,
) -> tuple[RadialPotentials, FeedbackOutcome]:
    """The pure part: observations with weights -> potentials a careful step from the previous.

    A step after which the lipids around some protein would have no stable equilibrium, or the
    potentials would be too steep for the membrane's sweeps, is halved until that is not so.
    """
    operator = correlation_of(model)
    summed = LoneCounts.none(lone_profiles(model, previous, operator))
    summed.add_all(observations)
    counts = prior_counts(model, prior_frames, operator) + summed.alone()
    counts[summed.frames == 0] = 0.0  # nothing but the prior: inverting it would change nothing
    updated = updated_potentials(
        previous, counts, model.lipids, operator, InversionLimits(**limits.model_dump())
    )
    spacing_nm = model.membrane.spacing_nm
    bound = largest_w(model.potentials, spacing_nm)
    step, trial = 1.0, updated
    eigenvalue = least_eigenvalue(model, trial, operator)
    while step > 0.0 and not (
        eigenvalue >= LEAST_EIGENVALUE and bead_w(trial, spacing_nm, 1) <= bound
    ):
        step = step / 2.0 if step > _SMALLEST_STEP else 0.0
        trial = replace(updated, u=previous.u + step * (updated.u - previous.u))
        eigenvalue = least_eigenvalue(model, trial, operator)
    names = [state.name for state in model.proteins.states]
    outcome = FeedbackOutcome(
        version=version,
        jobs=len(jobs),
        jobs_crc32=zlib.crc32("\n".join(sorted(jobs)).encode()),
        prior_frames=prior_frames,
        independent_frames=dict(
            zip(names, summed.independent_frames().round(3).tolist(), strict=True)
        ),
        largest_change_kt=round(float(np.abs(trial.u - previous.u).max(initial=0.0)), 6),
        step=step,
        least_eigenvalue=round(eigenvalue, 6),
    )
    return trial, outcome


@lru_cache(maxsize=2)
def correlation_of(model: Model) -> RadialCorrelation:
    """c_ij of a model on the radial grid of feedback."""
    return radial_correlation(model.lipids, model.correlation, SPACING_NM)


def lone_profiles(
    model: Model, potentials: RadialPotentials, operator: RadialCorrelation
) -> LoneProfiles:
    """Profiles of the inner lipids around a lone protein of each state."""
    inner = model.lipids.leaflet == INNER
    return LoneProfiles(
        radii_nm=operator.radii_nm,
        g=np.array([g[inner] for g in _profiles(model, potentials, operator)]),
    )


def prior_counts(model: Model, frames: float, operator: RadialCorrelation) -> Array:
    """What `frames` frames would count on average under the initial potentials."""
    inner = model.lipids.leaflet == INNER
    per_area = model.lipids.bulk_density[inner][:, None] * _initial_profiles(model, operator)
    return np.asarray(frames * shell_areas(BINS) * per_area)


@lru_cache(maxsize=2)
def _initial_profiles(model: Model, operator: RadialCorrelation) -> Array:
    return lone_profiles(model, model.potentials, operator).at_bins


def least_eigenvalue(
    model: Model, potentials: RadialPotentials, operator: RadialCorrelation
) -> float:
    """Smallest eigenvalue of M(k) at the densities around any protein; 0 without equilibrium.

    Below 0 lipids at such a density would demix (membrane-physics 7.3.1).
    """
    columns = np.unique(np.round(np.array([0.0, 0.5, 1.0, 2.0, 3.0]) / SPACING_NM)).astype(np.int64)
    try:
        return min(
            (
                _least_at(model, (model.lipids.bulk_density * g[:, column]).tobytes())
                for g in _profiles(model, potentials, operator)
                for column in columns
            ),
            default=np.inf,
        )
    except ValueError:
        return 0.0


@lru_cache(maxsize=256)
def _least_at(model: Model, density: bytes) -> float:
    """The same as before around a protein of which nothing new was learned."""
    k = np.linspace(0.0, 4.0, 17)
    matrices = stability_matrix(model.lipids, model.correlation, k, np.frombuffer(density))
    return float(np.linalg.eigvalsh(matrices)[:, 0].min())


def _profiles(
    model: Model, potentials: RadialPotentials, operator: RadialCorrelation
) -> Iterator[Array]:
    for state in range(len(model.proteins.states)):
        u = potential_on(operator.radii_nm, potentials, state)
        yield equilibrium_profiles(operator, u)


def _observations(
    folder: Path, jobs: Sequence[str], weights: Mapping[str, float]
) -> Iterator[tuple[Observation, float]]:
    """What jobs saw with weights of mean 1, in the order of their names whatever theirs was."""
    names = sorted(set(jobs))
    relative = np.array([weights[job] for job in names], dtype=np.float64)
    if not (np.isfinite(relative).all() and (relative > 0).all()):
        raise FeedbackError(f"weights must be > 0, the least is {relative.min()}")
    relative /= relative.mean() if names else 1.0
    for job, weight in zip(names, relative.tolist(), strict=True):
        yield observation_of(folder, job), weight


def observation_of(folder: Path, job: str) -> Observation:
    """What the result of a job in `folder` tells; FeedbackError where it is missing or damaged."""
    path = folder / f"{job}.h5"
    try:
        stat = path.stat()
        return _observation(path, (stat.st_ino, stat.st_size, stat.st_mtime_ns))
    except (OSError, ValueError) as error:
        raise FeedbackError(f"the result of job {job} cannot be used: {error}") from error


@lru_cache(maxsize=_REMEMBERED)
def _observation(path: Path, identity: tuple[int, int, int]) -> Observation:
    """Every version stands on all results so far, which do not change: each is read once."""
    return Observation.of(read_result(path).result)


def _previous(folder: Path, version: int, model: Model) -> RadialPotentials:
    if version < 1:
        raise ValueError(f"feedback makes versions from 1 on, got {version}")
    if version == 1:
        return model.potentials
    try:
        return read_parameter_version(version_path(folder, version - 1)).potentials
    except (OSError, ValueError) as error:
        raise FeedbackError(f"version {version} needs the one before it: {error}") from error


def _written(folder: Path, made: ParameterVersion) -> int:
    """Write a version unless it is there already; the checksum of what is there."""
    path = version_path(folder, made.version)
    if path.exists():
        try:
            there = read_parameter_version(path)
        except ValueError as error:
            raise FeedbackError(f"version {made.version} is there but damaged: {error}") from error
        same = there.potentials.u.shape == made.potentials.u.shape and np.allclose(
            there.potentials.u, made.potentials.u, rtol=0.0, atol=_SAME_KT
        )
        if not same:
            raise FeedbackError(
                f"{path} exists with other potentials than its jobs give: it was made from other "
                f"results or by another version of this program"
            )
        made = there
    else:
        write_parameter_version(folder, made)
    return zlib.crc32(made.potentials.u.tobytes())
