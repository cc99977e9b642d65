"""Commands that other packages add, through the entry-point group ``kedge.commands``.

They are loaded when one is called or when all are listed, never for a command of our own, which they cannot replace.
A broken one is named, and leaves the rest as it is.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from kedge._cli.output import warn
from kedge.errors import KedgeError, StoreError

__all__ = ["GROUP", "PluginGroup"]

GROUP = "kedge.commands"

# What an import may end in, but for what ends the process.
BREAKAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    KedgeError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)


class PluginGroup(TyperGroup):
    """Our commands first, then those of other packages."""

    # The command types of typer's own parser have no public name.
    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Find a command by its name; None if there is none."""
        ours = super().get_command(ctx, cmd_name)
        if ours is not None:
            return ours
        offered = {entry.value: entry for entry in entry_points(group=GROUP, name=cmd_name)}
        if not offered:
            return None
        if len(offered) > 1:
            values = " and ".join(sorted(offered))
            raise StoreError(f"two installed packages offer the command {cmd_name}: {values}", hint="uninstall one")
        command = _load(*offered.values())
        self.add_command(command, cmd_name)
        return command

    def list_commands(self, ctx: Any) -> list[str]:
        """Give the names of all commands that work; say which do not."""
        names = super().list_commands(ctx)
        for name in sorted({entry.name for entry in entry_points(group=GROUP)} - set(names)):
            try:
                self.get_command(ctx, name)
            except StoreError as error:
                warn(error.message)
            else:
                names.append(name)
        return names


def _load(entry: EntryPoint) -> Any:
    try:
        loaded = entry.load()
        if not isinstance(loaded, typer.Typer):
            app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
            app.command(entry.name)(loaded)
            loaded = app
        return get_command(loaded)
    except BREAKAGE as error:
        package = entry.dist.name if entry.dist else "an unknown package"
        fault = f"{type(error).__name__}: {error}"
        raise StoreError(f"the command {entry.name} of {package} cannot be loaded: {fault}") from error
