"""Runs whose patch files are made up, small and as the continuum writes them."""

from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result

from campaign.analysis.commands import analyse
from continuum.patch_batch import PatchBatch
from continuum.patch_files import write_patches
from ml.patch_set import CHANNELS, LEAFLETS

SIDE_NM = 120.0
INTERVAL_US = 0.01
FRACTIONS = np.array([0.3 if name in LEAFLETS["inner"][:6] else 0.1 for name in CHANNELS])


def write_run(
    folder: Path,
    snapshots=range(8),
    *,
    proteins=6,
    controls=3,
    version=lambda index: 0,
    slots=lambda index, proteins: range(proteins),
    pap6=0.0,
) -> Path:
    """Patches around wandering proteins; `pap6` is added to the middle of protein patches."""
    (folder / "patches").mkdir(parents=True)
    (folder / "config.resolved.yaml").write_text(
        f"preset: laptop\nmembrane: {{side_nm: {SIDE_NM}, cells: 144}}\n"
    )
    generator = np.random.default_rng(5)
    signal = generator.standard_normal((proteins, 14))
    for index in snapshots:
        signal = 0.95 * signal + np.sqrt(1 - 0.95**2) * generator.standard_normal((proteins, 14))
        kept = np.array([*slots(index, proteins), *range(proteins, proteins + controls)], np.int64)
        path = folder / "patches" / f"{index:010d}.h5"
        write_patches(path, batch(index, kept, signal, proteins, version(index), pap6), CHANNELS)
    return folder


def batch(index, slot, signal, proteins, version, pap6) -> PatchBatch:
    generator = np.random.default_rng([7, index])
    count = len(slot)
    around = slot < proteins
    n_ras = np.where(around, 1 + slot % 3, 0).astype(np.uint8)
    n_raf = np.where(around & (slot % 2 == 1), 1, 0).astype(np.uint8)
    density = FRACTIONS[:, None, None] * (1 + 0.05 * generator.random((count, 14, 37, 37)))
    density[around] += 0.02 * np.abs(signal[slot[around]])[:, :, None, None]
    density[around, 6, 12:25, 12:25] += pap6 + 0.05 * n_ras[around, None, None]
    kinds = [n_ras == 0, (n_ras == 1) & (n_raf == 0), (n_ras == 1) & (n_raf == 1)]
    return PatchBatch(
        patch_id=(np.uint64(index) << np.uint64(20)) | slot.astype(np.uint64),
        density=density.astype(np.float32),
        centre_nm=generator.uniform(0, SIDE_NM, (count, 2)),
        central_state=np.where(around, 0, -1).astype(np.int8),
        n_ras=n_ras,
        n_raf=n_raf,
        kind=np.select(kinds, [0, 1, 2], 3).astype(np.uint8),
        bead_offset=np.zeros(count + 1, np.int64),
        bead_position_nm=np.zeros((0, 2)),
        bead_state=np.zeros(0, np.int8),
        time_us=index * INTERVAL_US,
        snapshot_index=index,
        parameter_version=version,
    )


def call(*words: object) -> Result:
    """`python -m campaign analyse ...` in this process, on one core."""
    result = CliRunner().invoke(analyse, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result
