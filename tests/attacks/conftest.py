"""One world for each test: a repository that has published, and an empty state folder. A table of rows for each run."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.register_assert_rewrite("support.world", "support.driver")

from attacks.rows import Table  # noqa: E402 as below
from support.world import World  # noqa: E402 rewritten asserts show their values

_table = Table()


@pytest.fixture
def world(tmp_path: Path) -> World:
    """With lengths and digests of everything in timestamp and snapshot."""
    return World(tmp_path / "state")


@pytest.fixture
def terse_world(tmp_path: Path) -> World:
    """Timestamp and snapshot name versions only, as TUF allows."""
    return World(tmp_path / "state", meta_hashes=False)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Every test of this folder belongs to a row."""
    if "attacks/" in report.nodeid:
        _table.add(report)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the rows that were run."""
    lines = list(_table.lines())
    if lines:
        terminalreporter.section("attacks and faults")
        for line in lines:
            terminalreporter.line(line, red="FAIL" in line)
