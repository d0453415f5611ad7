import numpy as np
import pytest

MASK = 2**64 - 1


def mix(word):
    word = (word + 0x9E3779B97F4A7C15) & MASK
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
    return word ^ (word >> 31)


def warm_up_draw(seed, number):
    """The draw of an integer identifier, from the definition in pure Python integers."""
    return (mix(mix(mix(mix(seed) ^ 1) ^ 0) ^ number) >> 11) * 2.0**-53


class BruteForce:
    """The definition, in float64 and quadratic time: integer identifiers, everything recomputed."""

    def __init__(self, k=10, capacity=10**9, warm_up=10, seed=0, oldest=False):
        self.k, self.capacity, self.warm_up, self.seed = k, capacity, warm_up, seed
        self.oldest = oldest
        self.candidates = {}
        self.selected = {}
        self.evicted_near = {}
        self.departed = set()
        self.arrival = {}
        self.clock = 0

    def distances(self, vector):
        if not self.selected:
            return np.empty(0)
        points = np.array(list(self.selected.values()), np.float64)
        total = np.zeros(len(points))
        for axis in range(points.shape[1]):
            difference = np.float64(vector[axis]) - points[:, axis]
            total = total + difference * difference
        return np.sqrt(total)

    def importance(self, vector):
        nearest = np.sort(self.distances(vector))[: self.k]
        if len(nearest) == 0:
            return np.inf
        total = 0.0
        for value in nearest:
            total += value
        return total / len(nearest)

    def rank(self, number):
        if len(self.selected) < self.warm_up:
            return warm_up_draw(self.seed, number)
        return self.importance(self.candidates[number])

    def add(self, ids, vectors):
        for number, vector in zip(map(int, ids), vectors, strict=True):
            known = self.candidates.keys() | self.selected.keys() | self.departed
            if number not in known:
                self.candidates[number] = vector
                self.clock += 1
                self.arrival[number] = self.clock
        self.evict()

    def evict(self):
        while len(self.candidates) > self.capacity:
            if self.oldest:
                leaving = min(self.candidates, key=self.arrival.get)
            else:
                leaving = min(self.candidates, key=lambda c: (self.rank(c), -c))
            vector = self.candidates.pop(leaving)
            if self.selected:
                near = list(self.selected)[int(np.argmin(self.distances(vector)))]
                self.evicted_near[near] = self.evicted_near.get(near, 0) + 1
            self.departed.add(leaving)

    def select(self, n, frozen=False):
        n = min(n, len(self.candidates))
        if frozen:
            ranks = {number: self.rank(number) for number in self.candidates}
            picks = sorted(ranks, key=lambda c: (-ranks[c], c))[:n]
            importances = [self.importance(self.candidates[p]) for p in picks]
            for pick in picks:
                self.selected[pick] = self.candidates.pop(pick)
            return picks, importances
        picks, importances = [], []
        for _ in range(n):
            ranks = {number: self.rank(number) for number in self.candidates}
            pick = min(ranks, key=lambda c: (-ranks[c], c))
            importances.append(self.importance(self.candidates[pick]))
            self.selected[pick] = self.candidates.pop(pick)
            picks.append(pick)
        return picks, importances

    def release(self, number):
        vector = self.selected.pop(number)
        inherited = self.evicted_near.pop(number, 0)
        if inherited and self.selected:
            heir = list(self.selected)[int(np.argmin(self.distances(vector)))]
            self.evicted_near[heir] = self.evicted_near.get(heir, 0) + inherited
        self.candidates[number] = vector
        self.clock += 1
        self.arrival[number] = self.clock
        self.evict()

    def weights(self):
        counts = {number: 1 + self.evicted_near.get(number, 0) for number in self.selected}
        if self.selected:
            for vector in self.candidates.values():
                counts[list(self.selected)[int(np.argmin(self.distances(vector)))]] += 1
        return list(counts.values())


def make_vectors(kind, number, dimension=9, seed=0):
    random = np.random.default_rng(seed)
    if kind == "gauss":
        return random.standard_normal((number, dimension)).astype(np.float32)
    if kind == "uniform":
        return random.random((number, dimension)).astype(np.float32)
    if kind == "ties":  # a coarse lattice: many exactly equal distances and whole duplicates
        return random.integers(0, 3, (number, dimension)).astype(np.float32)
    walkers = 20  # "walk": correlated streams of near-duplicates through a fixed nonlinear map
    steps = np.cumsum(0.1 * random.standard_normal((number // walkers + 1, walkers, 4)), axis=0)
    mixed = np.tanh(steps.reshape(-1, 4) @ random.standard_normal((4, dimension)))
    return mixed[:number].astype(np.float32)


@pytest.fixture
def brute_force():
    return BruteForce


@pytest.fixture
def vectors_of():
    return make_vectors
