"""How the verifiers with a checklist end: warnings, the answer, and the exit status."""

from __future__ import annotations

import typer

from kedge._cli.output import Screen, answer, answer_json
from kedge._cli.tables import trust_document
from kedge._cli.verify.checklist_words import checklist_lines
from kedge._cli.words import say_warnings
from kedge.keys import KeySet
from kedge.registries.checklist import Checklist
from kedge.trust import Trust

__all__ = ["basis_of", "conclude", "is_short"]

FEW = 12
"""So many things are listed one by one, also where all of them are right."""


def basis_of(keys: KeySet, trust: Trust) -> tuple[tuple[str, str], ...]:
    """By what all of it was judged."""
    count = len({key.id for key in keys.keys})
    revoked = f", {len(keys.revoked)} revoked" if keys.revoked else ""
    return (
        ("keys of", f"{keys.target} ({count} {'key' if count == 1 else 'keys'}{revoked})"),
        ("anchor", trust.anchor),
    )


def is_short(found: Checklist) -> bool:
    """Whether its things are so few that all of them are listed."""
    return len(found.items) <= FEW


def conclude(found: Checklist, trust: Trust, *, everything: bool, json: bool) -> None:
    """Print the answer, in which ``everything`` lists also what is right, and end with its exit status."""
    say_warnings([trust])
    if json:
        answer_json(found.to_table(trust_document([trust])["anchors"]), compact=True)
    else:
        answer(checklist_lines(Screen.of_stdout(), found, everything=everything))
    if found.exit_code:
        raise typer.Exit(found.exit_code)
