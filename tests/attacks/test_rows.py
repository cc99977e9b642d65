"""The table of rows says what the tests said, and no row is without a test."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from attacks.rows import ROWS, Table, row_of


def report(
    name: str,
    outcome: Literal["passed", "failed", "skipped"],
    when: Literal["setup", "call", "teardown"] = "call",
    figure: str | None = None,
) -> pytest.TestReport:
    properties: list[tuple[str, object]] = [("figure", figure)] if figure else []
    return pytest.TestReport(
        f"tests/attacks/x.py::{name}", ("x", 0, "x"), {}, outcome, None, when, user_properties=properties
    )


def test_each_row_has_a_test() -> None:
    names = "\n".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    tested = {row_of(line) for line in names.splitlines() if line.startswith("def test_")}
    assert set(ROWS) - tested == set()


def test_a_row_passes_where_all_its_tests_do_and_shows_its_figures() -> None:
    table = Table()
    for each in (report("test_a2_x[a]", "passed"), report("test_a2_x[b]", "passed"), report("test_other", "failed")):
        table.add(each)
    table.add(report("test_b1_x", "passed", figure="0 of 400"))
    assert list(table.lines()) == [
        "A2   pass  2 passed               rollback: of the timestamp, the snapshot, a role inside it",
        "B1   pass  1 passed               eight processes, fifty refreshes each, on one state; 0 of 400",
    ]


@pytest.mark.parametrize("when", ["setup", "call", "teardown"])
def test_a_row_fails_where_one_of_its_tests_does(when: Literal["setup", "call", "teardown"]) -> None:
    table = Table()
    for each in (report("test_a2_x", "passed", "setup"), report("test_a2_x", "failed", when)):
        table.add(each)
    table.add(report("test_a2_y", "passed"))
    (line,) = table.lines()
    assert line.startswith("A2   FAIL  1 passed, 1 failed ")


def test_a_row_whose_tests_were_skipped_has_not_passed() -> None:
    table = Table()
    table.add(report("test_b3_x", "skipped", "setup"))
    (line,) = table.lines()
    assert line.startswith("B3   skip  1 skipped ")
