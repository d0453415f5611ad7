"""What ranks and whoever starts them agree on."""

from typing import Literal

TransportName = Literal["spool", "ray"]

CONFIGURATION = "continuum.resolved.yaml"
FINISHED, RUN_FAILED, BAD_INPUT, FENCED = 0, 1, 2, 3  # exit codes
