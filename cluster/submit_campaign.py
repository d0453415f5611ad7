"""Run a campaign on the cluster this script was submitted to (`ray submit`, or a batch script).

    ray submit cluster/ray-local.yaml cluster/submit_campaign.py -- CONFIG [--out RUN] [options]

`ray submit` copies this one file to the head and runs it there, so the package must be installed
on the cluster. CONFIG is a preset, or a file on the head. Without --out the run's folder is
`~/bilayer-runs/<config>-<time>`; everything else goes to `python -m campaign run`. A run that is
there already is resumed with `--resume RUN` in place of CONFIG.
"""

import os
import sys
import time
from pathlib import Path

RUNS = Path("~/bilayer-runs")


def main(arguments: list[str]) -> None:
    """Attach to the cluster of this host and carry the campaign on."""
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.exit(__doc__)
    try:
        from campaign.__main__ import main as campaign
    except ModuleNotFoundError as error:
        sys.exit(
            f"Error: {error}, in {sys.executable}: install the project on the cluster, with its"
            " extra `campaign`"
        )
    command = ["resume", *arguments[1:]] if arguments[0] == "--resume" else run_command(arguments)
    if not {"--address", "--local"} & set(command):
        command += ["--address", os.environ.get("RAY_ADDRESS", "auto")]
    campaign(command, prog_name="campaign")


def run_command(arguments: list[str]) -> list[str]:
    """`run` with a folder of its own where none is given."""
    command = ["run", *arguments]
    if not any(word == "--out" or word.startswith("--out=") for word in arguments):
        name = f"{Path(arguments[0]).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
        command += ["--out", str(RUNS.expanduser() / name)]
    return command


if __name__ == "__main__":
    main(sys.argv[1:])
