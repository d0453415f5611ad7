"""Any external program as an engine: it reads a patch file and writes an HDF5 file of counts.

The patch file is `patch.h5` of DESIGN 3.2 with one patch. The output must hold a dataset `counts`
(states, inner lipids, 600 bins of 0.02 nm) and the attributes `frames`, `effective_frames` and
`simulated_us`; see `example_engine.py`. Counts are taken as those around lone proteins.
"""

import os
import shutil
import string
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

from campaign.molecular_dynamics.job import BadOutput, EngineCrash
from campaign.molecular_dynamics.patch import Patch
from campaign.molecular_dynamics.results import BINS, MdResult
from campaign.molecular_dynamics.settings import CommandSettings
from continuum.atomic_file import reading
from continuum.patch_files import write_patches

PLACEHOLDERS = ("patch", "output", "seed", "duration_us", "workspace", "python")
_LOG_TAIL = 300
_OUTPUT_ATTRIBUTES = ("frames", "effective_frames", "simulated_us")


class CommandEngine:
    """Runs a program once for each patch; what it prints goes to `command.log` in the workspace."""

    def __init__(self, settings: CommandSettings) -> None:
        check_command(settings)
        self._argv = settings.argv

    def run(self, patch: Patch, seed: int, duration_us: float, workspace: Path) -> MdResult:
        """Run the program in `workspace`; EngineCrash where it fails, BadOutput for nonsense."""
        workspace.mkdir(parents=True, exist_ok=True)
        patch_path, output = workspace / "patch.h5", workspace / "output.h5"
        output.unlink(missing_ok=True)
        write_patches(patch_path, patch.batch, patch.species, patch.state_names)
        values = {
            "patch": str(patch_path),
            "output": str(output),
            "seed": str(seed),
            "duration_us": repr(duration_us),
            "workspace": str(workspace),
            "python": sys.executable,
        }
        argv = [argument.format(**values) for argument in self._argv]
        log = workspace / "command.log"
        try:
            with open(log, "wb") as printed:
                ended = subprocess.run(
                    argv,
                    cwd=workspace,
                    stdin=subprocess.DEVNULL,
                    stdout=printed,
                    stderr=subprocess.STDOUT,
                    check=False,
                )
        except OSError as error:
            raise EngineCrash(f"{argv[0]} cannot be started: {error}") from error
        if ended.returncode != 0:
            how = f"code {ended.returncode}"
            if ended.returncode < 0:
                how = f"signal {-ended.returncode}"
            raise EngineCrash(f"{argv[0]} ended with {how}{_tail(log)}")
        shape = (len(patch.state_names), sum(name.startswith("inner ") for name in patch.species))
        return read_output(output, (*shape, BINS))


def read_output(path: Path, shape: tuple[int, int, int]) -> MdResult:
    """The result in a program's output file; BadOutput says what is wrong with it."""
    if not path.is_file():
        raise BadOutput(f"the program ended well but did not write {path.name}")
    try:
        with reading(path, "output"), h5py.File(path, "r") as file:
            counts = np.asarray(file["counts"][...], dtype=np.float64)
            values = [float(file.attrs[name]) for name in _OUTPUT_ATTRIBUTES]
    except ValueError as error:
        raise BadOutput(f"{path.name} cannot be used: {error}") from error
    if counts.shape != shape:
        raise BadOutput(f"{path.name}: counts must be of shape {shape}, got {counts.shape}")
    frames, effective_frames, simulated_us = values
    if not (np.isfinite(values).all() and frames == round(frames)):
        raise BadOutput(f"{path.name}: frames must be whole and all times finite, got {values}")
    return MdResult(
        counts=counts,
        frames=round(frames),
        effective_frames=effective_frames,
        simulated_us=simulated_us,
    )


def check_command(settings: CommandSettings) -> None:
    """ValueError where the program does not exist or a {placeholder} is unknown."""
    for argument in settings.argv:
        try:
            names = [
                name for _, name, _, _ in string.Formatter().parse(argument) if name is not None
            ]
        except ValueError as error:
            raise ValueError(f"command.argv: {argument!r} is not a template: {error}") from error
        for name in names:
            if name not in PLACEHOLDERS:
                raise ValueError(
                    f"command.argv: {{{name}}} in {argument!r} is unknown; placeholders are "
                    f"{', '.join(f'{{{known}}}' for known in PLACEHOLDERS)}"
                )
    program = settings.argv[0].format_map({"python": sys.executable})
    if shutil.which(program) is None:
        raise ValueError(
            f"command.argv: the program {program!r} must exist and be executable; it is not found "
            f"on PATH = {os.environ.get('PATH', '')}"
        )


def _tail(log: Path) -> str:
    text = log.read_bytes()[-_LOG_TAIL:].decode(errors="replace").strip()
    return f"; its last words: {text}" if text else ""
