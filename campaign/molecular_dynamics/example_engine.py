"""A worked example of an external program for the `command` engine; needs only h5py and numpy.

    molecular_dynamics:
      engines:
        command:
          argv: ["{python}", "-m", "campaign.molecular_dynamics.example_engine",
                 "{patch}", "{output}", "{seed}", "{duration_us}"]

In place of a simulation it takes the densities of the patch itself as what lipids do, so that
feedback from it tells the continuum what the continuum already thinks.
"""

import sys

import h5py
import numpy as np

BINS, BIN_NM = 600, 0.02
SIDE_NM = 30.0
FRAMES_PER_US = 2.0


def main() -> None:
    """Read a patch file, write an output file."""
    patch_path, output_path = sys.argv[1:3]
    seed, duration_us = int(sys.argv[3]), float(sys.argv[4])
    with h5py.File(patch_path, "r") as patch:
        inner = [name.startswith("inner ") for name in patch.attrs["species"]]
        density = patch["density"][0][inner]  # (L, 37, 37)  nm⁻² at [lipid, y, x]
        state = int(patch["central_state"][0])  # -1: no protein
        states = len(patch.attrs["state_names"])

    nodes = density.shape[1]
    along = np.linspace(-SIDE_NM / 2, SIDE_NM / 2, nodes)
    distance = np.hypot(*np.meshgrid(along, along))
    ring = np.rint(distance / (SIDE_NM / (nodes - 1))).astype(int)
    nodes_in_ring = np.maximum(np.bincount(ring.ravel()), 1)
    profile = [np.bincount(ring.ravel(), channel.ravel()) / nodes_in_ring for channel in density]
    centre = (np.arange(BINS) + 0.5) * BIN_NM
    area = 2 * np.pi * centre * BIN_NM

    frames = max(1, round(FRAMES_PER_US * duration_us))
    counts = np.zeros((states, len(density), BINS))
    if state >= 0:
        ring_nm = np.arange(len(nodes_in_ring)) * SIDE_NM / (nodes - 1)
        expected = [np.interp(centre, ring_nm, np.maximum(row, 0.0)) * area for row in profile]
        counts[state] = np.random.default_rng(seed).poisson(frames * np.array(expected))

    with h5py.File(output_path, "w") as output:
        output["counts"] = counts
        output.attrs["frames"] = frames
        output.attrs["effective_frames"] = float(frames)
        output.attrs["simulated_us"] = duration_us


if __name__ == "__main__":
    main()
