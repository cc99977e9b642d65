"""Planning is pure: nothing that goes in changes, and what comes out is exactly the next version."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Root, Targets

from kedge.documents import DocumentError
from kedge.errors import InputError
from kedge_repo.events.open_event import stand
from kedge_repo.events.plan import View, add_target, remove_target, responsible_role
from kedge_repo.events.plan_keys import rotate_key
from kedge_repo.events.plan_roles import plan_delegation, plan_initial
from kedge_repo.workspace.metadata import canonical, check_target_path
from kedge_repo.workspace.policy import DelegationPolicy
from repo_tools.ceremony import NPM, Ceremony

NOW = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
def view(tmp_path: Path) -> View:
    ceremony = Ceremony(tmp_path, now=NOW - timedelta(days=30)).ready()
    return stand(ceremony.workspace).view(NOW)


def frozen(view: View) -> list[bytes]:
    parsed = [*view.signed.roots, *view.signed.everything().values()]
    return [canonical(item.signed) for item in parsed] + [payload.data for payload in view.pending.values()]


def test_planning_changes_nothing_that_went_in(view: View) -> None:
    before = frozen(view)
    planned = view.with_plan(add_target(view, "a.json", b"1"))
    remove_target(planned, "a.json")
    rotate_key(planned, "alice", CryptoSigner.generate_ed25519().public_key)
    assert frozen(view) == before
    assert frozen(planned)[: len(before)] == before


def test_the_same_wish_gives_the_same_bytes(view: View) -> None:
    assert add_target(view, "a.json", b"1") == add_target(view, "a.json", b"1")


def test_a_target_goes_to_the_role_that_its_path_is_delegated_to(view: View) -> None:
    assert responsible_role(view, f"{NPM}/keys.json") == NPM
    assert responsible_role(view, "other/keys.json") == "targets"
    (payload,) = add_target(view, f"{NPM}/keys.json", b"{}").payloads
    assert (payload.role, payload.version) == (NPM, 2)
    assert payload.signed.expires == NOW.replace(microsecond=0) + timedelta(days=182)


def test_a_role_moves_by_one_version_however_often_an_event_touches_it(view: View) -> None:
    once = view.with_plan(add_target(view, "a.json", b"1"))
    later = replace(once, now=NOW + timedelta(hours=1))
    (payload,) = add_target(later, "b.json", b"2").payloads
    assert payload.version == 2
    assert payload.signed.expires == once.targets().expires
    assert set(cast("Targets", payload.signed).targets) == {"a.json", "b.json"}


def test_rotating_a_root_keyholder_moves_root_and_targets_which_would_be_stranded(view: View) -> None:
    new = CryptoSigner.generate_ed25519().public_key
    plan = rotate_key(view, "alice", new)
    payloads = {payload.role: payload for payload in plan.payloads}
    assert set(payloads) == {"root", "targets"}
    root = cast("Root", payloads["root"].signed)
    assert new.keyid in root.roles["root"].keyids
    assert view.keys["alice"].keyid not in root.keys
    assert root.roles["root"].keyids.index(new.keyid) == view.root().roles["root"].keyids.index(
        view.keys["alice"].keyid
    )


def test_rotating_a_keyholder_who_did_not_sign_leaves_targets_alone(view: View) -> None:
    plan = rotate_key(view, "carol", CryptoSigner.generate_ed25519().public_key)
    assert [payload.role for payload in plan.payloads] == ["root"]


def test_rotating_a_delegate_moves_targets_and_the_delegated_role_but_not_root(view: View) -> None:
    plan = rotate_key(view, "npm-team", CryptoSigner.generate_ed25519().public_key)
    assert {payload.role: payload.version for payload in plan.payloads} == {"targets": 2, NPM: 2}


def test_rotating_the_online_key_moves_root_only(view: View) -> None:
    plan = rotate_key(view, "ci", CryptoSigner.generate_ed25519().public_key)
    assert [payload.role for payload in plan.payloads] == ["root"]


def test_a_key_that_somebody_holds_already_is_refused(view: View) -> None:
    with pytest.raises(InputError, match="is the key that bob already holds"):
        rotate_key(view, "alice", view.keys["bob"])
    with pytest.raises(InputError, match='there is no keyholder "dave"'):
        rotate_key(view, "dave", CryptoSigner.generate_ed25519().public_key)


def test_a_new_delegation_brings_its_role_with_it(view: View) -> None:
    policy = DelegationPolicy(
        name="hex.pm",
        keyholders=("alice", "npm-team"),
        threshold=2,
        expiry=timedelta(days=90),
        signing=timedelta(days=9),
        paths=("hex.pm/*",),
        terminating=True,
    )
    plan = plan_delegation(view, policy)
    assert {payload.role: payload.version for payload in plan.payloads} == {"targets": 2, "hex.pm": 1}
    with pytest.raises(InputError, match="just so already"):
        plan_delegation(view.with_plan(plan), policy)


def test_wishes_that_change_nothing_are_refused(view: View) -> None:
    with pytest.raises(InputError, match=r"has no such target"):
        remove_target(view, "nothing.json")
    planned = view.with_plan(add_target(view, "a.json", b"1", {"kedge": {"v": 1}}))
    with pytest.raises(InputError, match=r"already has these bytes in targets version 2"):
        add_target(planned, "a.json", b"1", {"kedge": {"v": 1}})
    add_target(planned, "a.json", b"1", {"kedge": {"v": 2}})
    with pytest.raises(InputError, match="a repository begins once"):
        plan_initial(view)


@pytest.mark.parametrize(
    "path", ["", "/a", "a//b", "a/../b", "./a", "a/", "a\\b", "a b", "a\x00b", "a?b", "a%2fb", "é" * 100, "a" * 1001]
)
def test_paths_that_servers_read_differently_are_no_target_paths(view: View, path: str) -> None:
    with pytest.raises(DocumentError):
        check_target_path(path)
    with pytest.raises(InputError):
        add_target(view, path, b"1")
