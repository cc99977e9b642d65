"""``kedge status``: how far trust reaches, from what is stored."""

from __future__ import annotations

from kedge._cli.clients import open_client
from kedge._cli.options import AnchorName, Json, chosen_anchors, for_each
from kedge._cli.output import Screen, answer, answer_json
from kedge._cli.tables import trust_document
from kedge._cli.words import say_warnings, trust_lines
from kedge.anchor import Anchor
from kedge.trust import Trust

__all__ = ["status"]


def status(anchor: AnchorName = None, json: Json = False) -> None:
    """Show stored trust.

    It says how far trust reaches, without asking the network. Without --anchor it shows every anchor that was added,
    or the one that ships if none was.
    """

    def stored(each: Anchor) -> Trust:
        with open_client(each) as client:
            return client.status()

    answers = for_each(chosen_anchors(anchor), stored)
    say_warnings(answers)
    if json:
        answer_json(trust_document(answers))
    else:
        screen = Screen.of_stdout()
        answer(line for trust in answers for line in trust_lines(screen, trust))
