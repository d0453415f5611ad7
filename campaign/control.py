"""Commands to a live campaign: numbered files `control/command-000001.json`, taken in order.

The file is durable before the command returns and stays; the journal says which have been obeyed.
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from campaign.events import ControlReceived
from campaign.state import CampaignState
from continuum.atomic_file import write_atomically
from continuum.configuration_errors import nearest

_NAME = re.compile(r"command-(\d{6})\.json")


def send_command(run: Path, command: str, arguments: Sequence[str] = ()) -> int:
    """Leave a command for the coordinator of a run; its number."""
    folder = run / "control"
    folder.mkdir(parents=True, exist_ok=True)
    number = max(_numbers(folder), default=0) + 1
    content = json.dumps({"command": command, "arguments": list(arguments)})
    draft = folder / f".command.{os.getpid()}"
    write_atomically(draft, content + "\n")
    try:
        while True:
            try:
                os.link(draft, _path(folder, number))
            except FileExistsError:
                number += 1
            else:
                return number
    finally:
        draft.unlink()


def checked_assignment(state: CampaignState, assignment: str) -> tuple[str, str]:
    """Key and value of `mix.ENGINE=SHARE` or `snapshots=N`, if the campaign could obey.

    Raises ValueError that says what can be set.
    """
    key, equals, value = assignment.partition("=")
    engines = list(state.mix.shares)
    allowed = ["snapshots", *(f"mix.{name}" for name in engines)]
    if not equals or key not in allowed:
        raise ValueError(
            f"what can be set is {', '.join(allowed)}, as KEY=VALUE, got {assignment!r}"
            f"{nearest(key, allowed)}"
        )
    if key == "snapshots":
        least = state.least_last_snapshot
        if not value.isdecimal() or int(value) < least:
            raise ValueError(f"snapshots must be a whole number >= {least}, got {value!r}")
    else:
        try:
            share = float(value)
        except ValueError:
            raise ValueError(f"{key} must be a number, got {value!r}") from None
        state.mix.with_share(key.removeprefix("mix."), share)
    return key, value


class FolderControls:
    """Reads the commands of a run's folder."""

    def __init__(self, run: Path) -> None:
        self._folder = run / "control"

    def poll(self, after: int) -> list[ControlReceived]:
        """Commands with numbers above `after`; what cannot be read is one to refuse."""
        commands = []
        while (path := _path(self._folder, after + 1)).exists():
            after += 1
            try:
                values = json.loads(path.read_text())
                command, arguments = str(values["command"]), tuple(map(str, values["arguments"]))
            except (ValueError, KeyError, TypeError) as error:
                command, arguments = "refused", (f"{path.name} is no command: {error}",)
            commands.append(ControlReceived(number=after, command=command, arguments=arguments))
        return commands


def _path(folder: Path, number: int) -> Path:
    return folder / f"command-{number:06d}.json"


def _numbers(folder: Path) -> list[int]:
    matches = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return [int(match.group(1)) for match in matches if match]
