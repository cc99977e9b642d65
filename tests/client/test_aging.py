"""How old trust is, when it is warned of, and past which line there is no answer."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from kedge.client.anchor import Anchor
from kedge.documents import DocumentError
from kedge.errors import ExpiredError
from kedge.tuf.state import StateRecord
from kedge.tuf.trust import AgeBasis
from support.gap import Gap
from support.world import KEYS, NOW, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A repository whose timestamps live for a month, and do not say when they were made."""
    made = World(tmp_path / "state")
    made.repo.lifetimes["timestamp"] = timedelta(days=30)
    made.repo.lifetimes["snapshot"] = timedelta(days=60)
    made.repo.publish()
    return made


def issued(world: World, moment: str) -> None:
    with world.repo.edit("timestamp") as timestamp:
        timestamp.unrecognized_fields["x-kedge-issued"] = moment


def test_age_counts_from_when_the_timestamp_was_made_where_it_says_so(world: World) -> None:
    issued(world, "2025-12-30T00:00:00Z")
    age = world.refresh().age
    assert (age.age, age.basis, age.since) == (timedelta(days=2), AgeBasis.SIGNED, NOW - timedelta(days=2))


def test_age_counts_from_when_it_was_first_accepted_where_it_does_not(world: World) -> None:
    assert world.refresh().age.age == timedelta(0)
    world.clock.advance(timedelta(days=3))
    age = world.refresh().age
    assert (age.age, age.basis) == (timedelta(days=3), AgeBasis.SEEN)
    world.clock.advance(timedelta(days=1))
    assert world.client().status().age.age == timedelta(days=4)


def test_a_newer_timestamp_is_younger(world: World) -> None:
    world.refresh()
    world.tomorrow(days=3)
    assert world.refresh().age.age == timedelta(0)


@pytest.mark.parametrize("text", ["yesterday", 17, None, "2025-12-30"])
def test_what_is_no_time_says_nothing(world: World, text: object) -> None:
    with world.repo.edit("timestamp") as timestamp:
        timestamp.unrecognized_fields["x-kedge-issued"] = text
    assert world.refresh().age.basis is AgeBasis.SEEN


def test_a_timestamp_from_the_future_is_not_younger_than_now(world: World) -> None:
    issued(world, "2027-01-01T00:00:00Z")
    assert world.refresh().age.age == timedelta(0)


def test_new_trust_must_arrive_before_the_first_line_that_ends_it(world: World) -> None:
    issued(world, "2026-01-01T00:00:00Z")
    expires = world.repo.timestamp.expires
    lines: list[tuple[dict[str, timedelta], datetime]] = [
        ({}, expires),
        ({"max_staleness": timedelta(days=7)}, expires + timedelta(days=7)),
        ({"red_line": timedelta(days=10)}, NOW + timedelta(days=10)),
        ({"red_line": timedelta(days=90)}, expires),
        ({"max_staleness": timedelta.max}, datetime.max.replace(microsecond=0, tzinfo=expires.tzinfo)),
    ]
    for options, next_by in lines:
        world.options = options
        assert world.refresh().age.next_by == next_by


def test_the_first_expiry_among_the_roles_used_is_the_one_that_counts(world: World) -> None:
    with world.repo.edit("registry.example") as role:
        role.expires = NOW + timedelta(days=4)
    client = world.client(max_staleness=timedelta(days=1))
    client.target(KEYS)
    assert client.trust.age.next_by == NOW + timedelta(days=5)


def test_trust_past_the_warning_line_answers_and_warns(world: World) -> None:
    issued(world, "2026-01-01T00:00:00Z")
    world.options = {"warn_after": timedelta(days=7), "red_line": timedelta(days=14)}
    assert world.refresh().warnings == ()
    world.clock.advance(timedelta(days=7))
    (warning,) = world.refresh().warnings
    assert warning == "trust is 7 days old: new trust must arrive by 2026-01-15T00:00:00Z"


def test_past_the_red_line_there_is_no_answer(world: World) -> None:
    issued(world, "2026-01-01T00:00:00Z")
    world.options = {"red_line": timedelta(days=14)}
    world.keys()
    world.clock.advance(timedelta(days=14))
    for run in (world.keys, world.refresh, world.client().status):
        world.refused("is 14 days old", "the red line of anchor test is 14 days", kind=ExpiredError, run=run)
    world.tomorrow(hours=1)
    issued(world, "2026-01-15T01:00:00Z")
    assert world.keys() == b"the keys"


def test_a_client_that_lives_long_notices_the_red_line(world: World) -> None:
    client = world.client(red_line=timedelta(days=2))
    client.target(KEYS)
    world.clock.advance(timedelta(days=3))
    with pytest.raises(ExpiredError, match="red line"):
        client.target(KEYS)


def test_expired_trust_that_is_still_used_is_warned_of(world: World) -> None:
    world.refresh()
    world.clock.advance(timedelta(days=32))
    (warning,) = world.client(max_staleness=timedelta(days=7)).status().warnings
    assert warning.startswith("trust expired 2 days ago, and is used until 2026-02-07T")


def test_taking_the_same_bundle_in_again_makes_it_no_younger(tmp_path: Path, world: World) -> None:
    gap = Gap(tmp_path, world)
    gap.inside_options = {"red_line": timedelta(days=10)}
    bundle = gap.bundle()
    gap.take_in(bundle)
    world.clock.advance(timedelta(days=6))
    assert gap.take_in(bundle).trust.age.age == timedelta(days=6)
    world.clock.advance(timedelta(days=6))
    with pytest.raises(ExpiredError, match="is 12 days old"):
        gap.take_in(bundle)


def test_the_state_says_when_a_timestamp_was_first_seen(world: World) -> None:
    world.refresh()
    world.clock.advance(timedelta(days=3))
    world.refresh()
    record = StateRecord.from_bytes((world.folder / "state.json").read_bytes())
    assert (record.seen, record.fetched) == (NOW, NOW + timedelta(days=3))


def test_an_anchor_keeps_its_lines_and_they_must_be_in_order(world: World) -> None:
    anchor = world.anchor(
        warn_after=timedelta(days=7), red_line=timedelta(days=14), max_staleness=timedelta(days=1), keep_history=True
    )
    again = Anchor.from_toml("test", anchor.to_toml(), anchor.initial_root)
    assert again == anchor
    with pytest.raises(DocumentError, match="must be less than the 604800 of red_line_s"):
        Anchor.from_toml("test", anchor.to_toml().replace(b"1209600", b"604800"), anchor.initial_root)
