"""Identifiers as 128-bit codes that sort like them, and the tables that find and deduplicate them.

Integers in [0, 2⁶⁴) sort by value; strings of up to 16 UTF-8 bytes sort by their bytes, which is by
code point. A longer string sorts by, and is known by, its 16-byte BLAKE2b digest; its text is kept
aside. One sampler holds integers or strings, not both. An identifier that has left (evicted,
invalidated) is remembered as 64 bits: one to one for integers (but for one pair in 2⁶⁴), a hash for
strings, so that a string is mistaken for one of n departed ones with probability n / 2⁶⁴.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from selector.counter_random import mix

Identifier: TypeAlias = int | str
Identifiers: TypeAlias = Sequence[Identifier] | Sequence[int] | Sequence[str] | NDArray[Any]

SHORT = 16  # bytes of a code
CHUNK = 8192  # strings encoded at a time
ABSENT = 0


class IdentifierError(ValueError):
    """An identifier of the wrong kind, unknown, or in the wrong state."""


class IdentifierCodec:
    """Translates identifiers to codes and back; remembers the kind and the long strings."""

    def __init__(self) -> None:
        self.kind: str | None = None  # "integer" or "string", fixed by the first identifier
        self.long_strings: dict[bytes, str] = {}
        self._unadopted: dict[bytes, str] = {}

    def encode(self, ids: Identifiers) -> NDArray[np.uint64]:
        """Codes (n, 2) uint64. Raises IdentifierError; remembers nothing before `adopt`."""
        array = ids if isinstance(ids, np.ndarray) else None
        if array is not None and array.ndim != 1:
            raise IdentifierError(f"ids must be one-dimensional, given shape {array.shape}")
        if len(ids) == 0:
            return np.zeros((0, 2), np.uint64)
        kind = kind_of(ids)
        if self.kind is not None and kind != self.kind:
            raise IdentifierError(f"ids of this sampler are {self.kind}s, given a {kind}")
        self._unadopted = {}
        return _integers(ids) if kind == "integer" else self._strings(ids)

    def adopt(self, kind: str | None) -> None:
        """Fix the kind and keep the long strings last encoded: once those ids are accepted."""
        self.kind = kind or self.kind
        self.long_strings |= self._unadopted
        self._unadopted = {}

    def keep_long_strings(self, texts: list[str]) -> None:
        """Keep texts that do not fit a code."""
        self.long_strings |= {_digest(text.encode()): text for text in texts}

    def long_texts(self, codes: NDArray[np.uint64]) -> list[str]:
        """Those of the identifiers that do not fit their code."""
        return [text for text in self.decode(codes) if len(text.encode()) > SHORT]

    def decode(self, codes: NDArray[np.uint64]) -> list[Any]:
        """The identifiers of codes (n, 2), as Python ints or strs."""
        if self.kind != "string":
            low: list[int] = codes[:, 1].tolist()
            return low
        raw = codes.astype(">u8").tobytes()
        words = [raw[at : at + SHORT] for at in range(0, len(raw), SHORT)]
        return [self.long_strings.get(word) or word.rstrip(b"\0").decode() for word in words]

    def _strings(self, ids: Identifiers) -> NDArray[np.uint64]:
        codes = np.empty((len(ids), 2), np.uint64)
        for start in range(0, len(ids), CHUNK):  # so that the texts are never all there twice
            part = list[Any](ids[start : start + CHUNK])
            self._encode_strings(part, codes[start : start + CHUNK])
        return codes

    def _encode_strings(self, ids: list[Any], codes: NDArray[np.uint64]) -> None:
        try:
            text = "".join(ids)
        except TypeError:
            other = next(value for value in ids if not isinstance(value, str))
            raise IdentifierError(f"ids of this sampler are strings, given {other!r}") from None
        if text.isascii():
            lengths = np.fromiter(map(len, ids), np.int64, len(ids))
            if pack_words(np.frombuffer(bytearray(text, "ascii"), np.uint8), lengths, codes):
                return
        words = []
        for name in ids:
            word = name.encode()
            if len(word) > SHORT:
                word = _digest(word)
                self._unadopted[word] = str(name)
            elif not word or word.endswith(b"\0"):
                raise IdentifierError(
                    f"a string id must not be empty or end in NUL, given {word!r}"
                )
            words.append(word.ljust(SHORT, b"\0"))
        codes[:] = np.frombuffer(b"".join(words), ">u8").reshape(-1, 2)


def kind_of(ids: Identifiers) -> str | None:
    """ "integer" or "string" by the first identifier, None if there is none."""
    if len(ids) == 0:
        return None
    first = ids[0]
    if isinstance(first, str):
        return "string"
    if isinstance(first, int | np.integer) and not isinstance(first, bool):
        return "integer"
    raise IdentifierError(f"an id must be an integer or a string, given {first!r}")


def _integers(ids: Identifiers) -> NDArray[np.uint64]:
    codes = np.zeros((len(ids), 2), np.uint64)
    array = np.empty(0)
    try:
        array = np.asarray(ids)
        exact = array.dtype.kind == "u" or (
            array.dtype.kind == "i" and bool(np.minimum.reduce(array) >= 0)
        )
    except OverflowError:
        exact = False
    codes[:, 1] = array if exact else [_checked_integer(value) for value in ids]
    return codes


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=SHORT).digest()


def _checked_integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise IdentifierError(f"ids of this sampler are integers, given {value!r}")
    if not 0 <= value < 2**64:
        raise IdentifierError(f"an integer id must be in [0, 2**64), given {value}")
    return int(value)


def empty_table(entries: int) -> NDArray[np.int32]:
    """An open-addressing table for that many live identifiers at a load of at most two thirds."""
    return np.zeros(max(64, entries * 3 // 2 + 1), np.int32)


def empty_departed(entries: int) -> NDArray[np.uint64]:
    """An open-addressing set for that many departed identifiers at a load of at most 0.85."""
    return np.zeros(max(64, int(entries / 0.85) + 1), np.uint64)


@njit(cache=True, error_model="numpy")
def pack_words(text: Any, lengths: Any, codes: Any) -> Any:
    """Codes of ASCII strings that stand one behind another in `text`; False if one has no code."""
    at = 0
    for i in range(lengths.size):
        length = lengths[i]
        if length == 0 or length > SHORT or text[at + length - 1] == 0:
            return False
        high = np.uint64(0)
        low = np.uint64(0)
        for j in range(length):
            byte = np.uint64(text[at + j])
            if j < 8:
                high |= byte << np.uint64(56 - 8 * j)
            else:
                low |= byte << np.uint64(120 - 8 * j)
        codes[i, 0] = high
        codes[i, 1] = low
        at += length
    return True


@njit(cache=True, error_model="numpy")
def home_of(mark: Any, size: int) -> Any:
    """Where a fingerprint belongs in a table of any size: its upper half, scaled."""
    return np.int64(((mark >> np.uint64(32)) * np.uint64(size)) >> np.uint64(32))


@njit(cache=True, error_model="numpy")
def fingerprint(high: Any, low: Any) -> Any:
    """64 bits that stand for a code: one to one where high is 0, as it is for integers."""
    word = mix(low) if high == 0 else mix(mix(high) ^ low)
    return word if word != 0 else np.uint64(1)


@njit(cache=True, error_model="numpy")
def find(table: Any, codes: Any, selected_codes: Any, high: Any, low: Any) -> Any:
    """Table position of a code, or of the free place where it would go.

    An entry v > 0 stands for candidate row v - 1, v < 0 for selected point -v - 1, 0 is free.
    """
    at = home_of(fingerprint(high, low), table.size)
    while table[at] != ABSENT:
        entry = table[at]
        if entry > 0:
            if codes[entry - 1, 0] == high and codes[entry - 1, 1] == low:
                break
        elif selected_codes[-entry - 1, 0] == high and selected_codes[-entry - 1, 1] == low:
            break
        at = at + 1 if at + 1 < table.size else 0
    return at


@njit(cache=True, error_model="numpy")
def forget(table: Any, codes: Any, selected_codes: Any, at: int) -> None:
    """Free a table position and close the gap that it leaves in its probe run."""
    size = table.size
    hole = at
    probe = at
    while True:
        probe = probe + 1 if probe + 1 < size else 0
        entry = table[probe]
        if entry == ABSENT:
            break
        if entry > 0:
            mark = fingerprint(codes[entry - 1, 0], codes[entry - 1, 1])
        else:
            mark = fingerprint(selected_codes[-entry - 1, 0], selected_codes[-entry - 1, 1])
        home = home_of(mark, size)
        if (probe - home + size) % size >= (probe - hole + size) % size:
            table[hole] = entry
            hole = probe
    table[hole] = ABSENT


@njit(cache=True, error_model="numpy")
def departed_position(departed: Any, print_: Any) -> Any:
    """Position of a fingerprint in the set, or of the free place where it would go."""
    at = home_of(print_, departed.size)
    while departed[at] != 0 and departed[at] != print_:
        at = at + 1 if at + 1 < departed.size else 0
    return at


@njit(cache=True, error_model="numpy")
def depart(departed: Any, prints: Any) -> Any:
    """Add fingerprints to the set, which has room; return how many were new."""
    new = 0
    for i in range(prints.size):
        at = departed_position(departed, prints[i])
        if departed[at] == 0:
            departed[at] = prints[i]
            new += 1
    return new


@njit(cache=True, error_model="numpy")
def fill_table(table: Any, rows: Any, codes: Any, selected_codes: Any, selected_count: int) -> None:
    """Enter candidate rows and the first `selected_count` selected points in an empty table."""
    for row in rows:
        table[find(table, codes, selected_codes, codes[row, 0], codes[row, 1])] = row + 1
    for index in range(selected_count):
        high, low = selected_codes[index, 0], selected_codes[index, 1]
        table[find(table, codes, selected_codes, high, low)] = -index - 1
