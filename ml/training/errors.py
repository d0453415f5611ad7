"""What a training run may fail with, apart from its input."""


class TrainingError(RuntimeError):
    """A run that cannot go on: a loss that is not finite, a damaged checkpoint, no memory."""


class ClusterError(RuntimeError):
    """Ray cannot be reached, refuses the token, or ended the run; the message says which."""
