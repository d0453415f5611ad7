"""How far a rotation of a patch moves its embedding, for angles that no square has.

python benchmarks/rotation.py RUN ENCODER ... [--degrees 15 30 45 90] [--snapshots 6] [--json]

RUN is a continuum run with stored snapshots, from which patches are cut again, ENCODER a folder of
an encoder or `shipped`. A square turned by 45° shows other corners: some change belongs to the
patch and no metric can be free of it, so the radial profiles' own change is printed too.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

# Run as a script, this file's folder comes first: import from the project's root instead.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from numpy.typing import NDArray

from continuum.configuration import load_model
from continuum.recut import recut
from continuum.snapshots import read_snapshot
from ml.encoder import Encoder, load_encoder
from ml.metric.radial_profiles import radial_profiles

Vectors = NDArray[np.floating[Any]]


def cuts(run: Path, degrees: list[float], snapshots: int) -> dict[float, NDArray[np.float32]]:
    """The patches of the last stored snapshots at each angle, (N, 14, 37, 37) nm⁻²."""
    model = load_model(str(run / "config.resolved.yaml"))
    paths = sorted((run / "snapshots").glob("[0-9]*.h5"))[-snapshots:]
    stored = [read_snapshot(path) for path in paths]
    return {
        angle: np.concatenate([recut(one, model, np.deg2rad(angle)).density for one in stored])
        for angle in (0.0, *degrees)
    }


def moved(straight: Vectors, turned: Vectors) -> float:
    """Median distance of a patch to itself turned, over that of two patches."""
    apart = np.linalg.norm(straight - np.roll(straight, len(straight) // 2, axis=0), axis=1)
    return float(np.median(np.linalg.norm(turned - straight, axis=1)) / np.median(apart))


def profiles(encoder: Encoder, density: NDArray[np.float32]) -> Vectors:
    """(N, 304): radial profiles of the images as this encoder standardises them."""
    std = np.array(encoder.info.standardisation.std, np.float32)[:8, None]
    return (radial_profiles(density) / std).reshape(len(density), -1)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("encoders", nargs="+")
    parser.add_argument("--degrees", nargs="+", type=float, default=[15.0, 30.0, 45.0, 90.0])
    parser.add_argument("--snapshots", type=int, default=6)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args()
    density = cuts(given.run, given.degrees, given.snapshots)
    found: dict[str, dict[float, float]] = {}
    for name in given.encoders:
        encoder = load_encoder(None if name == "shipped" else Path(name), threads=1)
        embedded = {angle: encoder.encode(images) for angle, images in density.items()}
        if not found:
            seen = {angle: profiles(encoder, images) for angle, images in density.items()}
            found["radial profiles"] = {a: moved(seen[0.0], seen[a]) for a in given.degrees}
        found[name] = {a: moved(embedded[0.0], embedded[a]) for a in given.degrees}
    print(f"{len(density[0.0])} patches; median dz(p, turned p) / median dz(p, q)")
    for name, by_angle in found.items():
        print(f"{name:50} " + "  ".join(f"{a:g}°: {value:.3f}" for a, value in by_angle.items()))
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
