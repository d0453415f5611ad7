"""The selector in a campaign: embeddings in strict order of snapshots, picks after each.

What is picked depends on the embeddings and the settings alone, so after a crash the selector is
brought back by a saved state and the snapshots after it, and must pick what the journal says.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from campaign.embedding_files import Embeddings, embedding_path, read_embeddings
from campaign.events import Pick, job_of
from continuum.atomic_file import write_atomically
from selector import CandidateQueues, FarthestPointSampler, QueuesSettings, SnapshotError

_KEPT = 2  # saved states
_FACTS = "selection.json"

ReadEmbeddings = Callable[[int], Embeddings]
PicksOf = Callable[[int], Sequence[Pick]]


class SelectionDivergence(ValueError):
    """The selector picks something else than the journal says it did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionSettings:
    """How a campaign selects."""

    queues: QueuesSettings
    queue_of_kind: tuple[str, str, str, str]
    seed: int
    save_every: int = 100


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one snapshot did to the selector."""

    patches: tuple[Pick, ...]
    discarded: int
    candidates: int


class PatchSelection:
    """The selector's queues, and how many snapshots they have seen."""

    def __init__(self, settings: SelectionSettings) -> None:
        self.settings = settings
        self.snapshots = 0
        self._queues: CandidateQueues | None = None  # until the first vector tells the dimension

    def advance(self, embeddings: Embeddings, picks: int) -> Outcome:
        """Offer the next snapshot's patches, then pick.

        Raises ValueError for a snapshot out of turn, or vectors of another dimension.
        """
        if embeddings.snapshot_index != self.snapshots:
            raise ValueError(
                f"snapshot {self.snapshots} is next in the selection,"
                f" got {embeddings.snapshot_index}"
            )
        discarded = self._offer(embeddings) if len(embeddings.patch_id) else 0
        self.snapshots += 1
        if self._queues is None:
            return Outcome((), 0, 0)
        picked = self._queues.select(min(picks, self.candidates))
        patches = tuple(Pick(int(id_), queue, float(rank)) for queue, id_, rank in picked)
        return Outcome(patches, discarded, self.candidates)

    @property
    def candidates(self) -> int:
        """How many the selector holds, by its own count."""
        if self._queues is None:
            return 0
        return sum(len(sampler) for sampler in self._queues.queues.values())

    def weights(self) -> dict[str, int]:
        """By job: 1 + the patches not selected that it stands for (DynIm)."""
        weights: dict[str, int] = {}
        if self._queues is not None:
            for sampler in self._queues.queues.values():
                ids, counts = sampler.weights()
                for id_, count in zip(ids, counts.tolist(), strict=True):
                    job = job_of(int(id_))
                    weights[job] = max(weights.get(job, 0), count)
        return weights

    def save(self, folder: Path) -> None:
        """Keep the state under `folder`, named by the snapshots seen; older ones are dropped."""
        folder.mkdir(parents=True, exist_ok=True)
        final = folder / f"{self.snapshots:010d}"
        if final.exists():
            return
        partial = folder / f".{final.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        facts: dict[str, object] = {"snapshots": self.snapshots, "queues": {}}
        if self._queues is not None:
            facts["queues"] = self._queues.picked
            facts["dimension"] = next(iter(self._queues.queues.values())).dimension
            for name, sampler in self._queues.queues.items():
                sampler.save(partial / f"{name}.npz")
        write_atomically(partial / _FACTS, json.dumps(facts))
        os.replace(partial, final)
        for old in saved_states(folder)[:-_KEPT]:
            shutil.rmtree(old)

    def restore(self, saved: Path) -> None:
        """Take up a state that `save` kept. Raises ValueError or OSError where it is damaged."""
        facts = json.loads((saved / _FACTS).read_text())
        snapshots, picked = int(facts["snapshots"]), dict(facts["queues"])
        queues = None
        if picked:
            queues = self._empty(int(facts["dimension"]))
            if set(picked) != set(queues.queues):
                raise ValueError(f"{saved} holds the queues {', '.join(picked)}")
            samplers = {
                name: FarthestPointSampler.load(saved / f"{name}.npz") for name in queues.queues
            }
            queues.queues = samplers
            queues.picked = {name: int(picked[name]) for name in samplers}
        self._queues, self.snapshots = queues, snapshots

    def _offer(self, embeddings: Embeddings) -> int:
        if self._queues is None:
            self._queues = self._empty(embeddings.vector.shape[1])
        discarded = 0
        queue_of_patch = np.array(self.settings.queue_of_kind)[embeddings.kind]
        for name in self._queues.queues:
            rows = np.flatnonzero(queue_of_patch == name)
            if len(rows):
                self._queues.add(name, embeddings.patch_id[rows], embeddings.vector[rows])
                discarded += len(self._queues[name].last_evicted.codes)
        return discarded

    def _empty(self, dimension: int) -> CandidateQueues:
        return CandidateQueues(dimension, self.settings.queues, seed=self.settings.seed)


def saved_states(folder: Path) -> list[Path]:
    """The states under a folder, oldest first."""
    return sorted(path for path in folder.glob("[0-9]" * 10) if path.is_dir())


def recover(
    selection: PatchSelection,
    folder: Path | None,
    snapshots: int,
    read: ReadEmbeddings,
    picks_of: PicksOf,
) -> None:
    """Bring a selection to `snapshots`: the newest usable state, then the snapshots after it.

    Raises SelectionDivergence where it picks something else than `picks_of` a snapshot says.
    """
    states = saved_states(folder) if folder is not None else []
    for path in reversed([path for path in states if int(path.name) <= snapshots]):
        try:
            selection.restore(path)
        except (OSError, ValueError, KeyError, SnapshotError):
            continue
        break
    replay(selection, range(selection.snapshots, snapshots), read, picks_of)


def replay(
    selection: PatchSelection, snapshots: Iterable[int], read: ReadEmbeddings, picks_of: PicksOf
) -> None:
    """Select again and compare. Raises SelectionDivergence at the first difference."""
    for snapshot in snapshots:
        expected = tuple(picks_of(snapshot))
        outcome = selection.advance(read(snapshot), len(expected))
        if outcome.patches != expected:
            raise SelectionDivergence(
                f"after snapshot {snapshot} the journal has the picks"
                f" {_shown(expected)}, the selector takes {_shown(outcome.patches)}"
            )


def reader(run: Path) -> ReadEmbeddings:
    """Reads the embeddings of a run by snapshot."""
    return lambda snapshot: read_embeddings(embedding_path(run, snapshot))


def _shown(picks: Sequence[Pick]) -> str:
    return ", ".join(f"{pick.queue} {job_of(pick.patch_id)}" for pick in picks) or "none"
