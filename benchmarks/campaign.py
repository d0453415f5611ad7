"""Benchmark of the campaign: bridge, pilots, coordinator, restart, our own CPU, occupancy.

python benchmarks/campaign.py [--quick] [--json] [--only SECTION ...]
"""

import sys
from pathlib import Path

# This file is named like the package it measures: import from the project's root, not from here.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.campaign_report import main

if __name__ == "__main__":
    main()
