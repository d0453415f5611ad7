"""Benchmark of the continuum: speed, error, roofline, peers, ranks, memory and output.

python benchmarks/continuum.py [--quick] [--json] [--out FOLDER] [--only SECTION ...]
"""

import sys
from pathlib import Path

# This file is named like the package it measures: import from the project's root, not from here.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.continuum_report import main

if __name__ == "__main__":
    main()
