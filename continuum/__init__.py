"""A DDFT cell membrane on MPI ranks.

The public surface is small: `load_model` for configurations, `read_snapshot` and `read_patches` for
what a run writes; `continuum.membrane.Membrane` steps a model in memory. The commands are those of
`python -m continuum`.
"""

from continuum.configuration import ConfigurationError, load_model
from continuum.patch_files import read_patches
from continuum.patches import PatchBatch
from continuum.snapshots import Snapshot, read_snapshot

__all__ = [
    "ConfigurationError",
    "PatchBatch",
    "Snapshot",
    "load_model",
    "read_patches",
    "read_snapshot",
]
