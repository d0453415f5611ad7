"""The append-only history of a sampler: checksummed binary records that survive a cut anywhere.

File: magic, version, then records. Record: header (payload length u32, sequence u64, kind u8,
CRC-32 of these u32), payload, CRC-32 of the payload u32; little-endian. Sequences count from 0
without a gap. A record that ends beyond the end of the file was never acknowledged and is cut off;
a wrong checksum is damage and an error.
"""

import json
import os
import struct
import zlib
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from selector.atomic_file import sync_folder, write_atomically

MAGIC = b"BILAYSEL"
VERSION = 1
PREAMBLE = MAGIC + struct.pack("<I", VERSION)
HEADER = struct.Struct("<IQB")
CHECKSUM = struct.Struct("<I")
COUNT = struct.Struct("<I")

Durability = Literal["always", "never"]


class HistoryError(ValueError):
    """A file that is not a history of this version, or is damaged."""


class Kind(IntEnum):
    """What a record tells."""

    SETTINGS = 0
    ADD = 1
    SELECT = 2
    EVICT = 3
    CONFIRM = 4
    RELEASE = 5
    INVALIDATE = 6
    MARK = 7
    REENCODE = 8


class Record(NamedTuple):
    """One event: a JSON object and arrays, whose meaning `recorded.py` gives by kind."""

    kind: Kind
    facts: dict[str, Any]
    codes: NDArray[np.uint64]  # (n, 2)
    values: NDArray[Any]  # vectors float32 (n, d), importances float64 (n,), or empty


NO_CODES = np.empty((0, 2), np.uint64)
NO_VALUES = np.empty(0, np.float64)


class HistoryWriter:
    """Appends records; with durability "always", `append` returns once they are on disk."""

    def __init__(self, path: Path, sequence: int, durability: Durability = "always") -> None:
        if durability not in ("always", "never"):
            raise ValueError(f"durability must be 'always' or 'never', given {durability!r}")
        self.path = path
        self.sequence = sequence  # of the next record
        self.durability = durability
        self._file: BinaryIO | None = open(path, "ab", buffering=0)  # noqa: SIM115

    def append(self, records: list[Record]) -> None:
        """Write records in one piece. After a failed write the history takes no more."""
        if self._file is None:
            raise HistoryError(f"the history {self.path} is closed, or a write to it failed")
        data = b"".join(
            encode_record(record, self.sequence + i) for i, record in enumerate(records)
        )
        file, self._file = self._file, None
        written = 0
        while written < len(data):
            written += file.write(data[written:])
        if self.durability == "always":
            os.fdatasync(file.fileno())
        self.sequence += len(records)
        self._file = file

    def close(self) -> None:
        """Sync and close."""
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None


def create_history(path: Path, settings: dict[str, Any]) -> None:
    """Start a history with one record, the sampler's settings. Raises FileExistsError."""
    if path.exists():
        raise FileExistsError(f"{path} exists already")
    first = encode_record(Record(Kind.SETTINGS, settings, NO_CODES, NO_VALUES), 0)
    write_atomically(path, lambda file: file.write(PREAMBLE + first))


def encode_record(record: Record, sequence: int) -> bytes:
    """The bytes of one record."""
    facts = json.dumps(record.facts).encode() if record.facts else b""
    values = record.values
    width = values.shape[1] if values.ndim == 2 else 0
    payload = b"".join(
        (
            struct.pack("<IIII", len(facts), len(record.codes), len(values), width),
            facts,
            record.codes.tobytes(),
            values.tobytes(),
        )
    )
    header = HEADER.pack(len(payload), sequence, record.kind)
    checksums = CHECKSUM.pack(zlib.crc32(header)), CHECKSUM.pack(zlib.crc32(payload))
    return b"".join((header, checksums[0], payload, checksums[1]))


def decode_payload(kind: Kind, payload: bytes) -> Record:
    """The record in a payload whose checksum is right."""
    facts_size, codes, values, width = struct.unpack_from("<IIII", payload)
    at = 16 + facts_size
    facts = json.loads(payload[16:at]) if facts_size else {}
    code_array = np.frombuffer(payload, np.uint64, 2 * codes, at).reshape(codes, 2)
    at += 16 * codes
    if width:
        value_array: NDArray[Any] = np.frombuffer(payload, np.float32, values * width, at)
        value_array = value_array.reshape(values, width)
    else:
        value_array = np.frombuffer(payload, np.float64, values, at)
    return Record(kind, facts, code_array.copy(), value_array.copy())


def read_records(path: Path) -> Iterator[tuple[int, int, Record]]:
    """(end offset, sequence, record) of each whole record.

    Raises HistoryError for another format or version, a wrong checksum, or a gap in the sequence.
    """
    with open(path, "rb") as file:
        check_preamble(path, file.read(len(PREAMBLE)))
        offset = len(PREAMBLE)
        expected = 0
        while True:
            header = file.read(HEADER.size + CHECKSUM.size)
            if len(header) < HEADER.size + CHECKSUM.size:
                return
            size, sequence, kind = HEADER.unpack_from(header)
            if CHECKSUM.unpack_from(header, HEADER.size)[0] != zlib.crc32(header[: HEADER.size]):
                raise HistoryError(f"{path}: wrong header checksum at byte {offset}")
            payload = file.read(size)
            tail = file.read(CHECKSUM.size)
            if len(tail) < CHECKSUM.size:
                return
            if CHECKSUM.unpack(tail)[0] != zlib.crc32(payload):
                raise HistoryError(f"{path}: wrong checksum of record {sequence}, byte {offset}")
            if sequence != expected:
                raise HistoryError(f"{path}: record {expected} expected, {sequence} found")
            offset += len(header) + size + CHECKSUM.size
            expected += 1
            yield offset, sequence, decode_payload(Kind(kind), payload)


def check_preamble(path: Path, start: bytes) -> None:
    """Raise HistoryError unless a file starts as a history of this version does."""
    if start[: len(MAGIC)] != MAGIC or len(start) < len(PREAMBLE):
        raise HistoryError(f"{path} is not a selector history")
    (version,) = struct.unpack_from("<I", start, len(MAGIC))
    if version != VERSION:
        raise HistoryError(f"{path} must be a history of version {VERSION}, it is of {version}")


def cut_tail(path: Path, end: int) -> None:
    """Cut off what follows the last whole record."""
    if path.stat().st_size > end:
        os.truncate(path, end)
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        sync_folder(path.parent)
