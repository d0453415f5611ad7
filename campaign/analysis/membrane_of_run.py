"""The membrane that a run simulated, and what linear theory expects of it."""

from pathlib import Path

import numpy as np

from campaign.analysis.decorrelation import PATCH_SIDE_NM
from campaign.analysis.embedding import AnalysisError
from continuum import ConfigurationError, load_model
from continuum.correlation import mode_times_us
from continuum.parameters import Model

_NAMES = ("continuum.resolved.yaml", "config.resolved.yaml")


def model_of(run: Path) -> Model | None:
    """The model of a run of the continuum or of a campaign; None where the run does not keep it.

    Raises AnalysisError where its configuration cannot be read.
    """
    path = next((run / name for name in _NAMES if (run / name).is_file()), None)
    if path is None:
        return None
    try:
        return load_model(str(path))
    except ConfigurationError as error:
        raise AnalysisError(f"{path} does not give the membrane: {error}") from error


def required_model(run: Path) -> Model:
    """The model of a run. Raises AnalysisError where the run does not say it."""
    model = model_of(run)
    if model is None:
        raise AnalysisError(
            f"{run} must hold config.resolved.yaml, for the model of its membrane; times "
            "can still be analysed without (`analyse decorrelation`)"
        )
    return model


def side_of(run: Path) -> float:
    """The side of a run's membrane, nm. Raises AnalysisError where the run does not say it."""
    return required_model(run).membrane.side_nm


def composition_times_us(run: Path) -> list[float]:
    """Decay times of a patch's slowest waves, k = 2 pi / 30 nm, longest first: one for each mixture
    of lipids, the total density of the leaflets left out, which decays ten times faster.

    Empty where the run does not keep its membrane's configuration.
    """
    model = model_of(run)
    if model is None:
        return []
    leaflets = len(np.unique(model.lipids.leaflet))
    times_us = mode_times_us(model.lipids, model.correlation, 2 * np.pi / PATCH_SIDE_NM)
    return [float(time_us) for time_us in times_us[: len(times_us) - leaflets]]
