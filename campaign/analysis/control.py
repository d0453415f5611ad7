"""The control of a campaign: the same without feedback, whose potentials stay where they were."""

from pathlib import Path

import numpy as np

from campaign.analysis.embedding import AnalysisError
from campaign.molecular_dynamics.hidden_truth import FILE_NAME, read_truth
from campaign.recovery import recovery_by_version
from campaign.recovery_errors import Recovery
from campaign.run_folder import read_state


def control_recovery(run: Path, control: Path) -> Recovery:
    """What the control of a run ended with. Raises AnalysisError where it is no control."""
    ours, theirs = read_truth(run / FILE_NAME), read_truth(control / FILE_NAME)
    if ours.u.shape != theirs.u.shape or not np.allclose(ours.u, theirs.u):
        raise AnalysisError(f"{control} hides another truth than {run}, so it is no control of it")
    setup, _, _ = read_state(control)
    return recovery_by_version(control, setup.model, theirs)[-1]
