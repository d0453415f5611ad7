"""A made-up run of a few histories of proteins and controls, as the continuum writes patches."""

from pathlib import Path

import h5py
import numpy as np

from ml.patch_set import CHANNELS

SIDE_NM = 120.0


def write_run(folder: Path, *, snapshots: int = 8, proteins: int = 18, controls: int = 6) -> Path:
    """Patches whose middle tells their kind: n_ras raises channel 6, n_raf lowers channel 0."""
    random = np.random.default_rng(11)
    (folder / "patches").mkdir(parents=True)
    (folder / "config.resolved.yaml").write_text(f"membrane: {{side_nm: {SIDE_NM}}}\n")
    count = proteins + controls
    slot = np.arange(count, dtype=np.uint64)
    for index in range(snapshots):
        n_ras = np.where(slot < proteins, random.choice([1, 1, 2, 3], count), 0).astype(np.uint8)
        n_raf = np.minimum(random.integers(0, 2, count), n_ras).astype(np.uint8)
        kind = np.select(
            [n_ras == 0, (n_ras == 1) & (n_raf == 0), (n_ras == 1) & (n_raf == 1)], [0, 1, 2], 3
        )
        density = 0.3 + 0.02 * random.normal(size=(count, 14, 37, 37))
        density[:, 6, 14:23, 14:23] += 0.05 * n_ras[:, None, None]
        density[:, 0, 14:23, 14:23] -= 0.05 * n_raf[:, None, None]
        with h5py.File(folder / "patches" / f"{index:010d}.h5", "w") as file:
            file.attrs.update(
                schema="bilayer/patches/1",
                snapshot_index=index,
                time_us=0.5 * index,
                parameter_version=0,
                node_spacing_nm=30 / 36,
            )
            file.attrs["species"] = np.array(CHANNELS, dtype=h5py.string_dtype())
            file["patch_id"] = np.uint64(index << 20) | slot
            file["density"] = density.astype(np.float32)
            file["centre_nm"] = random.uniform(0, SIDE_NM, (count, 2))
            file["central_state"] = np.where(slot < proteins, 0, -1).astype(np.int8)
            file["n_ras"], file["n_raf"] = n_ras, n_raf
            file["kind"] = kind.astype(np.uint8)
    return folder
