"""What each selected patch stood for when a parameter version's jobs were complete.

Weights are taken right after the selection they belong to, because the selector moves on while the
jobs run: so they do not depend on timing. `selections/weights-0000000123.json`: job -> weight.
"""

import json
from pathlib import Path

from continuum.atomic_file import write_atomically


def weights_path(selections: Path, snapshot: int) -> Path:
    """Where the weights after the selection at a snapshot lie."""
    return selections / f"weights-{snapshot:010d}.json"


def write_weights(selections: Path, snapshot: int, weights: dict[str, int]) -> None:
    """Write them, all or none."""
    selections.mkdir(parents=True, exist_ok=True)
    write_atomically(weights_path(selections, snapshot), json.dumps(weights, indent=0) + "\n")


def read_weights(selections: Path, snapshot: int) -> dict[str, int]:
    """Read them. Raises FileNotFoundError, or ValueError where the file is damaged."""
    path = weights_path(selections, snapshot)
    try:
        return {str(job): int(weight) for job, weight in json.loads(path.read_text()).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} must hold a weight for each job: {error}") from error
