import os
from pathlib import Path

# Several workers share the cores, and the threads of one that wait for each other keep them from
# the rest. Read at the first import of numpy, also by what tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray reads it once, at its first import in a process: whichever test comes first decides for all.
os.environ.setdefault("RAY_AUTH_MODE", "token")

import numpy as np

np.seterr(all="raise", under="ignore")

HERE = Path(__file__).parent
COMPILE_MOST = (
    HERE / "selector/test_farthest_point.py",
    HERE / "continuum/test_command_line.py",  # in single precision
    HERE / "continuum/test_flux_noise.py",  # in double
)


def pytest_collection_modifyitems(items):
    """Files in an order that keeps all workers busy; the laws do not depend on it.

    Workers begin with the kernels that most tests need, each with its own, so that none compiles
    what another is compiling. Then comes what needs few of them; and no long file comes last.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}

    def place(item):
        if item.path in COMPILE_MOST:
            return COMPILE_MOST.index(item.path), False, False
        return len(COMPILE_MOST), HERE / "ml" not in item.path.parents, item.path not in slow

    items.sort(key=place)
