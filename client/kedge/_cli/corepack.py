"""``kedge corepack``: Corepack with keys that were verified just now, and pins of what was verified."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from kedge._cli.export import DEFAULT_UPSTREAM, WithoutRetired, export, say_notes, trusted_keys
from kedge._cli.options import AnchorName, Json
from kedge.errors import InputError
from kedge.registries.npm.export import VARIABLE, Layout, export_keys

__all__ = ["COMMANDS", "HELP", "env", "exec_"]

HELP = "Corepack with verified keys."

Upstreams = Annotated[
    list[str] | None,
    typer.Option(
        "--upstream",
        metavar="REGISTRY",
        help=f"The id of the registry that signs, not of its mirror: {DEFAULT_UPSTREAM} unless named. May be repeated.",
        show_default=False,
    ),
]


def env(
    upstream: Upstreams = None, anchor: AnchorName = None, without_retired: WithoutRetired = False, json: Json = False
) -> None:
    """Print the variable that replaces Corepack's own keys.

    For a shell: eval "$(kedge corepack env)". Where it would be stored for later, use kedge corepack exec instead.
    """
    export(Layout.COREPACK_ENV, upstream, anchor, without_retired, json=json)


def exec_(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="What to run, with its arguments.")],
    upstream: Upstreams = None,
    anchor: AnchorName = None,
    without_retired: WithoutRetired = False,
) -> None:
    """Refresh the keys, and run a command that has them.

    The command takes this process's place: its exit status and its signals are its own. If the keys cannot be had, or
    are refused, it is not run.
    """
    answers = trusted_keys(upstream or [DEFAULT_UPSTREAM], anchor)
    exported = export_keys([keys for keys, _ in answers], Layout.COREPACK_JSON, with_retired=not without_retired)
    say_notes(exported)
    former = os.environ.get(VARIABLE)
    if former in ("", "0"):
        sys.stderr.write(f"kedge: note: {VARIABLE} was set to {former or 'nothing'}, which checks nothing: replaced\n")
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(command[0], command, {**os.environ, VARIABLE: exported.value})  # noqa: S606 what the user asked for
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{command[0]}: cannot be run: {reason}", hint="give a program that is on the PATH") from error


COMMANDS: dict[str, Callable[..., None]] = {"env": env, "exec": exec_}
