"""What tests may need that is not in this repository, the rule for when it is missing, and the table of attacks.

A test that needs a tool, a network or ``../shared/vectors.zip`` says so through ``require``: without it the test is
skipped with that reason, and with ``KEDGE_REQUIRE_ALL=1`` (as in ``.ci/run``) it fails.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from attacks.rows import Table
from support.anyday import is_chosen, is_test_left_out

REPOSITORY = Path(__file__).resolve().parent.parent
VECTORS = REPOSITORY.parent / "shared" / "vectors.zip"
CASES = REPOSITORY.parent / "shared" / "cases.zip"

Require = Callable[[object, str], None]

_table = Table()
_figures: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--any-day``, which ``make anyday`` gives."""
    parser.addoption("--any-day", action="store_true", help="only the test files that the day could matter to")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``--any-day``, leave out what is not chosen (support/anyday.py)."""
    is_test = collection_path.name.startswith("test_") and collection_path.suffix == ".py"
    return True if config.getoption("--any-day") and is_test and not is_chosen(collection_path) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--any-day``, leave out single tests too."""
    if config.getoption("--any-day"):
        out = [item for item in items if is_test_left_out(item.path, item.name.partition("[")[0])]
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep what is printed at the end: every test of attacks/ belongs to a row, and any test may record a figure.

    This stands here because with several workers the reports come together in a process that collects no tests, and so
    loads no other conftest.
    """
    if "attacks/" in report.nodeid:
        _table.add(report)
    elif report.when == "call":
        _figures.extend(f"{report.nodeid}\n{value}" for name, value in report.user_properties if name == "figure")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures and the rows."""
    for text in _figures:
        terminalreporter.section("figure")
        terminalreporter.write_line(text)
    lines = list(_table.lines())
    if lines:
        terminalreporter.section("attacks and faults")
        for line in lines:
            terminalreporter.line(line, red="FAIL" in line)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top folder of this repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def require() -> Require:
    """``require(present, reason)``: go on if ``present`` is true, else skip, or fail where nothing may be skipped."""

    def rule(present: object, reason: str) -> None:
        if present:
            return
        if os.environ.get("KEDGE_REQUIRE_ALL") == "1":
            pytest.fail(f"{reason} (and KEDGE_REQUIRE_ALL=1 lets nothing be skipped)", pytrace=False)
        pytest.skip(reason)

    return rule


@pytest.fixture(scope="session")
def shared_vectors(require: Require, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder ``vectors`` out of ../shared/vectors.zip: real keys, signatures and a real TUF repository."""
    require(VECTORS.is_file(), "../shared/vectors.zip is not beside this repository")
    folder = tmp_path_factory.mktemp("shared")
    with zipfile.ZipFile(VECTORS) as archive:
        archive.extractall(folder)
    return folder / "vectors"


@pytest.fixture(scope="session")
def shared_cases(require: Require, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder ``cases`` out of ../shared/cases.zip: real and hostile inputs, each with a right answer."""
    require(CASES.is_file(), "../shared/cases.zip is not beside this repository")
    folder = tmp_path_factory.mktemp("cases")
    with zipfile.ZipFile(CASES) as archive:
        archive.extractall(folder)
    return folder / "cases"


@pytest.fixture(scope="session")
def peers(require: Require) -> Path:
    """The ``node_modules`` folder that ``make peers`` filled; ``KEDGE_PEERS`` names another one."""
    modules = Path(os.environ.get("KEDGE_PEERS") or REPOSITORY / ".peers") / "node_modules"
    require(shutil.which("node"), "node is not installed")
    require((modules / "tuf-js").is_dir(), "tuf-js is not there: run make peers")
    return modules
