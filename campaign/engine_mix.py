"""Which engine the next job gets: the one furthest behind its share of the jobs so far."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class EngineMix:
    """Shares, and the jobs given out since they were last changed; `take` counts."""

    shares: Mapping[str, float] = field(default_factory=dict)
    taken: dict[str, int] = field(default_factory=dict)

    def take(self) -> str:
        """The engine of the next job; the first named of equals."""
        total = sum(self.shares.values())
        number = sum(self.taken.values()) + 1
        behind = {
            engine: share / total * number - self.taken.get(engine, 0)
            for engine, share in self.shares.items()
            if share > 0
        }
        engine = max(behind, key=lambda name: behind[name])
        self.taken[engine] = self.taken.get(engine, 0) + 1
        return engine

    def with_share(self, engine: str, share: float) -> "EngineMix":
        """The mix with one share changed, counting afresh.

        Raises ValueError unless the share is finite and not negative, and some share is left.
        """
        if not 0 <= share < float("inf"):
            raise ValueError(f"mix.{engine} must be 0 or more, got {share}")
        shares = {**self.shares, engine: share}
        if sum(shares.values()) <= 0:
            raise ValueError(f"mix.{engine} = {share} would leave no engine with a share")
        return EngineMix(shares)
