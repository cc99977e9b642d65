"""The application ``kedge-repo``: its verbs, its help, and how errors become exit codes.

A verb's module is imported when the verb runs (:class:`kedge._cli.Verb`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from kedge._cli import PLAIN, Verb, group_of, help_of_group
from kedge._version import __version__
from kedge.errors import ExitCode, KedgeError

_HELP = """Sign and publish the keys of package registries: offline, by threshold, seeing what is signed.

What to do first, on a terminal, which asks for the rest:

\b
  kedge-repo key new alice.pem
  kedge-repo init trust
  cd trust && kedge-repo event status

From then on: event export, sign, event import, event merge, online, publish.
"""


def _verb(summary: str, place: str) -> Verb:
    return Verb(summary=summary, place=f"kedge_repo._cli.{place}")


_VERBS = {
    "init": _verb("Begin a repository, and open the first ceremony.", "init:init"),
    "status": _verb("Show what is signed, until when, and the open events.", "audit:status"),
    "target": _verb("Add, replace and remove targets.", "target:app"),
    "key": _verb("List, make, show, add, rotate and revoke keys.", "key:app"),
    "role": _verb("Set the threshold and the periods of a role.", "role:app"),
    "delegate": _verb("Delegate paths to a role, or change a delegation.", "role:delegate"),
    "renew": _verb("Sign roles again with a new expiry, nothing else changed.", "role:renew"),
    "bins": _verb("The targets in a role's hash bins.", "bins:app"),
    "pub": _verb("Signed listings of a pub registry (Dart, Flutter).", "pub:app"),
    "event": _verb("Signing events, from the change to the merge.", "event:app"),
    "lint": _verb("Check key documents before anybody signs them.", "lint:app"),
    "hand-in": _verb("Submit a delegated role's next version.", "handin:app"),
    "sign": _verb("Show what is to be signed, in words, and sign it.", "sign:sign"),
    "log": _verb("The log of every root, targets role and key event.", "log:app"),
    "online": _verb("Sign timestamp and snapshot with the online keys.", "online:online"),
    "publish": _verb("Publish to a folder or an object store; verify, prune.", "publish:app"),
    "forecast": _verb("Show what expires next, and when signing must begin.", "audit:forecast"),
    "recover": _verb("Plan the recovery from lost or stolen keys.", "recover:recover"),
    "report": _verb("Write a report of the repository as one HTML page.", "audit:report"),
    "audit": _verb("Read every published version, and report what is wrong.", "audit:audit"),
}

app = typer.Typer(
    name="kedge-repo",
    cls=group_of(Verb(summary=_HELP, verbs=_VERBS)),
    help=_HELP,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    **{**PLAIN, "add_completion": True},
)


@app.callback()
def _begin(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        sys.stdout.write(f"kedge-repo {__version__}\n")
        raise typer.Exit
    help_of_group(context)


def run(arguments: Sequence[str]) -> int:
    """Run one command; the result is the exit code."""
    try:
        app(args=list(arguments), prog_name="kedge-repo")
    except SystemExit as end:
        if _interrupted(end):
            return ExitCode.INTERRUPTED
        return end.code if isinstance(end.code, int) else ExitCode.DONE
    except KedgeError as error:
        from kedge_repo._cli.options import report

        report(error)
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("kedge-repo: interrupted\n")
        return ExitCode.INTERRUPTED
    return ExitCode.DONE


def _interrupted(end: BaseException) -> bool:
    """Whether a prompt was left with Ctrl-C: typer makes that an ordinary failure."""
    cause: BaseException | None = end
    while cause is not None and not isinstance(cause, KeyboardInterrupt):
        cause = cause.__cause__ or cause.__context__
    return cause is not None
