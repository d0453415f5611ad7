"""Reads a journal while another process writes it: the records since the last look."""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

from campaign.events import from_json
from campaign.journal import HEADER, PREAMBLE, Record, segments

_SEQUENCE_AT = 8  # bytes into a header; the checksum covers length, sequence and payload


class JournalFollower:
    """Keeps its place between looks, so that following costs what is new, not what is there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._segment = 0
        self._at = len(PREAMBLE)
        self._sequence = 0

    def new(self) -> Iterator[Record]:
        """Whole records that have been written since; a tail that is being written comes later."""
        while True:
            paths = segments(self._folder)
            if self._segment >= len(paths):
                return
            with open(paths[self._segment], "rb") as file:
                file.seek(self._at)
                data = file.read()
            yield from self._whole_records(data)
            if self._segment == len(paths) - 1:
                return
            self._segment, self._at = self._segment + 1, len(PREAMBLE)

    def _whole_records(self, data: bytes) -> Iterator[Record]:
        begin = 0
        while begin + HEADER.size <= len(data):
            length, crc, sequence = HEADER.unpack_from(data, begin)
            payload = begin + HEADER.size
            end = payload + length
            checked = data[begin : begin + 4] + data[begin + _SEQUENCE_AT : end]
            if end > len(data) or sequence != self._sequence or zlib.crc32(checked) != crc:
                return
            tree = json.loads(data[payload:end])
            self._at += end - begin
            self._sequence += 1
            begin = end
            yield Record(sequence, tree["t"], from_json(tree))
