"""A DDFT cell membrane on MPI ranks.

The public surface is small: `load_model` for configurations, `read_snapshot` and `read_patches` for
what a run writes; `continuum.membrane.Membrane` steps a model in memory. The commands are those of
`python -m continuum`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from continuum.configuration import ConfigurationError, load_model
    from continuum.patch_batch import PatchBatch
    from continuum.patch_files import read_patches
    from continuum.snapshots import Snapshot, read_snapshot

__all__ = [
    "ConfigurationError",
    "PatchBatch",
    "Snapshot",
    "load_model",
    "read_patches",
    "read_snapshot",
]

_MODULE = {
    "ConfigurationError": "configuration",
    "PatchBatch": "patch_batch",
    "Snapshot": "snapshots",
    "load_model": "configuration",
    "read_patches": "patch_files",
    "read_snapshot": "snapshots",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: a process that only reads a file starts in a third of the time."""
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE[name]}"), name)
