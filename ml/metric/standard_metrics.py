"""The three metrics of table 1 that nobody trained (Bhatia 2022, 3.2): Euclidean distances of
images x, of mean concentrations μ, and of radial profiles Υ.

x and μ are taken in nm⁻² as they come, and Υ of standardised images, compared with factor 1. The
paper does not say so, but only this reading gives its residuals: 13.54 for x and 19.64 for μ are
a common median dΥ less a median dx of 6.1 and a dμ near nothing, while standardised images lie
about √(2·19,166) ≈ 196 apart.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.metric.radial_profiles import radial_profiles
from ml.patch_set import Standardisation

Floats = NDArray[np.float32]

STANDARD_FACTOR = 1.0


def images(density: NDArray[np.floating[Any]]) -> Floats:
    """(N, C, 37, 37) nm⁻² -> (N, C · 37 · 37): x itself."""
    return np.ascontiguousarray(density, dtype=np.float32).reshape(len(density), -1)


def mean_concentrations(density: NDArray[np.floating[Any]]) -> Floats:
    """(N, C, 37, 37) nm⁻² -> (N, C): μ, the mean density of each lipid in the patch."""
    means: Floats = density.mean(axis=(2, 3), dtype=np.float64).astype(np.float32)
    return means


def standardised_profiles(
    standardisation: Standardisation,
) -> Callable[[NDArray[np.floating[Any]]], Floats]:
    """The map (N, 14, 37, 37) nm⁻² -> (N, 304): Υ of the standardised images."""

    def profiles(density: NDArray[np.floating[Any]]) -> Floats:
        return standardisation.apply_to_profiles(radial_profiles(density)).reshape(len(density), -1)

    return profiles
