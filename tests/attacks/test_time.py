"""A3, A10 and A23: time, as the mirror and this machine tell it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kedge.client.client import TrustClient
from kedge.errors import ExpiredError, StoreError
from kedge.transport.mirror import Mirror
from support.server import HostileServer, status
from support.world import KEYS, NOW, World


def test_a3_staleness_that_the_policy_allows_is_marked_and_ends(world: World) -> None:
    world.options = {"max_staleness": timedelta(days=2)}
    assert not world.refresh().stale
    world.clock.advance(timedelta(days=2))
    trust = world.refresh()
    assert trust.stale
    assert trust.valid_until == NOW + timedelta(days=1)
    world.clock.advance(timedelta(days=1))
    world.refused("timestamp.json", "2026-01-02T00:00:00Z", kind=ExpiredError)
    world.tomorrow(hours=1)
    assert not world.refresh().stale


def test_a3_stored_trust_answers_no_longer_than_it_is_valid(world: World) -> None:
    world.keys()
    world.clock.advance(timedelta(days=1))
    world.refused("timestamp", "2026-01-02T00:00:00Z", kind=ExpiredError, run=world.client().status)
    world.tomorrow(hours=1)
    world.refresh()
    assert world.client().status().timestamp.version == world.repo.timestamp.version


def test_a3_a_client_that_lives_long_does_not_outlive_its_trust(world: World) -> None:
    client = world.client()
    assert client.target(KEYS).data == b"the keys"
    world.clock.advance(timedelta(days=30))
    world.refused("timestamp", kind=ExpiredError, run=lambda: client.target(KEYS))
    world.tomorrow(hours=1)
    assert client.target(KEYS).data == b"the keys"


@pytest.mark.parametrize("moment", [datetime(1999, 1, 1, tzinfo=UTC), NOW - timedelta(days=400)], ids=["1999", "400d"])
def test_a10_a_clock_that_is_set_back_does_not_revive_what_has_expired(world: World, moment: datetime) -> None:
    with world.repo.edit("registry.example") as role:
        role.expires = NOW + timedelta(days=3)
    world.keys()
    world.tomorrow(days=5)
    world.refresh()
    world.clock.moment = moment
    error = world.refused("registry.example.json", "2026-01-04T00:00:00Z", kind=ExpiredError)
    assert error.refusal.role == "registry.example"
    trust = world.refresh()
    assert trust.reference_time == NOW + timedelta(days=5)
    assert any("clock" in warning and "2026-01-06T00:00:00Z" in warning for warning in trust.warnings)
    with world.repo.edit("registry.example"):
        pass
    assert world.keys() == b"the keys"
    world.clock.moment = NOW + timedelta(days=5)
    assert world.refresh().warnings == ()


def test_a10_on_a_machine_without_a_past_the_anchor_says_what_has_surely_passed(world: World) -> None:
    world.options = {"not_before": NOW + timedelta(days=2)}
    world.clock.moment = datetime(1999, 1, 1, tzinfo=UTC)
    world.refused("timestamp.json", kind=ExpiredError)
    world.repo.now = NOW + timedelta(days=2)
    world.repo.publish()
    trust = world.refresh()
    assert trust.reference_time == NOW + timedelta(days=2)
    assert any("clock" in warning for warning in trust.warnings)


def test_a10_the_floor_of_time_survives_the_loss_of_the_set(world: World) -> None:
    with world.repo.edit("registry.example") as role:
        role.expires = NOW + timedelta(days=3)
    world.keys()
    world.tomorrow(days=5)
    world.refresh()
    for name in ("state.json", "state.json.prev"):
        (world.folder / name).unlink()
    world.clock.moment = NOW
    world.refused("registry.example.json", "2026-01-04T00:00:00Z", kind=ExpiredError)
    with world.repo.edit("registry.example"):
        pass
    assert world.keys() == b"the keys"


def test_a23_a_clock_ten_years_ahead_is_refused_and_leaves_nothing_behind(world: World) -> None:
    world.keys()
    world.clock.advance(timedelta(days=3650))
    world.refused("initial root", kind=ExpiredError)
    world.clock.moment = NOW
    assert world.keys() == b"the keys"
    assert world.refresh().warnings == ()


def test_a23_a_complete_refresh_under_a_clock_far_ahead_raises_the_floor_no_further_than_it_may(world: World) -> None:
    world.options = {"max_staleness": timedelta(days=10_000)}
    world.clock.advance(timedelta(days=3650))
    assert world.refresh().stale
    world.options = {}
    world.clock.moment = world.repo.now = NOW + timedelta(hours=1)
    world.repo.publish()
    trust = world.refresh()
    assert trust.reference_time == NOW + timedelta(days=1)
    assert not trust.stale
    assert world.keys() == b"the keys"


def test_a23_a_clock_ahead_within_a_timestamps_life_is_forgotten_by_the_next_one(world: World) -> None:
    world.clock.advance(timedelta(hours=20))
    world.refresh()
    world.clock.moment = world.repo.now = NOW + timedelta(hours=1)
    world.repo.publish()
    trust = world.refresh()
    assert trust.reference_time == NOW + timedelta(hours=20)
    assert len(trust.warnings) == 1
    world.tomorrow()
    assert world.refresh().warnings == ()


def test_a23_a_root_that_replaces_the_timestamp_key_drops_the_floor_of_time(world: World) -> None:
    world.clock.advance(timedelta(hours=20))
    world.refresh()
    world.clock.moment = NOW
    world.repo.rotate("timestamp")
    assert world.refresh().reference_time == NOW


def test_a_time_asked_for_is_marked_and_commits_nothing(world: World) -> None:
    asked = NOW + timedelta(hours=2)
    client = TrustClient(world.anchor(), state=world.folder, transport=world.mirror, clock=world.clock, as_of=asked)
    trust = client.refresh()
    assert (trust.as_of, trust.reference_time) == (asked, asked)
    assert not world.folder.exists()
    world.refused("no complete set", kind=StoreError, run=world.client().status)


# What is said of the cause


def test_a3_an_expired_root_says_where_a_newer_one_was_looked_for(world: World) -> None:
    world.keys()
    world.clock.advance(timedelta(days=400))
    with HostileServer(world.repo) as server:
        server.misbehave("metadata/2.root.json", status(403))
        mirror = Mirror(url=server.url)
        client = TrustClient(replace(world.anchor(), mirrors=(mirror,)), state=world.folder, clock=world.clock)
        where = f"no newer root was found at {server.url}/metadata/2.root.json (HTTP 403 forbidden)"
        error = world.refused("root version 1 expired on ", where, kind=ExpiredError, run=client.refresh)
        assert "newer kedge" in error.hint
        server.behave()
        world.repo.now = world.clock.moment
        world.repo.rotate("root")
        world.repo.add_target(KEYS, b"the keys", role="registry.example")
        world.repo.publish()
        with world.repo.edit("targets"):
            pass
        assert client.refresh().root.version == 2
        client.close()


def test_a10_a_role_that_expired_by_the_floor_alone_names_the_way_out(world: World) -> None:
    with world.repo.edit("registry.example") as role:
        role.expires = NOW + timedelta(hours=30)
    with world.repo.edit("timestamp") as timestamp:
        timestamp.expires = NOW + timedelta(days=6)
    world.clock.advance(timedelta(days=5))
    world.refresh()
    world.clock.moment = NOW
    error = world.refused("though its clock says 2026-01-01T00:00:00Z", kind=ExpiredError)
    assert "kedge anchor reset-time NAME --yes-forget-time" in error.hint


def test_a10_a_clock_behind_a_signed_time_is_said(world: World) -> None:
    with world.repo.edit("timestamp") as timestamp:
        timestamp.unrecognized_fields["x-kedge-issued"] = "2026-01-01T10:00:00Z"
    for trust in (world.refresh(), world.client().status()):
        assert any("10 hours behind 2026-01-01T10:00:00Z, when the timestamp was signed" in t for t in trust.warnings)
    world.clock.advance(timedelta(hours=10))
    assert world.refresh().warnings == ()
