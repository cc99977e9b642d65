"""Which test files ``make anyday`` runs again, with the machine's clock two years ahead and a day back.

They are those that name a date, themselves or in a helper of their folder, and those whose repositories begin at the
present: what a clock that cannot be set (python-tuf's, a real tool's) judges by the day on which the tests run. A file
that needs programs of others, or longer than all the rest, is left out by name and for a reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

__all__ = ["LEFT_OUT", "TESTS", "is_chosen", "is_left_out", "names_a_date"]

TESTS = Path(__file__).resolve().parent.parent

_DATE = re.compile(r"datetime\(20\d\d|[\"']20\d\d-\d\d-\d\dT\d\d")
_PRESENT = re.compile(r"datetime\.now\(|\bCeremony\(|kedge\.sigstore|Updater\(|\bmake_reference\b|\"demo\"")

# Folders end with a slash.
LEFT_OUT: Mapping[str, str] = {
    "interop/": "real npm, pnpm, Corepack, Go, apt, rebar3: programs of others, which this does without",
}


def names_a_date(text: str) -> bool:
    """Whether a source names a date."""
    return _DATE.search(text) is not None


def is_left_out(file: Path) -> bool:
    """Whether ``file``, below ``tests/``, is left out by name."""
    name = file.relative_to(TESTS).as_posix()
    return any(name == out or (out.endswith("/") and name.startswith(out)) for out in LEFT_OUT)


def is_chosen(file: Path) -> bool:
    """Whether ``file``, a test module below ``tests/``, is run on other days."""
    if is_left_out(file):
        return False
    text = file.read_text(encoding="utf-8")
    return names_a_date(text) or _PRESENT.search(text) is not None or _has_dated_helper(file.parent)


@cache
def _has_dated_helper(folder: Path) -> bool:
    helpers = [file for file in folder.glob("*.py") if not file.name.startswith("test_")]
    return any(names_a_date(file.read_text(encoding="utf-8")) for file in helpers)
