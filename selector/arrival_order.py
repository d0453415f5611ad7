"""The order in which candidates arrived, kept for the eviction of the oldest."""

import numpy as np
from numpy.typing import NDArray


class ArrivalOrder:
    """Arrival numbers, from 1, by the row of a candidate."""

    def __init__(self) -> None:
        self._numbers = np.zeros(0, np.int64)
        self._last = 0

    def note(self, rows: NDArray[np.int32]) -> None:
        """Number new arrivals in the order of their rows given."""
        self.set(rows, self._last + 1 + np.arange(len(rows)))

    def set(self, rows: NDArray[np.int32], numbers: NDArray[np.int64]) -> None:
        """Restore arrival numbers."""
        if len(rows):
            missing = max(0, int(rows.max()) + 1 - len(self._numbers))
            room = np.zeros(missing + (len(self._numbers) // 2 if missing else 0), np.int64)
            self._numbers = np.concatenate([self._numbers, room]) if missing else self._numbers
            self._numbers[rows] = numbers
            self._last = max(self._last, int(numbers.max()))

    def of(self, rows: NDArray[np.int32]) -> NDArray[np.int64]:
        """Arrival numbers of candidates."""
        return self._numbers[rows]
