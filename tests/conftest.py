import os

# Several workers share the cores, and the threads of one that wait for each other keep them from
# the rest. Read at the first import of numpy, also by what tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray reads it once, at its first import in a process: whichever test comes first decides for all.
os.environ.setdefault("RAY_AUTH_MODE", "token")

import numpy as np

np.seterr(all="raise", under="ignore")
