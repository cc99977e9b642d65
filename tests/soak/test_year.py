"""A client that lives: some days of the year that ``make soak`` plays whole."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from soak.year import play

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


def test_over_some_days_no_answer_is_wrong(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    tally = play(12, seed=1, folder=tmp_path)
    record_property("figure", str(tally))
    assert tally.wrong == []
    for what in ("client: answered", "client: answered, from state", "outage", "clock fault", "fork", "revocation"):
        assert tally.seen[what], f"{what} was not seen: {tally}"


def test_a_client_that_asks_too_seldom_is_noticed(tmp_path: Path) -> None:
    """The control: what is judged here can be wrong."""
    assert play(4, seed=1, folder=tmp_path, refresh_after=timedelta(days=1)).wrong
