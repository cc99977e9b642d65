"""The time machine: sets from bundles, copies and states, each verified from the anchor, and what they answer."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import NEW, OLD
from kedge.audit.history import (
    Story,
    differences,
    kept_in_folder,
    kept_in_mirror,
    kept_in_state,
    moment_at,
    tell,
    windows,
)
from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.client.store import Store
from kedge.errors import FetchError, InputError, VerificationError
from kedge.mirror.folder import MirrorFolder
from kedge.mirror.sync import Layout, Options, copy_repository
from kedge.registries.keys import KeyStatus
from kedge.transport.mirror import Mirror
from kedge.transport.open import open_mirror
from kedge.tuf.trust import AgeBasis
from support.gap import Gap
from support.world import KEYS, World

REGISTRY = "registry.example"
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
MATERIAL = {"old": OLD[1], "new": NEW[1]}


def document(*names: str, until: str | None = None) -> bytes:
    """A key document with these keys; the first of them ends ``until``."""
    keys = []
    for index, name in enumerate(names):
        window = {"start": "2020-01-01T00:00:00Z"} | ({"end": until} if until and index == 0 else {})
        key = {"rawBytes": MATERIAL[name], "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": window}
        keys.append({"keyId": name, "keyUsage": "npm:signatures", "publicKey": key})
    return json.dumps({"keys": keys}).encode()


class Past:
    """Four months of a repository: a key joins, the root changes, the old key leaves, and is revoked."""

    def __init__(self, path: Path, *, issued: bool = True, keep_history: bool = False) -> None:
        self.world = World(path / "outside")
        self.world.repo.lifetimes.update(
            timestamp=timedelta(days=7), snapshot=timedelta(days=30), targets=timedelta(days=365)
        )
        for role in ("targets", REGISTRY):
            with self.world.repo.edit(role):
                pass
        self.world.options = {"registries": (REGISTRY,), "keep_history": keep_history}
        self.gap = Gap(path, self.world)
        self.bundles = path / "bundles"
        self.bundles.mkdir(parents=True)
        self.copy = MirrorFolder(path / "copy")
        self._issued = issued
        self._last: Path | None = None
        for days, change in (
            (0, self._first),
            (10, self._join),
            (30, self._rotate),
            (60, self._leave),
            (90, self._revoke),
        ):
            self._until(BEGIN + timedelta(days=days))
            change()
            self._keep()

    @property
    def anchor(self) -> Anchor:
        return self.world.anchor()

    def story(self, sets: Any) -> Story:
        return tell(self.anchor, sets, [REGISTRY])

    def _first(self) -> None:
        self.world.repo.add_target(KEYS, document("old"), role=REGISTRY)

    def _join(self) -> None:
        self.world.repo.add_target(KEYS, document("old", "new"), role=REGISTRY)

    def _rotate(self) -> None:
        self.world.repo.rotate("timestamp")

    def _leave(self) -> None:
        self.world.repo.add_target(KEYS, document("new"), role=REGISTRY)

    def _revoke(self) -> None:
        custom = {"kedge": {"v": 1, "revoked": ["old"]}}
        self.world.repo.add_target(KEYS, document("new"), role=REGISTRY, custom=custom)

    def _until(self, moment: datetime) -> None:
        self.world.clock.moment = self.world.repo.now = moment

    def _keep(self) -> None:
        self.world.repo.publish()
        if self._issued:
            with self.world.repo.edit("timestamp") as timestamp:
                timestamp.unrecognized_fields["x-kedge-issued"] = self.world.repo.now.strftime("%Y-%m-%dT%H:%M:%SZ")
        bundle = self.gap.bundle(since=self._last)
        self._last = bundle.rename(self.bundles / bundle.name)
        self.world.repo.write(self.gap.folder / "published")
        mirror = Mirror(url=str(self.gap.folder / "published"))
        with self.world.client() as client, closing(open_mirror(mirror)) as source:
            client.registry_keys(REGISTRY)
            copy_repository(client, [source], self.copy, Options(layout=Layout()), now=self.world.clock.now())


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Past:
    return Past(tmp_path_factory.mktemp("past"), keep_history=True)


def places(past: Past) -> dict[str, Any]:
    return {
        "bundles": lambda: kept_in_folder(past.bundles),
        "copy": lambda: kept_in_mirror(Mirror(url=str(past.copy.root)), past.anchor),
        "state": lambda: kept_in_state(Store(past.world.folder)),
    }


@pytest.mark.parametrize("place", ["bundles", "copy", "state"])
def test_a_day_is_answered_from_bundles_copies_and_states_alike(past: Past, place: str) -> None:
    story = past.story(places(past)[place]())
    assert story.left_out == ()
    assert [moment.versions["root"] for moment in story.moments] == [1, 1, 2, 2, 2]
    assert [moment.since for moment in story.moments] == [BEGIN + timedelta(days=n) for n in (0, 10, 30, 60, 90)]
    for day, ids, version in ((5, ["old"], 3), (15, ["old", "new"], 4), (45, ["old", "new"], 4), (70, ["new"], 5)):
        chosen = moment_at(story, BEGIN + timedelta(days=day))
        entry = chosen.moment.registries[REGISTRY]
        assert [key.id for key in entry.keys.keys] == ids
        assert (entry.role, entry.version, len(entry.signed_by)) == (REGISTRY, version, 3)
        assert chosen.certain


def test_every_key_that_was_ever_allowed_has_its_window(past: Past) -> None:
    old, new = windows(past.story(kept_in_folder(past.bundles)), REGISTRY)
    assert (old.key.id, new.key.id) == ("old", "new")
    assert (old.first.since, new.first.since) == (BEGIN, BEGIN + timedelta(days=10))
    assert old.gone is not None
    assert old.gone.since == BEGIN + timedelta(days=60)
    assert old.brought.version == 3
    assert (new.gone, new.revoked) == (None, None)


def test_what_changed_between_two_days_is_said_key_by_key(past: Past) -> None:
    story = past.story(kept_in_folder(past.bundles))
    first, last = (moment_at(story, BEGIN + timedelta(days=day)).moment for day in (5, 95))
    changes = {change.what: (change.before, change.after) for change in differences(first, last)}
    assert changes["root version"] == ("1", "2")
    assert changes[f"{REGISTRY} version"] == ("3", "6")
    assert "timestamp signed by" in changes
    assert f"{REGISTRY} key old for npm:signatures" in changes
    assert changes[f"{REGISTRY} key old for npm:signatures"][1] is None
    assert changes[f"{REGISTRY} key old"] == (None, "revoked")
    assert changes[f"{REGISTRY} key new for npm:signatures"][0] is None
    assert differences(first, first) == []


def test_the_status_of_a_key_is_that_of_the_day(tmp_path: Path) -> None:
    world = World(tmp_path / "outside")
    world.options = {"registries": (REGISTRY,)}
    world.repo.add_target(KEYS, document("old", "new", until="2026-01-01T12:00:00Z"), role=REGISTRY)
    world.repo.publish()
    gap = Gap(tmp_path, world)
    gap.bundle()
    (moment,) = tell(world.anchor(), kept_in_folder(tmp_path), [REGISTRY]).moments
    for hour, status in ((1, KeyStatus.ACTIVE), (13, KeyStatus.RETIRED)):
        keys = moment.registries[REGISTRY].as_of(BEGIN + timedelta(hours=hour))
        assert keys.keys[0].status is status


def test_where_nobody_says_since_when_the_oldest_unexpired_set_answers_and_says_so(tmp_path: Path) -> None:
    past = Past(tmp_path, issued=False)
    story = past.story(kept_in_folder(past.bundles))
    assert {moment.since for moment in story.moments} == {None}
    chosen = moment_at(story, BEGIN + timedelta(days=12))
    assert (chosen.certain, [key.id for key in chosen.moment.registries[REGISTRY].keys.keys]) == (False, ["old", "new"])
    with pytest.raises(InputError, match="says nothing of 2027"):
        moment_at(story, BEGIN + timedelta(days=400))


def test_a_state_says_since_when_this_machine_trusted_what_is_not_dated(tmp_path: Path) -> None:
    past = Past(tmp_path, issued=False, keep_history=True)
    story = past.story(kept_in_state(Store(past.world.folder)))
    assert {moment.basis for moment in story.moments} == {AgeBasis.SEEN}
    assert story.moments[1].since == BEGIN + timedelta(days=10)


def test_before_its_beginning_a_history_says_nothing(past: Past) -> None:
    story = past.story(kept_in_folder(past.bundles))
    with pytest.raises(InputError, match="it begins on 2026-01-01T00:00:00Z"):
        moment_at(story, BEGIN - timedelta(days=1))


def test_a_day_on_which_the_set_had_expired_is_answered_and_marked(past: Past) -> None:
    story = past.story(kept_in_folder(past.bundles))
    assert moment_at(story, BEGIN + timedelta(days=9)).expired
    assert not moment_at(story, BEGIN + timedelta(days=3)).expired


def test_a_history_of_another_repository_is_refused(past: Past, tmp_path: Path) -> None:
    other = World(tmp_path / "other").anchor()
    with pytest.raises(VerificationError, match=r"served by .*\.kedge"):
        tell(other, kept_in_folder(past.bundles), [])


def test_a_set_that_does_not_verify_is_left_out_and_said(past: Past, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(past.copy.root, copy)
    (spoilt, *_) = sorted(copy.glob("metadata/*.snapshot.json"))
    spoilt.write_bytes(spoilt.read_bytes().replace(b"spec_version", b"spec_versiom"))
    story = past.story(kept_in_mirror(Mirror(url=str(copy)), past.anchor))
    assert len(story.moments) == 4
    (text,) = story.left_out
    assert "is not the file that was signed for" in text


def test_a_broken_bundle_and_a_delta_alone_are_refused(past: Past, tmp_path: Path) -> None:
    first, second, *_ = sorted(past.bundles.iterdir())
    (tmp_path / "alone").mkdir()
    shutil.copy(second, tmp_path / "alone")
    with pytest.raises(VerificationError, match="which this machine has not taken in"):
        kept_in_folder(tmp_path / "alone")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.kedge").write_bytes(first.read_bytes()[:-1])
    with pytest.raises(VerificationError, match="cut off"):
        kept_in_folder(tmp_path / "broken")


def test_places_without_a_history_say_so(tmp_path: Path, past: Past) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no bundles"):
        kept_in_folder(tmp_path / "empty")
    with pytest.raises(InputError, match="keeps no history"):
        kept_in_state(Store(tmp_path / "empty"))
    with pytest.raises(FetchError, match="there is no such folder"):
        list(kept_in_mirror(Mirror(url=str(tmp_path / "empty")), past.anchor))
    with pytest.raises(InputError, match="holds no keys of elsewhere"):
        windows(past.story(kept_in_folder(past.bundles)), "elsewhere.example")


def test_a_state_that_keeps_its_history_clears_no_file_away(tmp_path: Path) -> None:
    world = World(tmp_path / "state")
    world.options = {"keep_history": True, "registries": (REGISTRY,)}
    for _ in range(70):
        world.tomorrow(hours=1)
        world.refresh()
    assert len(tell(world.anchor(), kept_in_state(Store(world.folder)), []).moments) == 70
    (damaged, *_) = sorted((world.folder / "history").iterdir())
    damaged.write_text("{}")
    assert len(tell(world.anchor(), kept_in_state(Store(world.folder)), []).moments) == 69


def test_a_state_without_history_keeps_none(tmp_path: Path) -> None:
    world = World(tmp_path / "state")
    with TrustClient(world.anchor(), state=world.folder, transport=world.mirror, clock=world.clock) as client:
        client.refresh()
    assert not (world.folder / "history").exists()
