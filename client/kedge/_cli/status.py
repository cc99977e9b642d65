"""``kedge status``: how far trust reaches, from what is stored.

``kedge status --prometheus``: trust as a monitoring system reads it (the Prometheus text format, version 0.0.4).

It is meant for a textfile collector: written on every run, also where trust is past its end, which is when it counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated

import typer

from kedge._cli.options import AnchorName, Json, chosen_anchors, for_each, open_client
from kedge._cli.output import Screen, answer, answer_json, say_warnings, trust_document, trust_lines
from kedge.client import Anchor
from kedge.errors import InputError, KedgeError
from kedge.tuf import Trust


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One anchor: whether its trust may answer now, and what is stored, if anything whole is."""

    anchor: str
    usable: bool
    trust: Trust | None


def metric_lines(measured: Iterable[Measured]) -> list[str]:
    """The whole text, a line each."""
    samples: dict[str, list[str]] = {name: [] for name in _HELP}
    for each in measured:
        for name, labels, value in _samples(each):
            told = ",".join(f'{label}="{_escaped(text)}"' for label, text in (("anchor", each.anchor), *labels))
            samples[name].append(f"{name}{{{told}}} {value}")
    lines: list[str] = []
    for name, values in samples.items():
        if values:
            lines += [f"# HELP {name} {_HELP[name]}", f"# TYPE {name} gauge", *values]
    return lines


_HELP = {
    "kedge_trust_usable": "1 where stored trust may answer now, 0 where it may not.",
    "kedge_trust_stale": "1 where it has expired and is used because the anchor allows it for a while.",
    "kedge_trust_valid_until_seconds": "When the first of its roles expires, as signed (Unix time).",
    "kedge_trust_next_by_seconds": "By when new trust must have arrived: after that there is no answer (Unix time).",
    "kedge_trust_age_seconds": "How old the timestamp is: as signed, else since this machine first accepted it.",
    "kedge_trust_fetched_seconds": "When this machine last completed a refresh or took a bundle in (Unix time).",
    "kedge_role_version": "The version of a role's metadata.",
    "kedge_role_expires_seconds": "When a role's metadata expires (Unix time).",
}

Sample = tuple[str, tuple[tuple[str, str], ...], int]


def _samples(measured: Measured) -> Iterator[Sample]:
    yield "kedge_trust_usable", (), int(measured.usable)
    trust = measured.trust
    if trust is None:
        return
    yield "kedge_trust_stale", (), int(measured.usable and trust.stale)
    yield "kedge_trust_valid_until_seconds", (), _unix(trust.valid_until)
    if measured.usable:
        yield "kedge_trust_next_by_seconds", (), _unix(trust.age.next_by)
    if trust.age.age is not None:
        yield "kedge_trust_age_seconds", (), int(trust.age.age.total_seconds())
    if trust.fetched is not None:
        yield "kedge_trust_fetched_seconds", (), _unix(trust.fetched)
    for name, role in (
        ("root", trust.root),
        ("timestamp", trust.timestamp),
        ("snapshot", trust.snapshot),
        ("targets", trust.targets),
    ):
        yield "kedge_role_version", (("role", name),), role.version
        yield "kedge_role_expires_seconds", (("role", name),), _unix(role.expires)


def _unix(moment: datetime) -> int:
    return int(moment.timestamp())


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


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
