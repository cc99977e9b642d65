"""What may answer: one whole set that stands at each of its floors. Each part of that rule, broken alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from kedge.errors import StoreError
from kedge.tuf import checks
from kedge.tuf.state import Floors, OnlineFloor, TrustedState
from support.driver import Driver
from support.simulator import RepositorySimulator

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Break = Callable[[TrustedState, TrustedState], TrustedState]


@pytest.fixture
def states() -> tuple[TrustedState, TrustedState]:
    """A state, and the one after everything in the repository was signed anew."""
    repo = RepositorySimulator(now=NOW)
    repo.publish()
    driver = Driver(repo, NOW)
    old = driver.refresh()
    for role in ("root", "targets"):
        with repo.edit(role):
            pass
    return old, driver.refresh()


FORGETFUL = Floors(root=1)
"""Floors that are no hindrance, so that another rule must be one."""
BROKEN: dict[str, Break] = {
    "no-timestamp": lambda _, new: replace(new, timestamp=None),
    "no-snapshot": lambda _, new: replace(new, snapshot=None),
    "no-targets": lambda _, new: replace(new, roles={}),
    "another-snapshot": lambda old, new: replace(new, snapshot=old.snapshot, floors=FORGETFUL),
    "another-timestamp": lambda old, new: replace(new, timestamp=old.timestamp, floors=FORGETFUL),
    "other-targets": lambda old, new: replace(new, roles=old.roles, floors=FORGETFUL),
    "older-root": lambda old, new: replace(new, newest_root=old.newest_root, former_roots=old.former_roots),
    "older-timestamp": lambda _, new: raised(new, Floors(timestamp=OnlineFloor(version=99, keys=()))),
    "older-snapshot": lambda _, new: raised(new, Floors(snapshot=OnlineFloor(version=99, keys=()))),
    "older-role": lambda _, new: raised(new, Floors(roles={"targets": 99})),
}


def raised(state: TrustedState, floors: Floors) -> TrustedState:
    return replace(state, floors=state.floors.raised_to(floors))


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not_one_whole_set_at_its_floors_answers_nothing(
    states: tuple[TrustedState, TrustedState], name: str
) -> None:
    broken = BROKEN[name](*states)
    with pytest.raises(StoreError, match="no complete set of metadata is stored"):
        checks.require_complete(broken)
    for whole in states:
        checks.require_complete(whole)
