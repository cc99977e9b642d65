"""The application: its verbs, what every one of them shares, and how an error leaves the process.

A verb's module is imported when the verb runs (:mod:`kedge._cli.plugins`): ``kedge --version`` loads none of them.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.main import get_command

from kedge._cli.plugins import PLAIN, Verb, group_of, help_of_group
from kedge._version import __version__
from kedge.errors import ExitCode, KedgeError


def _ours(summary: str, place: str, **more: Any) -> Verb:
    return Verb(summary=summary, place=f"kedge._cli.{place}", **more)


VERIFIERS = {
    "apt": _ours("Verify an apt repository.", "verify.apt:apt"),
    "evidence": _ours("Judge an evidence file again, offline.", "verify.evidence:evidence"),
    "go": _ours("Verify a go.sum.", "verify.go:go"),
    "hex": _ours("Verify what a mix.lock holds.", "verify.hex:hex_"),
    "npm": _ours("Verify what a lockfile holds.", "verify.npm:npm"),
    "nuget": _ours("Verify NuGet packages.", "verify.nuget:nuget"),
    "pgp": _ours("Verify a detached OpenPGP signature.", "verify.pgp:pgp"),
    "pub": _ours("Verify a pubspec.lock.", "verify.pub:pub"),
    "pypi": _ours("Verify where distribution files come from (PEP 740).", "verify.pypi:pypi"),
    "sigstore": _ours("Verify a file against its Sigstore bundle.", "verify.sigstore:sigstore"),
}

VERBS = {
    "refresh": _ours("Fetch what is new.", "refresh:refresh"),
    "status": _ours("Show stored trust.", "status:status"),
    "lock": _ours("Write kedge.lock: how far trust has come.", "lock:lock"),
    "doctor": _ours("Look for what would make other commands fail.", "doctor:doctor"),
    "monitor": _ours("Monitor transparency logs; report unexpected keys.", "monitor:monitor"),
    "verify": Verb(
        summary="Verify packages' registry signatures.",
        verbs=VERIFIERS,
        extensions="kedge.verifiers",
    ),
    "history": _ours(
        "Which keys were trusted on a day, since when, and who signed them.",
        "history:history",
        verbs={
            "diff": _ours("Say what changed between two times: versions, signers, keys.", "history:diff"),
            "keys": _ours("List every key that was ever allowed for a registry.", "history:keys"),
        },
    ),
    "keys": Verb(
        summary="Show, list and export registries' keys.",
        verbs={
            "list": _ours("List the keys of registries, one per line.", "keys:list_keys"),
            "show": _ours("Show a registry's keys, and the trust behind them.", "keys:show"),
            "export": _ours("Export keys for other tools.", "export:export"),
        },
    ),
    "anchor": Verb(
        summary="Manage trust anchors (initial TUF roots).",
        verbs={
            "add": _ours("Add an anchor: an initial root, and where its repository is.", "anchor:add"),
            "list": _ours("List the anchors, added and built in.", "anchor:list_anchors"),
            "show": _ours("Show one anchor.", "anchor:show"),
            "remove": _ours("Remove an anchor that was added.", "anchor:remove"),
            "reset-time": _ours("Forget the latest time seen, after a clock was far ahead.", "anchor:reset_time"),
        },
    ),
    "bundle": Verb(
        summary="Take trust across an air gap in one file.",
        verbs={
            "create": _ours("Make a bundle of what is trusted now.", "bundle:create"),
            "inspect": _ours("Show what a bundle says of itself.", "bundle:inspect"),
            "verify": _ours("Verify all of a bundle, and keep nothing.", "bundle:verify"),
            "apply": _ours("Verify all of a bundle, and keep it.", "bundle:apply"),
            "from-qr-text": _ours("Put a bundle together from QR codes that were read.", "bundle:from_qr_text"),
        },
    ),
    "corepack": Verb(
        summary="Run Corepack with verified keys.",
        verbs={
            "env": _ours("Print the variable that replaces Corepack's own keys.", "corepack:env"),
            "exec": _ours("Refresh the keys, and run a command with them.", "corepack:exec_", runs_another=True),
            "pin": _ours("Pin a package manager to the bytes that its registry signed.", "corepack:pin"),
        },
    ),
    "config": Verb(
        summary="Show the effective configuration.",
        verbs={"show": _ours("Show every setting, and where its value came from.", "config:show")},
    ),
    "mirror": Verb(
        summary="Make and serve verified copies of repositories.",
        verbs={
            "sync": _ours("Copy a repository, all of it verified.", "mirror:sync_mirror"),
            "serve": _ours("Serve a copy on the loopback, until interrupted.", "mirror:serve"),
        },
    ),
}

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
        from kedge._cli.output import report

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
        cls=group_of(Verb(summary=HELP, verbs=VERBS, extensions="kedge.commands")),
        help=HELP,
        epilog=EPILOG,
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"], **_width()},
        **{**PLAIN, "add_completion": True},
    )
    app.callback()(_start)
    return app


def _start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        sys.stdout.write(f"kedge {__version__}\n")
        raise typer.Exit
    help_of_group(context)


def _width() -> dict[str, int]:
    """Help narrower than the 50 columns that the formatter takes for the least."""
    columns = shutil.get_terminal_size().columns
    return {"terminal_width": columns - 2} if columns < 52 else {}
