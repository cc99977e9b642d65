"""Answers go to stdout, everything else to stderr; what a terminal would act on is escaped, whoever wrote it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from kedge.errors import KedgeError

__all__ = ["answer", "answer_json", "report", "say", "table"]


def answer(*lines: str) -> None:
    """Print lines of the answer."""
    for line in lines:
        print(_printable(line))


def answer_json(value: Mapping[str, Any]) -> None:
    """Print the answer as one JSON object."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def say(*lines: str) -> None:
    """Print what is not the answer."""
    for line in lines:
        print(_printable(line), file=sys.stderr)


def report(error: KedgeError) -> None:
    """Print an error and its hint."""
    say(f"kedge-repo: {error.message}")
    if error.hint is not None:
        say(f"hint: {error.hint}")


def table(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Align columns; the last is never padded."""
    rows = list(rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _printable(line: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)
