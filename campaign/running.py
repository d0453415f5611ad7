"""Carry a campaign on, from wherever it is, under a shell: what `run` and `resume` both do."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType

from campaign.configuration import CampaignSetup
from campaign.control import send_command
from campaign.coordinator import Coordinator, Watcher, nobody
from campaign.encoder_store import (
    TrainingPlace,
    check_encoder,
    device_of,
    encoder_folder,
    install_encoder,
    run_encoder,
)
from campaign.molecular_dynamics.engines import check_engine
from campaign.run_folder import create_run, open_run, read_setup, selection_settings
from campaign.selection import PatchSelection, reader
from campaign.shell_protocol import Shell
from campaign.state import CampaignState

LOGGER = logging.getLogger(__name__)

OpenShell = Callable[[Path, CampaignSetup], AbstractContextManager[Shell]]


def begin_campaign(
    run: Path, setup: CampaignSetup, given: str, place: TrainingPlace | None = None
) -> None:
    """Make the folder of a campaign, with the encoder it will use, after checking what it needs.

    Raises FileExistsError where there is a run, ValueError or OSError where something is missing.
    """
    section = setup.config.molecular_dynamics
    for name in section.mix:
        check_engine(section.engines.of(name))
    check_encoder(setup.config.encoder)
    attached = setup.config.continuum.source == "attached"
    create_run(run, setup, given, keep_patches=attached)
    install_encoder(run, setup.config.encoder, place)


def carry_on(
    run: Path,
    open_shell: OpenShell,
    *,
    watch: Watcher = nobody,
    repair: bool = False,
    after: int | None = None,
) -> CampaignState:
    """Take a campaign over and go on until it ends; its state then.

    One that has ended goes on too, unless under a coordinator that came after number `after`: then
    nobody has asked for more, and only what that coordinator may have left running is ended.

    SIGINT and SIGTERM stop it in good order. Raises RunInUse, RunFolderError, JournalError,
    SelectionDivergence, and what the shell raises.
    """
    setup = read_setup(run)
    if not (run / "encoders").is_dir():  # it was killed before it had one
        install_encoder(run, setup.config.encoder)
    with open_run(run, setup, encoder_folder(run).name, repair=repair) as opened:
        contents = opened.contents
        if contents.torn_bytes:
            LOGGER.warning(
                "%s: cut %d bytes after the last whole record%s",
                contents.torn_segment,
                contents.torn_bytes,
                f" ({contents.damage})" if contents.damage else ", which nobody was told of",
            )
        stays_ended = _ended_since(opened.state, after)
        with open_shell(run, setup) as shell, stopping_on_signals(run):
            if stays_ended:
                return opened.state
            coordinator = Coordinator(
                opened.state,
                opened.journal,
                shell,
                PatchSelection(selection_settings(setup)),
                reader(run),
                run / "selections",
                watch,
            )
            coordinator.begin(os.getpid())
            coordinator.run()
        return opened.state


def _ended_since(state: CampaignState, after: int | None) -> bool:
    if after is None or state.shell is None or state.finished is None:
        return False
    return state.shell.incarnation > after


@contextmanager
def local_shell(run: Path, setup: CampaignSetup) -> Iterator[Shell]:
    """The shell without Ray, ended with the block."""
    from campaign.local_executor import LocalShell

    device = device_of(setup.config.embedding)
    shell = LocalShell(run, setup, run_encoder(run, device))
    try:
        yield shell
    finally:
        shell.close()


@contextmanager
def stopping_on_signals(run: Path) -> Iterator[None]:
    """The first signal asks for a stop; the second is taken as usual.

    Signals come to the main thread only: in another one this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        for name, handler in before.items():
            signal.signal(name, handler)
        LOGGER.warning("%s: stopping; resume continues it", signal.Signals(number).name)
        send_command(run, "stop")

    before = {name: signal.signal(name, stop) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
