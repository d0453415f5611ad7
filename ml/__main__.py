"""`python -m ml`: train, search, evaluate, table1 (DESIGN 3.7)."""

import logging
import sys
from importlib.metadata import version

import click

from ml.metric import commands as judging
from ml.metric import training_commands as metric


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("bilayer"))
def main() -> None:
    """Models that learn which membrane patches are alike."""
    logging.basicConfig(format="%(levelname)s: %(message)s", stream=sys.stderr)


@main.group()
def train() -> None:
    """Train a model, in this process or as a Ray Train job."""


@main.group()
def search() -> None:
    """Search the settings of a model with Ray Tune."""


train.add_command(metric.train_command)
search.add_command(metric.search_command)
main.add_command(judging.evaluate)
main.add_command(judging.table1)

if __name__ == "__main__":
    main(prog_name="python -m ml")
