"""Refusing what would not fit into memory before it is tried."""

import psutil
import torch

from ml.training.errors import TrainingError

_GB = 1e9


def require_memory(needed_bytes: int, device: torch.device, what: str) -> None:
    """Raises TrainingError, naming `what`, unless that much memory is available on the device."""
    if device.type == "cuda":
        available = torch.cuda.mem_get_info(device)[0]
    else:
        available = psutil.virtual_memory().available
    if needed_bytes > available:
        raise TrainingError(
            f"too little memory: {what} needs about {needed_bytes / _GB:.1f} GB,"
            f" {available / _GB:.1f} GB are available"
        )
