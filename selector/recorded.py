"""A sampler whose every call is in a durable history before it returns; recovery and replay."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from selector.farthest_point import FarthestPointSampler
from selector.history import (
    NO_CODES,
    NO_VALUES,
    Durability,
    HistoryError,
    HistoryWriter,
    Kind,
    Record,
    create_history,
    cut_tail,
    read_records,
)
from selector.identifiers import Identifier, Identifiers
from selector.snapshot import read_snapshot_and_sequence, settings_of, write_snapshot


class ReplayError(ValueError):
    """A history whose recorded outcome does not follow from its recorded input."""


class RecordedSampler:
    """A FarthestPointSampler with a history at `path`, and snapshots beside it at `path`.npz.

    Nothing returned is lost: each call is written, and synced with durability "always", before it
    returns. A failed write closes the history, so that memory is never silently ahead of the disk.
    """

    def __init__(self, sampler: FarthestPointSampler, writer: HistoryWriter) -> None:
        self.sampler = sampler
        self.writer = writer

    @classmethod
    def create(
        cls, path: str | Path, sampler: FarthestPointSampler, durability: Durability = "always"
    ) -> Self:
        """Start recording an empty sampler. Raises FileExistsError, ValueError if not empty."""
        if len(sampler) or sampler.selected_count or sampler.departed_count:
            raise ValueError("a history starts with an empty sampler")
        create_history(Path(path), settings_of(sampler))
        return cls(sampler, HistoryWriter(Path(path), 1, durability))

    @classmethod
    def recover(cls, path: str | Path, durability: Durability = "always") -> Self:
        """Continue after a stop or crash: the snapshot, if any, then the records after it.

        Raises HistoryError or SnapshotError for damaged files; an incomplete last record is cut.
        """
        path = Path(path)
        sampler: FarthestPointSampler | None = None
        included = 0
        if snapshot_path(path).exists():
            sampler, included = read_snapshot_and_sequence(
                FarthestPointSampler, snapshot_path(path)
            )
        whole, sequence = 0, -1
        for end, sequence, record in read_records(path):
            whole = end
            if sampler is None:
                sampler = sampler_from(record, path)
            elif sequence > included:
                apply_record(sampler, record, check=False)
        if sampler is None or sequence < included:
            raise HistoryError(f"{path} ends at record {sequence}, its snapshot at {included}")
        cut_tail(path, whole)
        return cls(sampler, HistoryWriter(path, sequence + 1, durability))

    def add(self, ids: Identifiers, vectors: NDArray[np.float32]) -> int:
        """As FarthestPointSampler.add."""
        codes, vectors = self.sampler.check(ids, vectors)
        new = self.sampler.add_checked(codes, vectors)
        self._write(Record(Kind.ADD, self._texts(codes), codes, vectors))
        return new

    def select(self, n: int, frozen: bool = False, lease: bool = False) -> list[Any]:
        """As FarthestPointSampler.select."""
        ids = self.sampler.select(n, frozen, lease)
        facts = {"n": int(n), "frozen": bool(frozen), "lease": bool(lease)}
        codes = self.sampler.last_codes
        self._write(Record(Kind.SELECT, facts, codes, self.sampler.last_importances))
        return ids

    def confirm(self, ids: Sequence[Identifier]) -> None:
        """As FarthestPointSampler.confirm."""
        self.sampler.confirm(ids)
        self._write(Record(Kind.CONFIRM, {}, self._codes(ids), NO_VALUES), evictions=False)

    def release(self, ids: Sequence[Identifier]) -> None:
        """As FarthestPointSampler.release."""
        self.sampler.release(ids)
        self._write(Record(Kind.RELEASE, {}, self._codes(ids), NO_VALUES))

    def invalidate(self, ids: Identifiers) -> None:
        """As FarthestPointSampler.invalidate."""
        self.sampler.invalidate(ids)
        self._write(Record(Kind.INVALIDATE, {}, self._codes(ids), NO_VALUES), evictions=False)

    def mark_selected(self, ids: Identifiers, vectors: NDArray[np.float32] | None = None) -> None:
        """As FarthestPointSampler.mark_selected."""
        self.sampler.mark_selected(ids, vectors)
        codes = self._codes(ids)
        points = NO_VALUES if vectors is None else np.ascontiguousarray(vectors)
        self._write(Record(Kind.MARK, self._texts(codes), codes, points), evictions=False)

    def reencode(self, new_vectors: Mapping[Any, NDArray[np.float32]]) -> None:
        """As FarthestPointSampler.reencode."""
        self.sampler.reencode(new_vectors)
        codes, vectors = self.sampler.candidates()
        chosen = self.sampler.store.selected.codes[: self.sampler.selected_count]
        everything = np.concatenate([codes, chosen])
        points = np.concatenate([vectors, self.sampler.selected_vectors])
        self._write(Record(Kind.REENCODE, {}, everything, points), evictions=False)

    def importance(self, ids: Identifiers) -> NDArray[np.float64]:
        """As FarthestPointSampler.importance."""
        return self.sampler.importance(ids)

    def weights(self) -> tuple[list[Any], NDArray[np.int64]]:
        """As FarthestPointSampler.weights."""
        return self.sampler.weights()

    def snapshot(self) -> None:
        """Write the state, atomically, so that recovery reads only later records."""
        write_snapshot(self.sampler, snapshot_path(self.writer.path), self.writer.sequence - 1)

    def close(self) -> None:
        """Sync and close the history."""
        self.writer.close()

    def _codes(self, ids: Identifiers) -> NDArray[np.uint64]:
        return self.sampler.codec.encode(ids)

    def _texts(self, codes: NDArray[np.uint64]) -> dict[str, Any]:
        codec = self.sampler.codec
        facts: dict[str, Any] = {"ids": codec.kind}
        if codec.long_strings:
            facts["texts"] = codec.long_texts(codes)
        return facts

    def _write(self, record: Record, evictions: bool = True) -> None:
        evicted = self.sampler.last_evicted
        records = [record]
        if evictions and len(evicted.codes):
            records.append(Record(Kind.EVICT, {}, evicted.codes, evicted.importances))
        self.writer.append(records)


class Replay(NamedTuple):
    """What a replay went through; every outcome was the same, bit for bit."""

    records: int
    candidates_offered: int
    selections: list[tuple[Any, float]]  # identifier, importance, in order of selection
    evictions: int
    sampler: FarthestPointSampler


def snapshot_path(path: Path) -> Path:
    """Where the snapshot of a history is."""
    return path.with_name(path.name + ".npz")


def sampler_from(record: Record, path: Path) -> FarthestPointSampler:
    """The empty sampler of a history's first record."""
    if record.kind != Kind.SETTINGS:
        raise HistoryError(f"{path} must start with settings, it starts with {record.kind.name}")
    return FarthestPointSampler(**record.facts)


def replay(path: str | Path) -> Replay:
    """Run a history again from its first record and compare every outcome bit for bit.

    Raises ReplayError at the first difference, HistoryError for a damaged file.
    """
    path = Path(path)
    records = iter(read_records(path))
    first = next(records, None)
    if first is None:
        raise HistoryError(f"{path} has no whole record")
    sampler = sampler_from(first[2], path)
    selections: list[tuple[Any, float]] = []
    offered = evictions = 0
    sequence = 0
    for sequence, record in _with_evictions(records):
        apply_record(sampler, record, check=True, sequence=sequence)
        if record.kind == Kind.SELECT:
            names = sampler.codec.decode(record.codes)
            selections += zip(names, record.values.tolist(), strict=True)
        elif record.kind == Kind.ADD:
            offered += len(record.codes)
        elif record.kind == Kind.EVICT:
            evictions += len(record.codes)
    return Replay(sequence + 1, offered, selections, evictions, sampler)


def _with_evictions(
    records: Iterator[tuple[int, int, Record]],
) -> Iterator[tuple[int, Record]]:
    """The records, with an empty EVICT after each call that could have evicted but did not."""
    owed = False
    sequence = 0
    for _, sequence, record in records:
        if owed and record.kind != Kind.EVICT:
            yield sequence, Record(Kind.EVICT, {}, NO_CODES, NO_VALUES)
        owed = record.kind in (Kind.ADD, Kind.SELECT, Kind.RELEASE)
        yield sequence, record


def apply_record(
    sampler: FarthestPointSampler, record: Record, check: bool, sequence: int = 0
) -> None:
    """Do again what a record tells; with `check`, raise ReplayError unless it ends the same."""
    codec = sampler.codec
    if record.kind in (Kind.ADD, Kind.MARK):
        codec.adopt(record.facts["ids"])
        codec.keep_long_strings(record.facts.get("texts", []))
    if record.kind == Kind.ADD:
        sampler.add_checked(record.codes, record.values)
    elif record.kind == Kind.SELECT:
        sampler.select(**record.facts)
        same = np.array_equal(sampler.last_codes, record.codes) and np.array_equal(
            sampler.last_importances, record.values
        )
        if check and not same:
            raise ReplayError(f"record {sequence}: the selection differs from the recorded one")
    elif record.kind == Kind.EVICT:
        same = np.array_equal(sampler.last_evicted.codes, record.codes)
        if check and not same:
            raise ReplayError(f"record {sequence}: the evictions differ from the recorded ones")
    else:
        _apply_by_identifier(sampler, record)


def _apply_by_identifier(sampler: FarthestPointSampler, record: Record) -> None:
    ids = sampler.codec.decode(record.codes)
    if record.kind == Kind.CONFIRM:
        sampler.confirm(ids)
    elif record.kind == Kind.RELEASE:
        sampler.release(ids)
    elif record.kind == Kind.INVALIDATE:
        sampler.invalidate(ids)
    elif record.kind == Kind.MARK:
        sampler.mark_selected(ids, record.values if record.values.ndim == 2 else None)
    elif record.kind == Kind.REENCODE:
        sampler.reencode(dict(zip(ids, record.values, strict=True)))
    else:
        raise HistoryError(f"a history has one SETTINGS record, at its start; found {record.kind}")
