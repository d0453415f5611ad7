"""Training: one loop for every model, in one process or as a Ray Train job.

A model is a `Task`; the loop knows nothing else of it. Importing this package needs no Ray:
`ray_cluster`, `ray_train` and `ray_search` are imported where a command asks for them.
"""

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
