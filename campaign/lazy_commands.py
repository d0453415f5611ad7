"""A group of commands, some of which are imported only when they are called."""

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """`elsewhere`: command -> (where it is, `module:attribute`, and one line of help)."""

    def __init__(
        self, *arguments: Any, elsewhere: Mapping[str, tuple[str, str]], **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._elsewhere = dict(elsewhere)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self._elsewhere})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._elsewhere:
            return super().get_command(ctx, cmd_name)
        place, help_line = self._elsewhere[cmd_name]
        if ctx.resilient_parsing or not ctx.meta.get(_CALLED):
            return click.Command(cmd_name, short_help=help_line)
        module, _, attribute = place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        ctx.meta[_CALLED] = True
        return super().resolve_command(ctx, args)


_CALLED = "campaign.lazy_commands.called"
