"""The journal: everything that happened, in order, durable before anybody acts on it.

`journal/00000000.seg` and on: magic, version, then records of length u32, CRC-32 u32 (of length,
sequence and payload), sequence u64 and a JSON object, little-endian. A process that dies while it
appends leaves a torn tail, which nobody was told of: it is cut and reported. A wrong checksum with
whole records after it is damage, and an error unless `repair` is asked for.
"""

import errno
import json
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from campaign.events import Event, EventError, from_json, to_json
from continuum.atomic_file import write_atomically

MAGIC = b"BILAYJNL"
VERSION = 1
PREAMBLE = MAGIC + struct.pack("<I", VERSION)
HEADER = struct.Struct("<IIQ")  # length, CRC-32, sequence
_CHECKED = struct.Struct("<IQ")  # what the checksum covers besides the payload
SEGMENT_BYTES = 16 << 20
_LARGEST_RECORD = 256 << 20
_dumps = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_PAYLOAD_START = b'{"t":'


class JournalError(ValueError):
    """A journal that is damaged, or of another version."""


class Record(NamedTuple):
    """An event in its envelope."""

    sequence: int
    t_wall: float  # seconds since the epoch
    event: Event


class EventSink(Protocol):
    """Where a coordinator puts events: a `Journal`, or a list in memory."""

    def append(self, event: Event, t_wall: float) -> None:
        """Take an event; it is durable after the next `commit`."""

    def commit(self) -> None:
        """Make everything appended so far durable."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a journal holds, and what of it could not be read."""

    records: list[Record]
    torn_bytes: int  # after the last whole record
    torn_segment: Path | None
    damage: str = ""  # what is wrong before whole records, only where repaired


class Journal:
    """The one writer of a journal; appends are grouped and one `commit` makes them durable."""

    def __init__(self, folder: Path, segment: Path, sequence: int) -> None:
        self.folder = folder
        self.sequence = sequence  # of the next record
        self.segment = segment
        self._buffer: list[bytes] = []
        self._descriptor = -1
        self._size = 0
        self._open(segment)

    @classmethod
    def create(cls, folder: Path) -> "Journal":
        """Start an empty journal. Raises FileExistsError where there is one."""
        folder.mkdir(parents=True, exist_ok=True)
        first = _segment_path(folder, 0)
        if segments(folder):
            raise FileExistsError(errno.EEXIST, "a journal exists already", str(folder))
        write_atomically(first, PREAMBLE)
        return cls(folder, first, 0)

    @classmethod
    def open(cls, folder: Path, *, repair: bool = False) -> tuple["Journal", Contents]:
        """Continue a journal: what it holds, after cutting off a torn tail.

        With `repair`, damage ends the journal: what follows is set aside in `*.damaged` files.
        Raises FileNotFoundError, JournalError.
        """
        contents, end = _read(folder, repair=repair)
        paths = segments(folder)
        last = contents.torn_segment or paths[-1]
        if contents.torn_segment is not None:
            for later in paths[paths.index(last) + 1 :]:
                os.replace(later, later.with_suffix(".seg.damaged"))
            _set_aside(last, end, keep=bool(contents.damage))
        return cls(folder, last, len(contents.records)), contents

    def append(self, event: Event, t_wall: float) -> None:
        """Take an event; it is durable after the next `commit`."""
        payload = _dumps({"t": t_wall, **to_json(event)}).encode()
        self._buffer.append(encode_record(self.sequence, payload))
        self.sequence += 1

    def commit(self) -> None:
        """Make everything appended so far durable; OSError where there is no room for it.

        After a failed commit the journal takes no more: what is in memory would be ahead of it.
        """
        if not self._buffer:
            return
        if self._descriptor < 0:
            raise JournalError(f"{self.segment} is closed, or a write to it failed")
        data = b"".join(self._buffer)
        self._buffer.clear()
        descriptor, self._descriptor = self._descriptor, -1
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        except OSError as error:
            os.close(descriptor)
            raise OSError(error.errno, f"cannot append: {error.strerror}", str(self.segment)) from (
                error
            )
        self._descriptor = descriptor
        self._size += len(data)
        if self._size >= SEGMENT_BYTES:
            self._next_segment()

    def close(self) -> None:
        """Commit and close; nothing more after a failed commit."""
        if self._descriptor >= 0:
            self.commit()
            os.close(self._descriptor)
            self._descriptor = -1

    def _next_segment(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1
        segment = _segment_path(self.folder, int(self.segment.stem) + 1)
        write_atomically(segment, PREAMBLE)
        self._open(segment)

    def _open(self, segment: Path) -> None:
        self.segment = segment
        self._descriptor = os.open(segment, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._size = os.fstat(self._descriptor).st_size


class MemoryJournal:
    """An event sink without a disk, for replays."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def append(self, event: Event, t_wall: float) -> None:
        """Keep an event."""
        self.records.append(Record(len(self.records), t_wall, event))

    def commit(self) -> None:
        """Nothing is ever lost here but with the process."""


def read_journal(folder: Path) -> Contents:
    """All whole records, without a lock and without changing anything.

    Raises FileNotFoundError, JournalError.
    """
    return _read(folder, repair=False)[0]


def segments(folder: Path) -> list[Path]:
    """The files of a journal, in order."""
    return sorted(folder.glob("[0-9]" * 8 + ".seg"))


def encode_record(sequence: int, payload: bytes) -> bytes:
    """The bytes of one record."""
    crc = zlib.crc32(payload, zlib.crc32(_CHECKED.pack(len(payload), sequence)))
    return HEADER.pack(len(payload), crc, sequence) + payload


def _read(folder: Path, *, repair: bool) -> tuple[Contents, int]:
    """Contents, and where the whole records of the torn (else the last) segment end."""
    paths = segments(folder)
    if not paths:
        raise FileNotFoundError(errno.ENOENT, "there is no journal", str(folder))
    numbers = [int(path.stem) for path in paths]
    if numbers != list(range(len(paths))):
        missing = next(i for i, number in enumerate(numbers) if i != number)
        raise JournalError(f"{_segment_path(folder, missing)} is missing, and later ones are there")
    records: list[Record] = []
    end = len(PREAMBLE)
    for path in paths:
        data = path.read_bytes()
        _check_preamble(path, data)
        end = len(PREAMBLE)
        end = _take_records(path, data, records)
        if end == len(data):
            continue
        damage = _damage(path, data, end, len(records), last=path == paths[-1])
        if damage and not repair:
            raise JournalError(damage)
        return Contents(records, len(data) - end, path, damage), end
    return Contents(records, 0, None), end


def _take_records(path: Path, data: bytes, records: list[Record]) -> int:
    """Append the whole records of a segment, up to the first that is not; where they end."""
    at = len(PREAMBLE)
    while (end := _whole_record(data, at, len(records), len(records))) is not None:
        try:
            tree = json.loads(data[at + HEADER.size : end].decode())
            records.append(Record(len(records), tree["t"], from_json(tree)))
        except (EventError, ValueError, KeyError) as error:
            raise JournalError(f"{path}, record {len(records)}: {error}") from error
        at = end
    return at


def _whole_record(data: bytes, at: int, first: int, last: int) -> int | None:
    """The end of a whole record at `at` whose sequence is `first` to `last`; else None."""
    if at + HEADER.size > len(data):
        return None
    length, crc, sequence = HEADER.unpack_from(data, at)
    end: int = at + HEADER.size + length
    if not first <= sequence <= last or length > _LARGEST_RECORD or end > len(data):
        return None
    start = zlib.crc32(_CHECKED.pack(length, sequence))
    return end if zlib.crc32(data[at + HEADER.size : end], start) == crc else None


def _damage(path: Path, data: bytes, end: int, sequence: int, *, last: bool) -> str:
    """Why what follows `end` is no torn tail; "" if it is one."""
    reason = f"{path} is damaged at byte {end}: record {sequence} is not whole"
    hint = "; `resume --repair` continues from the records before it"
    if not last:
        return f"{reason}, and later segments are there{hint}"
    found = data.find(_PAYLOAD_START, end + HEADER.size)
    while found >= 0:
        at = found - HEADER.size
        if _whole_record(data, at, sequence + 1, sequence + len(data)) is not None:
            return f"{reason}, but whole records follow at byte {at}{hint}"
        found = data.find(_PAYLOAD_START, found + 1)
    return ""


def _check_preamble(path: Path, data: bytes) -> None:
    if not data.startswith(MAGIC) or len(data) < len(PREAMBLE):
        raise JournalError(f"{path} is not a segment of a campaign's journal")
    (version,) = struct.unpack_from("<I", data, len(MAGIC))
    if version != VERSION:
        raise JournalError(f"{path} must be of version {VERSION}, it is of version {version}")


def _set_aside(path: Path, end: int, *, keep: bool) -> None:
    """Cut a segment off at `end`; with `keep`, what is cut stays in a file beside it."""
    if keep:
        write_atomically(path.with_suffix(".seg.damaged"), path.read_bytes())
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.ftruncate(descriptor, end)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _segment_path(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}.seg"
