import os

import numpy as np

# Ray reads it once, at its first import in a process: whichever test comes first decides for all.
os.environ.setdefault("RAY_AUTH_MODE", "token")

np.seterr(all="raise", under="ignore")
