"""`python -m campaign.paper.child COMMAND ...`: become a command that ends with its parent.

A story that was killed must not leave a stage behind that still writes where the next one resumes.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def become(words: list[str]) -> None:
    """Replace this process; on Linux SIGTERM comes when the parent has died."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    os.execvp(words[0], words)


if __name__ == "__main__":
    become(sys.argv[1:])
