"""When a client asks, and when it need not: ``refresh_after``, ``max_staleness``, ``require_refresh``."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from kedge.client.client import TrustClient
from kedge.errors import ExpiredError, FetchError
from kedge.transport.mirror import Deadline
from kedge.tuf.steps import Fetch, Missing
from support.world import KEYS, NOW, MemoryTransport, World


class Unreachable(MemoryTransport):
    """A mirror that is away."""

    def get(self, request: Fetch, deadline: Deadline) -> bytes | Missing:  # noqa: ARG002 never answered
        self.requests.append(request.path)
        raise FetchError(f"{request.path}: cannot connect", hint="check the network")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "state")


@pytest.fixture
def away(world: World) -> Unreachable:
    return Unreachable(world.repo)


# refresh_after


def test_an_answer_that_is_young_enough_needs_no_request(world: World) -> None:
    world.options = {"refresh_after": timedelta(hours=1)}
    assert world.keys() == b"the keys"
    asked = len(world.mirror.requests)
    world.clock.advance(timedelta(minutes=59))
    client = world.client()
    assert client.target(KEYS).data == b"the keys"
    assert len(world.mirror.requests) == asked
    assert not client.trust.refreshed
    assert client.trust.fetched == NOW


@pytest.mark.parametrize("minutes", [60, 61, -1], ids=["as-old-as-that", "older", "from-the-future"])
def test_any_other_answer_needs_one(world: World, minutes: int) -> None:
    world.options = {"refresh_after": timedelta(hours=1)}
    assert world.keys() == b"the keys"
    asked = len(world.mirror.requests)
    world.clock.advance(timedelta(minutes=minutes))
    client = world.client()
    assert client.target(KEYS).data == b"the keys"
    assert len(world.mirror.requests) > asked
    assert client.trust.refreshed


def test_unless_an_anchor_says_otherwise_each_client_asks(world: World) -> None:
    assert world.keys() == b"the keys"
    asked = len(world.mirror.requests)
    assert world.keys() == b"the keys"
    assert len(world.mirror.requests) > asked


def test_young_or_not_what_has_expired_needs_a_request(world: World) -> None:
    world.options = {"refresh_after": timedelta(days=7)}
    assert world.keys() == b"the keys"
    world.clock.advance(timedelta(days=1))
    world.refused("timestamp.json", kind=ExpiredError)
    world.repo.now = world.clock.moment
    world.repo.publish()
    assert world.keys() == b"the keys"


def test_a_refresh_that_is_asked_for_is_made_however_young_the_state_is(world: World) -> None:
    world.options = {"refresh_after": timedelta(hours=1)}
    assert world.refresh().refreshed
    world.repo.publish()
    assert world.refresh().timestamp.version == world.repo.timestamp.version


# max_staleness


def test_a_stale_answer_is_marked_wherever_it_comes_from(world: World, away: Unreachable) -> None:
    world.options = {"max_staleness": timedelta(days=2)}
    assert world.keys() == b"the keys"
    world.clock.advance(timedelta(days=2))
    for client in (world.client(), world.client(away)):
        assert client.refresh().stale
        assert client.target(KEYS).data == b"the keys"
        assert client.trust.stale
    assert world.client().status().stale
    world.clock.advance(timedelta(days=1))
    world.refused("up to 2 days is allowed", kind=ExpiredError)
    world.refused("up to 2 days is allowed", kind=ExpiredError, run=world.client().status)


def test_an_answer_that_is_not_stale_is_not_marked(world: World) -> None:
    world.options = {"max_staleness": timedelta(days=2)}
    world.clock.advance(timedelta(hours=23))
    assert not world.refresh().stale
    assert not world.client().status().stale


# require_refresh


def strict(world: World, away: Unreachable | None = None) -> TrustClient:
    transport = away or world.mirror
    return TrustClient(world.anchor(), state=world.folder, transport=transport, clock=world.clock, require_refresh=True)


def test_where_a_refresh_is_required_stored_trust_is_no_answer(world: World, away: Unreachable) -> None:
    assert world.keys() == b"the keys"
    trust = world.client(away).refresh()
    assert not trust.refreshed
    world.refused("cannot connect", kind=FetchError, run=strict(world, away).refresh)
    world.refused("cannot connect", kind=FetchError, run=lambda: strict(world, away).target(KEYS))
    assert strict(world).refresh().refreshed


def test_where_a_refresh_is_required_a_young_answer_is_none_either(world: World, away: Unreachable) -> None:
    """``refresh_after`` spares requests; whoever requires one wants it made."""
    world.options = {"refresh_after": timedelta(hours=1)}
    assert world.keys() == b"the keys"
    assert world.client(away).target(KEYS).data == b"the keys"
    world.refused("cannot connect", kind=FetchError, run=lambda: strict(world, away).target(KEYS))
    assert strict(world).target(KEYS).data == b"the keys"
