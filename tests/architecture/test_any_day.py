"""No test depends on the day: what names a date is run again on other days, or left out for a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.anyday import LEFT_OUT, TESTS, is_chosen, is_left_out, names_a_date

DATED = [file for file in sorted(TESTS.rglob("test_*.py")) if names_a_date(file.read_text(encoding="utf-8"))]


def test_every_test_file_that_names_a_date_is_run_on_other_days_or_left_out_for_a_reason() -> None:
    assert len(DATED) > 50
    assert [str(file) for file in DATED if is_chosen(file) is is_left_out(file)] == []


def test_what_is_left_out_is_there_and_has_a_reason() -> None:
    for name, reason in LEFT_OUT.items():
        file, _, test = name.partition("::")
        place = TESTS / file
        assert place.is_dir() is name.endswith("/")
        assert place.exists()
        assert f"def {test}(" in place.read_text(encoding="utf-8") if test else True
        assert reason


@pytest.mark.parametrize(
    ("text", "dated"),
    [
        ("NOW = datetime(2026, 1, 1, tzinfo=UTC)", True),
        ('START = "2025-01-13T00:00:00.000Z"', True),
        ("FAR = '2027-01-13T00:00Z'", True),
        ("NOW = datetime.now(UTC)", False),
        ("year = 2026", False),
    ],
)
def test_a_date_is_seen_in_each_of_its_forms(text: str, dated: bool) -> None:
    assert names_a_date(text) is dated


def test_ci_runs_them(repository: Path) -> None:
    assert "make anyday" in (repository / ".ci/run").read_text()
    makefile = (repository / "Makefile").read_text()
    assert "--any-day" in makefile
    assert "+730d -1d" in makefile
