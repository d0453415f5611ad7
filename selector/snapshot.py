"""A sampler's whole state in one .npz file of plain arrays, written atomically.

Only what cannot be recomputed is kept: identifiers, vectors, counts, departures. Importances and
k-lists are functions of them, bit for bit. The zip format checks each array's CRC-32 on reading.
"""

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from selector.atomic_file import write_atomically

if TYPE_CHECKING:
    from selector.farthest_point import FarthestPointSampler

FORMAT = "bilayer-selector-snapshot"
VERSION = 1
SETTINGS = ("dimension", "k", "capacity", "warm_up", "seed", "eviction", "minimum_separation")


UNREADABLE = (
    zipfile.BadZipFile,
    AttributeError,
    LookupError,
    ValueError,
    TypeError,
    EOFError,
)


class SnapshotError(ValueError):
    """A file that is not a snapshot of this version, or is damaged."""


def settings_of(sampler: "FarthestPointSampler") -> dict[str, Any]:
    """The constructor arguments of a sampler."""
    return {name: getattr(sampler, name) for name in SETTINGS}


def write_snapshot(sampler: "FarthestPointSampler", path: Path, sequence: int = 0) -> None:
    """Write the state; `sequence` is the last history record that it includes."""
    vectors, rows, *_ = sampler.store.read()
    codes = sampler.store.pool.codes[rows]
    selected = sampler.store.selected
    count = sampler.selected_count
    header = {
        "format": FORMAT,
        "version": VERSION,
        "settings": settings_of(sampler),
        "sequence": sequence,
        "kind": sampler.codec.kind,
        "leased": sampler.leased_ids,
        "long_strings": list(sampler.codec.long_strings.values()),
    }
    departed = sampler.store.departed
    arrays: dict[str, NDArray[Any]] = {
        "header": np.frombuffer(json.dumps(header).encode(), np.uint8),
        "codes": codes,
        "vectors": vectors,
        "selected_codes": selected.codes[:count],
        "selected_vectors": selected.vectors[:count],
        "evicted_near": selected.evicted_near[:count],
        "departed": np.sort(departed[departed != 0]),
        "arrivals": sampler.arrivals(codes),
    }
    write_atomically(path, lambda file: np.savez(file, allow_pickle=False, **arrays))


def read_snapshot(kind: "type[FarthestPointSampler]", path: Path) -> Any:
    """A sampler in the state that `write_snapshot` wrote. Raises SnapshotError."""
    return read_snapshot_and_sequence(kind, path)[0]


def read_snapshot_and_sequence(
    kind: "type[FarthestPointSampler]", path: Path
) -> "tuple[FarthestPointSampler, int]":
    """As `read_snapshot`, with the last history record that the state includes."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(arrays["header"].tobytes())
        known = header["format"] == FORMAT and header["version"] == VERSION
    except (
        zipfile.BadZipFile,
        AttributeError,
        LookupError,
        ValueError,
        TypeError,
        EOFError,
    ) as error:
        raise SnapshotError(f"{path} is not a whole selector snapshot: {error}") from None
    if not known:
        raise SnapshotError(
            f"{path} must be a {FORMAT} of version {VERSION}, "
            f"it is a {header['format']} of version {header['version']}"
        )
    sampler = kind(**header["settings"])
    sampler.codec.kind = header["kind"]
    sampler.codec.keep_long_strings(header["long_strings"])
    sampler.restore(
        arrays["codes"], arrays["vectors"], arrays["selected_codes"], arrays["selected_vectors"]
    )
    store = sampler.store
    store.selected.evicted_near[: sampler.selected_count] = arrays["evicted_near"]
    store.make_room_for_departures(len(arrays["departed"]))
    store.enter_departed(arrays["departed"])
    sampler.set_leases_and_arrivals(header["leased"], arrays["codes"], arrays["arrivals"])
    return sampler, int(header["sequence"])
