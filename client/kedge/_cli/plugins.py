"""Commands that are found by name: through the entry-point groups ``kedge.commands`` and ``kedge.verifiers``.

They are loaded when one is called or when all are listed, never for a command that stands in the application, which
they cannot replace. A broken one is named, and leaves the rest as it is.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup
from typer.main import get_command

from kedge._cli import verify
from kedge._cli.output import warn
from kedge.errors import KedgeError, StoreError
from kedge.registries import find_extension, load_extension, names_of_extensions

WHAT = "the command"

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


class _ExtensibleGroup(TyperGroup):
    """Our commands first, then those of an entry-point group."""

    extensions: ClassVar[str]

    # The command types of typer's own parser have no public name.
    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Find a command by its name; None if there is none."""
        ours = super().get_command(ctx, cmd_name)
        if ours is not None:
            return ours
        entry = find_extension(self.extensions, cmd_name, what=WHAT)
        if entry is None:
            return None
        command = _load(entry)
        self.add_command(command, cmd_name)
        return command

    def list_commands(self, ctx: Any) -> list[str]:
        """Give the names of all commands that work; say which do not."""
        names = super().list_commands(ctx)
        for name in sorted(set(names_of_extensions(self.extensions)) - set(names)):
            try:
                self.get_command(ctx, name)
            except StoreError as error:
                warn(error.message)
            else:
                names.append(name)
        return names


class CommandGroup(_ExtensibleGroup):
    """The application: ``kedge`` and what other packages add to it."""

    extensions = "kedge.commands"


class VerifierGroup(_ExtensibleGroup):
    """``kedge verify``: one command a kind."""

    extensions = verify.GROUP


def _load(entry: EntryPoint) -> Any:
    loaded = load_extension(entry, what=WHAT, breakage=BREAKAGE)
    try:
        if not isinstance(loaded, typer.Typer):
            app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
            app.command(entry.name)(loaded)
            loaded = app
        return get_command(loaded)
    except BREAKAGE as error:
        package = entry.dist.name if entry.dist else "an unknown package"
        fault = f"{type(error).__name__}: {error}"
        raise StoreError(f"{WHAT} {entry.name} of {package} cannot be used: {fault}") from error
