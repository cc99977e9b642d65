"""``kedge history``: which keys were allowed, and when."""

from __future__ import annotations

from typing import Annotated

import typer

from kedge._cli.history_log import history_from_log
from kedge._cli.mirrors import takes_mirrors
from kedge._cli.options import AnchorName, Json, registry_ids, the_anchor
from kedge._cli.output import answer

__all__ = ["HELP", "history"]

HELP = "Which keys were allowed, and when."


@takes_mirrors
def history(
    context: typer.Context,
    from_log: Annotated[
        bool,
        typer.Option("--from-log", help="Every key ever allowed, by the whole log: none is left out."),
    ] = False,
    registry: Annotated[
        str | None,
        typer.Option("--registry", metavar="REGISTRY", help="Only this registry's.", autocompletion=registry_ids),
    ] = None,
    anchor: AnchorName = None,
    json: Json = False,
) -> None:
    """Say which keys were allowed, and when.

    With --from-log all entries are read, and must make the root hash that the log and its witnesses signed. Exit 5
    where the log contradicts itself.
    """
    if from_log:
        history_from_log(the_anchor(anchor), registry, as_json=json)
    elif context.invoked_subcommand is None:
        answer([context.get_help()])
