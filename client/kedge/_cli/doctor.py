"""``kedge doctor``: whether this machine is fit to refresh and to verify."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import groupby
from typing import Annotated

import typer

from kedge._cli.options import Json
from kedge._cli.output import Screen, Tone, answer, answer_json
from kedge.audit import Machine, diagnose
from kedge.client import SystemClock
from kedge.errors import ExitCode
from kedge.files import config_folder, state_folder
from kedge.registries import Finding, Severity

SHOWN = {
    Severity.NOTE: ("ok", Tone.GOOD),
    Severity.WARNING: ("warning", Tone.CAUTION),
    Severity.ERROR: ("fault", Tone.BAD),
}


def doctor(
    anchor: Annotated[
        str | None,
        typer.Option("--anchor", metavar="NAME", help="Look at this anchor, not at all of them.", show_default=False),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no mirror.")] = False,
    json: Json = False,
) -> None:
    """Look for what would make other commands fail.

    It looks at the software, the configuration, the clock, the stored trust and the mirrors, and changes nothing. Exit
    status 5: there is a fault to mend.
    """
    machine = Machine(
        config_folder=config_folder(),
        state_folder=state_folder(),
        environment=os.environ,
        clock=SystemClock(),
        anchor=anchor,
        ask_mirrors=not offline,
    )
    findings = list(diagnose(machine))
    if json:
        answer_json(_document(findings))
    else:
        answer(_lines(Screen.of_stdout(), findings))
    if any(finding.severity is Severity.ERROR for finding in findings):
        raise typer.Exit(ExitCode.FAULTS)


def _lines(screen: Screen, findings: Sequence[Finding]) -> list[str]:
    lines: list[str] = []
    for area, members in groupby(findings, key=_area):
        rows: list[tuple[str, str, Tone]] = []
        for finding in members:
            word, tone = SHOWN[finding.severity]
            if finding.rule == "extra/missing":
                word, tone = "absent", Tone.PLAIN
            rows.append((finding.place, f"{word} {finding.message}", tone))
            if finding.hint is not None and finding.severity is not Severity.NOTE:
                rows.append(("", f"hint: {finding.hint}", Tone.PLAIN))
        lines += [*([""] if lines else []), *screen.heading(area), *screen.rows(rows)]
    faults = sum(finding.severity is Severity.ERROR for finding in findings)
    warnings = sum(finding.severity is Severity.WARNING for finding in findings)
    return [*lines, "", *screen.heading(_sum(faults, warnings), Tone.BAD if faults else Tone.HEADING)]


def _area(finding: Finding) -> str:
    area = finding.rule.partition("/")[0]
    return "anchors" if area in ("anchor", "clock", "trust", "mirror") else f"{area}s" if area == "extra" else area


def _sum(faults: int, warnings: int) -> str:
    if not faults and not warnings:
        return "nothing to mend"
    return f"{faults} {'fault' if faults == 1 else 'faults'}, {warnings} {'warning' if warnings == 1 else 'warnings'}"


def _document(findings: Sequence[Finding]) -> dict[str, object]:
    return {
        "format": "kedge.doctor/1",
        "faults": sum(finding.severity is Severity.ERROR for finding in findings),
        "warnings": sum(finding.severity is Severity.WARNING for finding in findings),
        "findings": [
            {
                "rule": finding.rule,
                "severity": finding.severity.value,
                "place": finding.place,
                "message": finding.message,
                "hint": finding.hint,
            }
            for finding in findings
        ],
    }
