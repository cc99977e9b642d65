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

__all__ = ["LEFT_OUT", "TESTS", "is_chosen", "is_left_out", "is_test_left_out", "names_a_date"]

TESTS = Path(__file__).resolve().parent.parent

_DATE = re.compile(r"datetime\(20\d\d|[\"']20\d\d-\d\d-\d\dT\d\d")
_PRESENT = re.compile(r"datetime\.now\(|\bCeremony\(|kedge\.sigstore|Updater\(|\bmake_reference\b|\"demo\"")

_TEXTS = "its dates are texts, and none of them is held against a machine's clock"
_RUNS_OTHERS = "its waits take minutes, and what it starts is run on other days by cli/test_verify.py"
_BROWSER = "a browser, which this does without"
# Folders end with a slash; a test is named behind its file.
LEFT_OUT: Mapping[str, str] = {
    "differential/": "real npm, pnpm, Yarn and bun, which no date concerns: programs of others",
    "interop/": "real npm, pnpm, Corepack, Go, apt, rebar3: programs of others, which this does without",
    "architecture/test_package.py": "wheels that pip installs, for a minute; the demo runs in cli/test_demo.py",
    "architecture/test_formats.py::test_the_parser_and_the_schema_refuse_the_same_documents": _TEXTS,
    "attacks/test_air_gap.py::test_g6_every_single_bit_flip_of_a_bundle_is_refused_or_harmless": _TEXTS,
    "attacks/test_commands.py::test_a_a_server_that_misbehaves": "none of the many ways to misbehave is about time",
    "attacks/test_commands.py::test_a_a_server_that_misbehaves_at_the_next_root": "as above",
    "attacks/test_documents.py": _TEXTS,
    "cli/test_adapters.py": _RUNS_OTHERS,
    "cli/test_adapters_gitlab.py": _RUNS_OTHERS,
    "docs/test_pages.py": "minutes of typing; what is typed is run on other days by cli/ and repo_tools/",
    "repo_tools/test_destinations.py": "object stores keep their own clock, and refuse what was signed by another",
    "repo_tools/test_report.py::test_a_browser_shows_it_wide_and_narrow_light_and_dark": _BROWSER,
    "repo_tools/test_report.py::test_its_policy_stops_what_somebody_plants": _BROWSER,
    "repo_tools/test_report.py::test_who_does_not_see_is_told_the_same": _BROWSER,
}


def names_a_date(text: str) -> bool:
    """Whether a source names a date."""
    return _DATE.search(text) is not None


def is_left_out(file: Path) -> bool:
    """Whether ``file``, below ``tests/``, is left out by name."""
    name = file.relative_to(TESTS).as_posix()
    return name in LEFT_OUT or any(out.endswith("/") and name.startswith(out) for out in LEFT_OUT)


def is_test_left_out(file: Path, test: str) -> bool:
    """Whether the test function called ``test`` of a chosen file is left out by name."""
    return f"{file.relative_to(TESTS).as_posix()}::{test}" in LEFT_OUT


def is_chosen(file: Path) -> bool:
    """Whether ``file``, a test module below ``tests/``, is run on other days."""
    if is_left_out(file):
        return False
    text = file.read_text(encoding="utf-8")
    return names_a_date(text) or _PRESENT.search(text) is not None or _uses_dated_helper(text, file.parent)


def _uses_dated_helper(text: str, folder: Path) -> bool:
    helpers = _dated_helpers(folder)
    return "conftest" in helpers or any(
        re.search(rf"^(from|import) .*\b{name}\b", text, re.MULTILINE) for name in helpers
    )


@cache
def _dated_helpers(folder: Path) -> frozenset[str]:
    helpers = [file for file in folder.glob("*.py") if not file.name.startswith("test_")]
    return frozenset(file.stem for file in helpers if names_a_date(file.read_text(encoding="utf-8")))
