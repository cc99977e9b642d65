"""Commands that are loaded when they are used: our own by a table, those of other packages by entry points.

A group knows its own commands by name and summary (:class:`Verb`), so that ``--help``, completion and another command
import none of them. Entry points (the groups ``kedge.commands`` and ``kedge.verifiers``) are loaded when one is called
or when all are listed; they cannot replace a command of ours. A broken one is named, and leaves the rest as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from kedge.errors import KedgeError, StoreError

PLAIN: dict[str, Any] = {"add_completion": False, "rich_markup_mode": None, "pretty_exceptions_enable": False}

WHAT = "the command"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """A command that is imported when it runs, or a group of such commands.

    ``summary`` is the first line of its help; ``place`` is ``package.module:function`` (or a typer application), empty
    for a group without a function of its own. ``extensions`` is the entry-point group that may add commands to it.
    """

    summary: str
    place: str = ""
    verbs: Mapping[str, Verb] = field(default_factory=dict)
    extensions: str | None = None
    runs_another: bool = False
    """What follows another program's name on the command line is that program's."""


class VerbGroup(TyperGroup):
    """A group of commands that are loaded late."""

    verb: Verb

    # The command types of typer's own parser have no public name.
    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Find a command by its name, and load it; None if there is none."""
        if cmd_name not in self.commands:
            if cmd_name in self.verb.verbs:
                self.add_command(load_verb(cmd_name, self.verb.verbs[cmd_name]), cmd_name)
            elif self.verb.extensions is not None:
                self._add_extension(self.verb.extensions, cmd_name)
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: Any) -> list[str]:
        """Give the names of all commands that work; say which do not."""
        names = list(self.verb.verbs)
        if self.verb.extensions is not None:
            found = {entry.name for entry in entry_points(group=self.verb.extensions)}
            names += [name for name in sorted(found - set(names)) if self._works(ctx, name)]
        return names

    def _works(self, ctx: Any, name: str) -> bool:
        try:
            self.get_command(ctx, name)
        except StoreError as error:
            from kedge._cli.output import warn

            warn(error.message)
            return False
        return True

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands, ours by their summaries."""
        names = self.list_commands(ctx)
        if names:
            width = formatter.width - 6 - max(map(len, names))
            with formatter.section("Commands"):
                formatter.write_dl([(name, self._summary(ctx, name, width)) for name in names])

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Complete our commands without loading one."""
        from typer._click.shell_completion import CompletionItem

        ours = {name: verb.summary for name, verb in self.verb.verbs.items() if name.startswith(incomplete)}
        found = [CompletionItem(name, help=summary) for name, summary in ours.items()]
        return found or super().shell_complete(ctx, incomplete)

    def _summary(self, ctx: Any, name: str, width: int) -> str:
        if name in self.verb.verbs:
            return self.verb.verbs[name].summary
        summary: str = self.get_command(ctx, name).get_short_help_str(width)
        return summary

    def _add_extension(self, group: str, name: str) -> None:
        from kedge.registries import find_extension

        entry = find_extension(group, name, what=WHAT)
        if entry is not None:
            self.add_command(_load_extension(entry), name)


def group_of(verb: Verb) -> type[VerbGroup]:
    """Make the class of the group that ``verb`` describes."""
    return type("Group", (VerbGroup,), {"verb": verb})


def load_verb(name: str, verb: Verb) -> Any:
    """Import a command, or put a group together, for typer's parser."""
    function: Callable[..., None] | None = None
    if verb.place:
        module, _, attribute = verb.place.partition(":")
        function = getattr(import_module(module), attribute)
    if isinstance(function, typer.Typer):
        return get_group(function)
    if not verb.verbs and verb.extensions is None:
        app = typer.Typer(**PLAIN)
        app.command(name, context_settings={"allow_interspersed_args": not verb.runs_another})(function or _nothing)
    else:
        text: dict[str, Any] = {} if function is not None else {"help": verb.summary}  # a function says it itself
        app = typer.Typer(cls=group_of(verb), invoke_without_command=True, **text, **PLAIN)
        app.callback()(function or help_of_group)
    return get_command(app)


def help_of_group(context: typer.Context) -> None:
    """Print the help of a group where none of its commands was named."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _nothing() -> None:
    raise RuntimeError("a verb has a place, or verbs")


def _load_extension(entry: EntryPoint) -> Any:
    from kedge.registries import load_extension

    # What an import may end in, but for what ends the process.
    breakage = (
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
    loaded = load_extension(entry, what=WHAT, breakage=breakage)
    try:
        if not isinstance(loaded, typer.Typer):
            app = typer.Typer(**PLAIN)
            app.command(entry.name)(loaded)
            loaded = app
        return get_command(loaded)
    except breakage as error:
        package = entry.dist.name if entry.dist else "an unknown package"
        fault = f"{type(error).__name__}: {error}"
        raise StoreError(f"{WHAT} {entry.name} of {package} cannot be used: {fault}") from error
