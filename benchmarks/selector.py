"""Benchmark of the selector: order, picks, calls, ingest, streams, memory, history, k = 1.

python benchmarks/selector.py [--quick] [--json] [--only SECTION ...]
"""

import os
import sys
from pathlib import Path

# This file is named like the package it measures: import from the project's root, not from here.
sys.path[0] = str(Path(__file__).resolve().parents[1])
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

from benchmarks.selector_report import main  # noqa: E402

if __name__ == "__main__":
    main()
