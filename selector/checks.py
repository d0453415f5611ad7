"""Checks of what callers hand in: one clear error, before anything is changed."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from selector.greedy import first_not_finite
from selector.identifiers import Identifiers


class VectorError(ValueError):
    """Vectors of the wrong shape or type, or not finite."""


def checked_vectors(vectors: Any, ids: Identifiers, dimension: int) -> NDArray[np.float32]:
    """Contiguous finite float32 (len(ids), dimension). Raises VectorError, naming the id."""
    if not isinstance(vectors, np.ndarray) or vectors.dtype != np.float32:
        given = vectors.dtype if isinstance(vectors, np.ndarray) else type(vectors).__name__
        raise VectorError(f"vectors must be a float32 array, given {given}")
    if vectors.shape != (len(ids), dimension):
        raise VectorError(
            f"vectors must have shape ({len(ids)}, {dimension}) for {len(ids)} ids, "
            f"given {vectors.shape}"
        )
    checked: NDArray[np.float32] = vectors
    if not vectors.flags.carray:  # read-only is another type to numba, hence another compilation
        checked = np.require(vectors, requirements=["C", "W", "A"])
    bad = first_not_finite(checked)
    if bad >= 0:
        named = ids[bad].item() if isinstance(ids[bad], np.generic) else ids[bad]
        raise VectorError(f"the vector of id {named!r} is not finite: {checked[bad]}")
    return checked


def checked_integer(name: str, value: Any, least: int) -> int:
    """The value as an int. Raises ValueError if it is none or below `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} must be an integer >= {least}, given {value!r}")
    return int(value)
