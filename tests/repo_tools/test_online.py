"""Snapshot and timestamp: made by the online key, when they are due, and never over what no client would take."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from kedge.errors import ExpiredError, InputError, ThresholdError
from kedge_repo.events.plan import add_target
from kedge_repo.events.plan_keys import rotate_key
from kedge_repo.publish.online import Online, sign_online
from repo_tools.ceremony import Ceremony, contents

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def ready(tmp_path: Path) -> Ceremony:
    return Ceremony(tmp_path, now=NOW).ready()


def later(ceremony: Ceremony, days: int) -> Online:
    return sign_online(ceremony.workspace, [ceremony.signers["ci"]], now=NOW + timedelta(days=days))


def test_the_timestamp_is_new_each_time_and_carries_its_time_of_issue(ready: Ceremony) -> None:
    made = later(ready, 1)
    assert (made.timestamp, made.snapshot, made.snapshot_is_new) == (2, 1, False)
    signed = json.loads((ready.workspace.root / "metadata/timestamp.json").read_bytes())["signed"]
    assert signed["x-kedge-issued"] == "2026-11-22T12:00:00Z"
    assert signed["expires"] == "2026-11-29T12:00:00Z"


def test_a_changed_role_makes_a_new_snapshot(ready: Ceremony) -> None:
    ready.change(lambda view: add_target(view, "a.txt", b"a"))
    ready.sign("alice", "bob")
    ready.merge()
    assert later(ready, 1).snapshot == 2


def test_a_snapshot_inside_its_signing_period_is_made_again(ready: Ceremony) -> None:
    # It lasts 365 days and is signed again in the last 60; the others are younger than that here.
    ready.now = NOW + timedelta(days=180)
    ready.change(lambda view: add_target(view, "registry.npmjs.org/x", b"a"))
    ready.change(lambda view: add_target(view, "a.txt", b"a"))
    ready.sign("alice", "bob", "npm-team")
    ready.merge()
    assert later(ready, 181).snapshot == 2
    assert not later(ready, 304).snapshot_is_new
    assert (ready.workspace.root / "metadata/2.snapshot.json").exists()


def test_a_rotated_online_key_makes_a_new_snapshot(ready: Ceremony) -> None:
    new = CryptoSigner.generate_ed25519()
    ready.change(lambda view: rotate_key(view, "ci", new.public_key))
    ready.sign("alice", "bob")
    ready.merge()
    with pytest.raises(ThresholdError, match="snapshot: root version 2 asks for 1 of the keys"):
        later(ready, 1)
    assert sign_online(ready.workspace, [new], now=NOW).snapshot_is_new


def test_the_wrong_key_signs_nothing(ready: Ceremony) -> None:
    before = contents(ready.workspace.root)
    with pytest.raises(ThresholdError) as caught:
        sign_online(ready.workspace, [ready.signers["alice"]], now=NOW)
    assert "timestamp: root version 1 asks for 1 of the keys" in caught.value.message
    assert contents(ready.workspace.root) == before


def test_an_expired_role_is_said_and_nothing_is_signed_over_it(ready: Ceremony) -> None:
    before = contents(ready.workspace.root)
    with pytest.raises(ExpiredError, match=r"metadata/1\.registry\.npmjs\.org\.json: expired on 2027-05-22") as caught:
        later(ready, 200)
    assert caught.value.exit_code == 4
    assert contents(ready.workspace.root) == before


def test_before_the_first_merge_there_is_nothing_to_sign(tmp_path: Path) -> None:
    ceremony = Ceremony(tmp_path, now=NOW).found()
    with pytest.raises(InputError, match=r"metadata/1\.root\.json: is missing"):
        ceremony.online()
