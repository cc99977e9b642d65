"""The application ``kedge-repo``: its verbs, its help, and how errors become exit codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from kedge._version import __version__
from kedge.errors import ExitCode, KedgeError
from kedge_repo._cli import (
    audit,
    bins,
    event,
    handin,
    init,
    key,
    lint,
    log,
    online,
    pub,
    publish,
    recover,
    role,
    sign,
    target,
)
from kedge_repo._cli import (
    audit as forecast,
)
from kedge_repo._cli import (
    audit as report,
)
from kedge_repo._cli import (
    audit as status,
)
from kedge_repo._cli import (
    lint as lint_policy,
)
from kedge_repo._cli.options import answer, say
from kedge_repo._cli.options import report as report_error

_SETTINGS = {"help_option_names": ["-h", "--help"]}

_HELP = """Sign and publish the keys of package registries: offline, by threshold, seeing what is signed.

What to do first, on a terminal, which asks for the rest:

\b
  kedge-repo key new alice.pem
  kedge-repo init trust
  cd trust && kedge-repo event status

From then on: event export, sign, event import, event merge, online, publish.
"""

app = typer.Typer(
    name="kedge-repo",
    help=_HELP,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=_SETTINGS,
)
app.command("init")(init.init)
app.command("status")(status.status)
app.add_typer(target.app, name="target")
app.add_typer(key.app, name="key")
app.add_typer(role.app, name="role")
app.command("delegate")(role.delegate)
app.command("renew")(role.renew)
app.add_typer(bins.app, name="bins")
app.add_typer(pub.app, name="pub")
app.add_typer(event.app, name="event")
lint.app.command("policy")(lint_policy.policy)
app.add_typer(lint.app, name="lint")
app.add_typer(handin.app, name="hand-in")
app.command("sign")(sign.sign)
app.add_typer(log.app, name="log")
app.command("online")(online.online)
app.add_typer(publish.app, name="publish")
app.command("forecast")(forecast.forecast)
app.command("recover")(recover.recover)
app.command("report")(report.report)
app.command("audit")(audit.audit)


@app.callback(invoke_without_command=True)
def _begin(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        answer(f"kedge-repo {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit


def run(arguments: Sequence[str]) -> int:
    """Run one command; the result is the exit code."""
    try:
        app(args=list(arguments), prog_name="kedge-repo")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.DONE
    except KedgeError as error:
        report_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        say("kedge-repo: interrupted")
        return ExitCode.INTERRUPTED
    return ExitCode.DONE
