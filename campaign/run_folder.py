"""The folder of a run: made once, opened by one coordinator at a time, read by anybody."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from campaign.configuration import (
    CampaignSetup,
    configuration_hash,
    read_campaign,
    resolved_yaml,
    rules_of,
)
from campaign.events import CampaignOpened
from campaign.journal import Contents, Journal, JournalError, Record, read_journal
from campaign.rank_contract import CONFIGURATION
from campaign.rules import Rules
from campaign.run_lock import run_lock
from campaign.selection import SelectionSettings
from campaign.state import CampaignState, StateError, apply, initial_state
from continuum.atomic_file import write_atomically
from continuum.configuration import Configuration
from continuum.configuration import resolved_yaml as resolved_membrane

RESOLVED = "config.resolved.yaml"
_RUN_MARKS = (RESOLVED, "journal", "snapshots", "patches")


class RunFolderError(ValueError):
    """A folder that holds no campaign, another one, or one of another version."""


@dataclass(slots=True, eq=False)
class OpenRun:
    """A run in the hands of its one coordinator."""

    folder: Path
    setup: CampaignSetup
    state: CampaignState
    journal: Journal
    contents: Contents  # what was in the journal


def code_version() -> str:
    """Of this program."""
    return version("bilayer")


def create_run(
    folder: Path, setup: CampaignSetup, given: str, *, keep_patches: bool = False
) -> None:
    """Make the folder of a new run; `given` is the configuration as it was written.

    `keep_patches` allows patches to be there already. Raises FileExistsError where there is a run.
    """
    marks = [name for name in _RUN_MARKS if not (keep_patches and name == "patches")]
    if any(_holds_something(folder / name) for name in marks):
        raise FileExistsError(
            errno.EEXIST,
            "it holds a run already: continue it with `campaign resume`, or choose another --out",
            str(folder),
        )
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, "cannot be written to", str(folder))
    for name in ("control", "logs", "patches", "embeddings", "selections", "md", "parameters"):
        (folder / name).mkdir(exist_ok=True)
    write_atomically(folder / "config.yaml", given)
    prepare_ranks(folder, setup.membrane)
    header = f"# bilayer {code_version()}, configuration {configuration_hash(setup)}\n"
    write_atomically(folder / RESOLVED, header + resolved_yaml(setup.config))


def _holds_something(path: Path) -> bool:
    """A file, or a folder that is not empty: a run that died while it was made has left those."""
    return any(path.iterdir()) if path.is_dir() else path.exists()


def read_setup(folder: Path) -> CampaignSetup:
    """The resolved configuration of a run. Raises RunFolderError, ConfigurationError."""
    path = folder / RESOLVED
    if not path.is_file():
        raise RunFolderError(f"{folder} holds no campaign: {path} does not exist")
    return read_campaign(path)


@contextmanager
def open_run(
    folder: Path, setup: CampaignSetup, encoder_version: str, *, repair: bool = False
) -> Iterator[OpenRun]:
    """Take a run over: its lock, its journal, the state that the journal folds to.

    `setup` is that of `read_setup`. The first opening records what the campaign is. Raises
    RunInUse, RunFolderError for another version or configuration, JournalError for damage (unless
    `repair`).
    """
    opened = CampaignOpened(
        config_hash=configuration_hash(setup),
        code_version=code_version(),
        encoder_version=encoder_version,
    )
    with run_lock(folder / "journal"):
        try:
            journal, contents = Journal.open(folder / "journal", repair=repair)
        except FileNotFoundError:
            journal, contents = Journal.create(folder / "journal"), Contents([], 0, None)
        try:
            state = fold(rules_of(setup), contents.records)
            if state.opened is None:
                apply(state, opened)
                journal.append(opened, os.stat(folder / RESOLVED).st_mtime)
                journal.commit()
            check_same(folder, state, opened)
            yield OpenRun(folder, setup, state, journal, contents)
        finally:
            journal.close()


def check_same(folder: Path, state: CampaignState, now: CampaignOpened) -> None:
    """Raise RunFolderError where a run was begun as something else than it would go on as."""
    began = state.opened
    if began is None:
        return
    for name, what in (
        ("code_version", "bilayer"),
        ("config_hash", "configuration"),
        ("encoder_version", "encoder"),
    ):
        old, new = getattr(began, name), getattr(now, name)
        if old != new:
            raise RunFolderError(
                f"{folder} was begun with {what} {old} and cannot go on with {what} {new}"
            )


def fold(rules: Rules, records: list[Record]) -> CampaignState:
    """The state after the records. Raises JournalError that names the record that cannot follow."""
    state = initial_state(rules)
    for record in records:
        try:
            apply(state, record.event)
        except StateError as error:
            raise JournalError(f"record {record.sequence} of the journal: {error}") from error
    return state


def read_state(folder: Path) -> tuple[CampaignSetup, CampaignState, Contents]:
    """What a run has come to, without taking it over; it may be live.

    Raises RunFolderError, ConfigurationError, JournalError.
    """
    setup = read_setup(folder)
    try:
        contents = read_journal(folder / "journal")
    except FileNotFoundError:
        contents = Contents([], 0, None)
    return setup, fold(rules_of(setup), contents.records), contents


def selection_settings(setup: CampaignSetup) -> SelectionSettings:
    """How a campaign of this configuration selects."""
    section = setup.config.selection
    return SelectionSettings(
        queues=section.queues,
        queue_of_kind=section.queue_of_kind,
        seed=setup.config.seed % 2**32,
        save_every=section.save_every,
    )


def prepare_ranks(run: Path, configuration: Configuration) -> None:
    """Leave the continuum's resolved configuration where ranks find it; once in a run's life."""
    run.mkdir(parents=True, exist_ok=True)
    write_atomically(run / CONFIGURATION, resolved_membrane(configuration))
