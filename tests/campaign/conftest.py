"""A small campaign, run once to its end without processes; tests work on copies of it."""

import os
import shutil
from pathlib import Path

import pytest

from campaign.run_folder import read_setup
from tests.campaign.laboratory import carry_on, setup_of, start


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder; nobody writes into it."""
    run = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        start(run, setup_of("continuum.snapshots=3"))
        carry_on(run, read_setup(run))
    return run


@pytest.fixture
def copied_run(whole_run: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(whole_run, tmp_path / "run"))
