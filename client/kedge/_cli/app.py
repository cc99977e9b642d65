"""The application: its verbs, what every one of them shares, and how an error leaves the process."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer
from typer.main import get_command

from kedge._cli import (
    anchor,
    bundle,
    config,
    corepack,
    doctor,
    export,
    history,
    keys,
    lock,
    mirror,
    monitor,
    refresh,
    status,
    verify,
)
from kedge._cli.output import answer, report
from kedge._cli.plugins import CommandGroup, VerifierGroup
from kedge._version import __version__
from kedge.errors import ExitCode, KedgeError

PLAIN: dict[str, Any] = {"rich_markup_mode": None, "pretty_exceptions_enable": False}

GROUPS: dict[str, tuple[str, Mapping[str, Callable[..., None]]]] = {
    "keys": (keys.HELP, {**keys.COMMANDS, "export": export.export}),
    "anchor": (anchor.HELP, anchor.COMMANDS),
    "bundle": (bundle.HELP, bundle.COMMANDS),
    "corepack": (corepack.HELP, corepack.COMMANDS),
    "config": (config.HELP, config.COMMANDS),
    "mirror": (mirror.HELP, mirror.COMMANDS),
}

# Commands that run another one.
RUNNERS = (corepack.exec_,)

HELP = """Registry keys that their maintainers signed, and that no mirror can replace.

What to do first, with the anchor that ships (Sigstore's public repository):

\b
  kedge keys show registry.npmjs.org

With a repository of your own, once you hold its initial root:

\b
  kedge anchor add NAME --root root.json \\
      --mirror https://... --registry HOST
  kedge refresh
  kedge status

If something does not work: kedge doctor. Answers are printed on stdout, everything else on stderr.
"""

EPILOG = """Exit status: 0 done, 1 could not (network, disk), 2 wrong usage or file, 3 refused to trust,
4 expired, 5 a check found faults, 130 interrupted. kedge config show says which
folders, variables and files it goes by."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line, and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")  # a name that the terminal cannot show must not end in a traceback
    try:
        get_command(application()).main(list(arguments), prog_name="kedge")
    except KedgeError as error:
        report(error)
        return error.exit_code
    except SystemExit as end:
        if end.code == ExitCode.INTERRUPTED:
            sys.stderr.write("kedge: interrupted\n")
        return end.code if isinstance(end.code, int) else ExitCode.COULD_NOT
    return ExitCode.DONE


def application() -> typer.Typer:
    """Put the command together."""
    app = typer.Typer(
        cls=CommandGroup,
        help=HELP,
        epilog=EPILOG,
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"], **_width()},
        **PLAIN,
    )
    app.callback()(_start)
    app.command("refresh")(refresh.refresh)
    app.command("status")(status.status)
    app.command("lock")(lock.lock)
    app.command("doctor")(doctor.doctor)
    app.command("monitor")(monitor.monitor)
    app.add_typer(_group(verify.HELP, cls=VerifierGroup), name="verify")
    app.add_typer(_history(), name="history")
    for name, (text, commands) in GROUPS.items():
        group = _group(text)
        for verb, command in commands.items():
            # What follows another program's name is that program's.
            group.command(verb, context_settings={"allow_interspersed_args": command not in RUNNERS})(command)
        app.add_typer(group, name=name)
    return app


def _history() -> typer.Typer:
    group = typer.Typer(help=history.HELP, invoke_without_command=True, **PLAIN)
    group.callback()(history.history)
    for verb, command in history.COMMANDS.items():
        group.command(verb)(command)
    return group


def _group(text: str, **settings: Any) -> typer.Typer:
    group = typer.Typer(help=text, no_args_is_help=False, invoke_without_command=True, **PLAIN, **settings)
    group.callback()(_help_of_group)
    return group


def _start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        answer([f"kedge {__version__}"])
        raise typer.Exit
    _help_of_group(context)


def _help_of_group(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        answer([context.get_help()])


def _width() -> dict[str, int]:
    """Help narrower than the 50 columns that the formatter takes for the least."""
    columns = shutil.get_terminal_size().columns
    return {"terminal_width": columns - 2} if columns < 52 else {}
