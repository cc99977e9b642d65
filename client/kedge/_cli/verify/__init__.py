"""What the verifiers with a checklist say to people: a summary, what needs attention, and what the answer means.

``kedge verify``: hold what a registry or its mirror serves against keys that no mirror can replace.

One module a kind. Each is a command of the entry-point group ``kedge.verifiers`` and is loaded when it is called, so
that another ecosystem, ours or somebody else's, is another entry point.

How the verifiers with a checklist end: warnings, the answer, and the exit status.
"""

from __future__ import annotations

from collections.abc import Sequence

import typer

from kedge._cli.output import Screen, Tone, answer, answer_json, say_warnings, trust_document
from kedge.registries import Checked, Checklist, KeySet
from kedge.tuf import Trust

Row = tuple[str, str] | tuple[str, str, Tone]

MAX_LISTED = 40


def checklist_lines(screen: Screen, found: Checklist, *, everything: bool) -> list[str]:
    """The whole answer; ``everything`` lists each thing, also what is verified."""
    tone = Tone.BAD if found.exit_code else Tone.GOOD
    lines = screen.heading(f"{found.subject}: {_result(found)}", tone)
    lines += screen.rows(_counts(found))
    if everything:
        lines += _items(screen, found.things[1], found.items, None)
    else:
        noted = [item for item in found.items if item.notes and not item.is_fault]
        lines += _items(screen, "not verified", found.faults, MAX_LISTED) if found.faults else []
        lines += _items(screen, "with a note", noted, MAX_LISTED) if noted else []
    lines += ["", *screen.heading("by what"), *screen.rows(found.basis)]
    for text in found.remarks:
        lines += ["", *screen.heading(text, Tone.PLAIN)]
    return lines


def _counts(found: Checklist) -> list[Row]:
    bad = {item.outcome for item in found.faults}
    rows: list[Row] = []
    for outcome, count in found.counts.items():
        good = Tone.GOOD if outcome in found.good else Tone.PLAIN
        rows.append((outcome.value, str(count), Tone.BAD if outcome in bad else good))
    return rows


def _result(found: Checklist) -> str:
    total = len(found.items)
    if not total:
        return f"no {found.things[1]}, nothing to verify"
    return f"{found.verified} of {total} {found.things[0] if total == 1 else found.things[1]} verified"


def _items(screen: Screen, title: str, items: Sequence[Checked], limit: int | None) -> list[str]:
    rows: list[Row] = []
    for item in items[:limit]:
        what = f"{item.outcome.value}: {item.detail}" if item.detail else item.outcome.value
        rows.append((item.name, "; ".join((what, *item.notes))))
    if limit is not None and len(items) > limit:
        rows.append(("", f"and {len(items) - limit} more: --all lists them, --json too"))
    return ["", *screen.heading(title), *screen.rows(rows)]


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


def conclude(found: Checklist, *trusts: Trust, everything: bool, json: bool) -> None:
    """Print the answer, in which ``everything`` lists also what is right, and end with its exit status."""
    say_warnings(trusts)
    if json:
        answer_json(found.to_table(trust_document(trusts)["anchors"]), compact=True)
    else:
        answer(checklist_lines(Screen.of_stdout(), found, everything=everything))
    if found.exit_code:
        raise typer.Exit(found.exit_code)
