"""``kedge status``: how far trust reaches, from what is stored."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Annotated

import typer

from kedge._cli.clients import open_client
from kedge._cli.metrics import Measured, metric_lines
from kedge._cli.options import AnchorName, Json, chosen_anchors, for_each
from kedge._cli.output import Screen, answer, answer_json
from kedge._cli.tables import trust_document
from kedge._cli.words import say_warnings, trust_lines
from kedge.anchor import Anchor
from kedge.errors import InputError, KedgeError
from kedge.trust import Trust

__all__ = ["status"]


def status(
    anchor: AnchorName = None,
    prometheus: Annotated[
        bool, typer.Option("--prometheus", help="Print metrics, also where trust may not answer any more.")
    ] = False,
    json: Json = False,
) -> None:
    """Show stored trust.

    It says how far trust reaches, without asking the network. Without --anchor it shows every anchor that was added,
    or the one that ships if none was. Exit status 4: it is past its end, or past the anchor's red line.
    """
    if prometheus and json:
        raise InputError("--prometheus and --json are two answers", hint="choose one")
    anchors = chosen_anchors(anchor)
    if prometheus:
        # The figures count most where trust is past its end: they are the answer, whatever the exit status.
        answer(metric_lines(_measured(each) for each in anchors))
    answers = for_each(anchors, _stored)
    say_warnings(answers)
    if json:
        answer_json(trust_document(answers))
    elif not prometheus:
        screen = Screen.of_stdout()
        answer(line for trust in answers for line in trust_lines(screen, trust))


def _stored(anchor: Anchor) -> Trust:
    with open_client(anchor) as client:
        return client.status()


def _measured(anchor: Anchor) -> Measured:
    try:
        return Measured(anchor=anchor.name, usable=True, trust=_stored(anchor))
    except KedgeError:
        pass
    without_end = replace(anchor, max_staleness=timedelta.max, red_line=timedelta(0))
    try:
        return Measured(anchor=anchor.name, usable=False, trust=_stored(without_end))
    except KedgeError:
        return Measured(anchor=anchor.name, usable=False, trust=None)
