"""Several candidate queues, by patch kind, that share the selections in target proportions.

Each pick goes to the queue furthest behind its share of all picks so far, this one included (the
first named of equals), among those that have candidates; so every running total stays within one
pick of its share for as long as the queues do not run dry.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from selector.checks import checked_integer
from selector.farthest_point import FarthestPointSampler
from selector.identifiers import Identifiers
from selector.queue_settings import QueuesSettings


class Pick(NamedTuple):
    """One selection."""

    queue: str
    id: Any
    importance: float


class CandidateQueues:
    """Queues with separate pools and, by choice, shared or separate selected points."""

    def __init__(self, dimension: int, settings: QueuesSettings, seed: int = 0) -> None:
        self.settings = settings
        self.queues: Mapping[str, FarthestPointSampler] = {
            name: FarthestPointSampler(
                dimension,
                k=settings.k,
                capacity=settings.capacity,
                warm_up=settings.warm_up,
                seed=seed + i,
                eviction=settings.eviction,
            )
            for i, name in enumerate(settings.queues)
        }
        self.picked = dict.fromkeys(self.queues, 0)

    def add(self, queue: str, ids: Identifiers, vectors: NDArray[np.float32]) -> int:
        """Offer candidates to one queue; return how many were new. Raises as the sampler's add."""
        return self[queue].add(ids, vectors)

    def __getitem__(self, queue: str) -> FarthestPointSampler:
        """The sampler of a queue. Raises ValueError for an unknown name."""
        if queue not in self.queues:
            raise ValueError(f"queue must be one of {', '.join(self.queues)}, given {queue!r}")
        return self.queues[queue]

    def select(self, n: int) -> list[Pick]:
        """Up to n picks in the order of the queues' turns; fewer when the queues run dry."""
        n = checked_integer("n", n, 0)
        if self.settings.shared_selections:
            return self._select_shared(n)
        turns = self._turns(n)
        batches = {}
        for name in dict.fromkeys(turns):
            sampler = self.queues[name]
            ids = sampler.select(turns.count(name))
            picks = zip(ids, sampler.last_importances.tolist(), strict=True)
            batches[name] = iter([Pick(name, *pick) for pick in picks])
        return [next(batches[name]) for name in turns]

    def _select_shared(self, n: int) -> list[Pick]:
        picks: list[Pick] = []
        for _ in range(n):
            turns = self._turns(1)
            if not turns:
                break
            sampler = self.queues[turns[0]]
            ids = sampler.select(1)
            vector = sampler.selected_vectors[-1:]
            for name, other in self.queues.items():
                if name != turns[0]:
                    other.mark_selected(ids, vector)
            picks.append(Pick(turns[0], ids[0], float(sampler.last_importances[0])))
        return picks

    def _turns(self, n: int) -> list[str]:
        """Whose turn the next n picks are; counts them as picked."""
        left = {name: self._available(name) for name in self.queues}
        turns = []
        for _ in range(n):
            total = sum(self.picked.values()) + 1
            behind = {
                name: self.settings.queues[name].share * total - self.picked[name]
                for name, number in left.items()
                if number > 0 and self.settings.queues[name].share > 0
            }
            if not behind:
                break
            name = max(behind, key=lambda candidate: behind[candidate])
            turns.append(name)
            left[name] -= 1
            self.picked[name] += 1
        return turns

    def _available(self, name: str) -> int:
        number = len(self.queues[name])
        waiting = self.picked[name] == 0 and number < self.settings.minimum_candidates
        return 0 if waiting else number
