"""The membrane that a run simulated, and what linear theory expects of it."""

from pathlib import Path

import numpy as np

from campaign.analysis.decorrelation import PATCH_SIDE_NM
from campaign.analysis.embedding import AnalysisError
from continuum import ConfigurationError, load_model
from continuum.correlation import mode_times_us
from continuum.parameters import Model

_NAMES = ("continuum.resolved.yaml", "config.resolved.yaml")


def model_of(run: Path) -> Model:
    """The model of a run of the continuum or of a campaign.

    Raises AnalysisError where the run does not keep its configuration, or that cannot be read.
    """
    path = _configuration(run)
    if path is None:
        raise AnalysisError(
            f"{run} must hold config.resolved.yaml, for the model of its membrane; times can still "
            "be analysed without (`analyse decorrelation`)"
        )
    try:
        return load_model(str(path))
    except ConfigurationError as error:
        raise AnalysisError(f"{path} does not give the membrane: {error}") from error


def composition_times_us(run: Path) -> list[float]:
    """Decay times of a patch's slowest waves, k = 2 pi / 30 nm, longest first: one for each mixture
    of lipids, the total density of the leaflets left out, which decays ten times faster.

    Empty where the run does not keep its membrane's configuration.
    """
    if _configuration(run) is None:
        return []
    model = model_of(run)
    leaflets = len(np.unique(model.lipids.leaflet))
    times_us = mode_times_us(model.lipids, model.correlation, 2 * np.pi / PATCH_SIDE_NM)
    return [float(time_us) for time_us in times_us[: len(times_us) - leaflets]]


def _configuration(run: Path) -> Path | None:
    return next((run / name for name in _NAMES if (run / name).is_file()), None)
