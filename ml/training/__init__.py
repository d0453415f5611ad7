"""Training: one loop for every model, in one process or as a Ray Train job.

A model is a `Task`; the loop knows nothing else of it. Importing this package needs neither Ray nor
torch: `ray_cluster`, `ray_train` and `ray_search` are imported where a command asks for them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ml.training.errors import ClusterError, TrainingError
    from ml.training.records import EpochRecord, read_records
    from ml.training.settings import EarlyStopping, TrainingSettings
    from ml.training.single import train_here
    from ml.training.task import Batch, Task, Trained

__all__ = [
    "Batch",
    "ClusterError",
    "EarlyStopping",
    "EpochRecord",
    "Task",
    "Trained",
    "TrainingError",
    "TrainingSettings",
    "read_records",
    "train_here",
]

_MODULES = {
    "errors": ("ClusterError", "TrainingError"),
    "records": ("EpochRecord", "read_records"),
    "settings": ("EarlyStopping", "TrainingSettings"),
    "single": ("train_here",),
    "task": ("Batch", "Task", "Trained"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
