"""Every change that an event can carry: keys, roles, delegations, renewals, registries' keys; and what it costs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.errors import InputError, Reason, ThresholdError, VerificationError
from kedge.registries.keys import KeyStatus
from kedge.transport.mirror import Mirror
from kedge_repo.audit.status import key_list
from kedge_repo.events.changes import change, event_name, merge_event, new_event
from kedge_repo.events.open_event import stand
from kedge_repo.events.plan import Plan, View, add_target
from kedge_repo.events.plan_keys import (
    add_key,
    add_registry_key,
    revoke_key,
    revoke_registry_key,
    rotate_key,
    rotate_registry_key,
)
from kedge_repo.events.plan_roles import plan_delegation, plan_renewal, plan_role
from kedge_repo.events.signatures import event_status, export_request, own_request, sign_event
from kedge_repo.publish.publish import publish_workspace
from kedge_repo.workspace.catalogue import catalogue_entry
from kedge_repo.workspace.policy import DelegationPolicy
from kedge_repo.workspace.public_key import ssh_fingerprint_of
from repo_tools.ceremony import NPM, Ceremony, contents
from repo_tools.machine import Machine

OLD = "SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA"
NEW = "SHA256:DhQ8wR5APBvFHLF/+Tc+AYvPOdTpcIDqOhxsBHRwC7U"


@pytest.fixture
def ready(tmp_path: Path) -> Ceremony:
    return Ceremony(tmp_path).ready()


def sign_all(ceremony: Ceremony, *names: str) -> None:
    ceremony.sign(*names)
    ceremony.merge()


def roles_of(ceremony: Ceremony) -> dict[str, tuple[str, ...]]:
    return {key.keyholder: key.roles for key in key_list(ceremony.workspace)}


# Events


def test_an_event_is_opened_by_name_and_collects_changes(ready: Ceremony) -> None:
    opened = new_event(ready.workspace, "autumn", "the yearly change", now=ready.now)
    assert opened.is_empty
    status = event_status(ready.workspace)
    assert (status.name, status.changes, status.due) == ("autumn", (), False)
    with pytest.raises(InputError, match="has no changes yet, so there is nothing to merge"):
        ready.merge()
    with pytest.raises(InputError, match="changes no metadata, so there is nothing to sign"):
        export_request(ready.workspace)
    made = ready.change(lambda view: add_target(view, "a.txt", b"a"))
    assert (made.event.name, made.event.reason, made.opened) == ("autumn", "the yearly change", False)
    with pytest.raises(InputError, match="event autumn: is open already"):
        new_event(ready.workspace, "autumn", "again", now=ready.now)
    with pytest.raises(InputError, match=r"NAME: .* is not a name"):
        new_event(ready.workspace, "../autumn", "again", now=ready.now)
    with pytest.raises(InputError, match="--reason: must be one line"):
        new_event(ready.workspace, "winter", "two\nlines", now=ready.now)


def test_an_event_that_was_empty_when_another_merged_still_fits(ready: Ceremony) -> None:
    new_event(ready.workspace, "later", "nothing yet", now=ready.now)
    new_event(ready.workspace, "first", "something", now=ready.now)
    new = CryptoSigner.generate_ed25519().public_key
    change(ready.workspace, lambda view: rotate_key(view, "carol", new), now=ready.now, event="first")
    for name in ("alice", "bob"):
        sign_event(ready.workspace, ready.signers[name], event="first")
    merge_event(ready.workspace, event="first")
    made = change(ready.workspace, lambda view: add_target(view, "a.txt", b"a"), now=ready.now, event="later")
    assert made.event.base.versions["root"] == 2


@pytest.mark.parametrize(
    ("topic", "name"),
    [
        ("npm keys", "2026-11-21-npm-keys"),
        ("add Some File.json", "2026-11-21-add-some-file-json"),
        ("renew " + "registry.example " * 9, "2026-11-21-renew-registry-example-registry-example"),
        ("x" * 80, "2026-11-21-change"),
        ("…", "2026-11-21-change"),
    ],
)
def test_an_event_without_a_name_is_named_by_day_and_topic_and_no_word_is_cut(topic: str, name: str) -> None:
    assert event_name(topic, datetime(2026, 11, 21, tzinfo=UTC)) == name


def test_a_signature_of_a_key_that_loses_its_say_is_dropped_only_when_that_is_said(ready: Ceremony) -> None:
    ready.change(lambda view: add_target(view, "a.txt", b"a"))
    ready.sign("alice", "carol")
    new = ready.signers["carol-2"] = CryptoSigner.generate_ed25519()

    def rotate(view: View) -> Plan:
        return rotate_key(view, "carol", new.public_key)

    with pytest.raises(InputError, match="would drop signatures already collected: carol on targets"):
        ready.change(rotate)
    assert ready.change(rotate, drop_signatures=True).dropped == (("targets", "carol"),)
    have = {role.role: role.groups[0].have for role in event_status(ready.workspace).roles}
    assert have["targets"] == ("alice",)
    sign_all(ready, "bob", "alice", "carol-2")


def test_two_root_versions_in_one_event_keep_each_others_signatures(ready: Ceremony) -> None:
    for name in ("alice", "carol"):
        ready.signers[f"{name}-2"] = CryptoSigner.generate_ed25519()
    ready.change(lambda view: rotate_key(view, "carol", ready.signers["carol-2"].public_key))
    ready.sign("alice", "bob")

    def wish(view: View) -> Plan:
        return rotate_key(view, "alice", ready.signers["alice-2"].public_key)

    with pytest.raises(InputError, match="would drop signatures already collected: ") as caught:
        ready.change(wish)
    assert "alice on root" in caught.value.message
    assert "bob on root" in caught.value.message
    assert "--on-top" in str(caught.value.hint)
    made = change(ready.workspace, wish, now=ready.now, on_top=True)
    assert made.dropped == ()
    status = [(role.role, role.version) for role in event_status(ready.workspace).roles]
    assert status == [("root", 2), ("root", 3), ("targets", 2)]
    ready.sign("bob", "alice-2", "carol-2")
    assert ready.merge().versions == {"root": 3, "targets": 2}
    assert len(ready.workspace.signed().roots) == 3
    ready.online()
    publish_workspace(ready.workspace, ready.folder / "out", now=ready.now)


def test_a_merge_cut_off_between_two_roots_is_completed_by_merging_again(ready: Ceremony) -> None:
    ready.signers["carol-2"] = CryptoSigner.generate_ed25519()
    ready.change(lambda view: rotate_key(view, "carol", ready.signers["carol-2"].public_key))
    change(ready.workspace, lambda view: plan_role(view, "root", threshold=3), now=ready.now, on_top=True)
    ready.sign("alice", "bob", "carol-2")
    (event,) = ready.workspace.events()
    standing_payloads = own_request(ready.workspace).request.payloads
    current = stand(ready.workspace).open_event()
    first = standing_payloads[0]
    ready.workspace.write_metadata(first.file, first.with_signatures(current.signatures[first.sha256]).data)
    assert event_status(ready.workspace).due
    assert ready.merge().event == event
    assert len(ready.workspace.signed().roots) == 3


# Keyholders


def test_a_new_keyholder_stands_in_metadata_policy_and_keys_once_it_is_merged(ready: Ceremony) -> None:
    policy = ready.workspace.policy_text()
    ready.workspace.write_policy(policy.replace("[roles.root]", "# the root of it all\n[roles.root]"))
    dave = ready.signers["dave"] = CryptoSigner.generate_ed25519()
    ready.change(lambda view: add_key(view, "dave", dave.public_key, roles=["root", NPM], location="ssh-agent:dave"))
    assert "dave" not in ready.workspace.policy_text()
    sign_all(ready, "alice", "bob", "dave")
    text = ready.workspace.policy_text()
    assert "# the root of it all" in text
    assert ready.workspace.policy().keyholders["dave"].location == "ssh-agent:dave"
    assert roles_of(ready)["dave"] == ("root", NPM)
    signed = ready.workspace.signed()
    assert signed.root is not None
    assert dave.public_key.keyid in signed.root.signed.roles["root"].keyids
    ready.online()
    ready.change(lambda view: add_target(view, f"{NPM}/more.json", b"{}"))
    sign_all(ready, "dave")


def test_a_revoked_keyholder_is_gone_everywhere(ready: Ceremony) -> None:
    dave = ready.signers["dave"] = CryptoSigner.generate_ed25519()
    ready.change(lambda view: add_key(view, "dave", dave.public_key, roles=["root", "targets"]))
    ready.change(lambda view: revoke_key(view, "bob"))
    sign_all(ready, "alice", "bob", "carol", "dave")
    assert "bob" not in roles_of(ready)
    assert not (ready.workspace.root / "keys/bob.pub").exists()
    assert (ready.workspace.root / "keys/dave.pub").exists()
    ready.online()


WRONG: list[tuple[Callable[[View], Plan], str]] = [
    (lambda view: revoke_key(view, "ci"), "without ci, snapshot would have 0 keyholders and a threshold of 1"),
    (lambda view: revoke_key(view, "dave"), 'there is no keyholder "dave"'),
    (lambda view: add_key(view, "dave", None, roles=["root"]), 'there is no keyholder "dave"'),
    (lambda view: add_key(view, "alice", view.keys["bob"], roles=["root"]), "alice: is a keyholder already"),
    (lambda view: add_key(view, "dave", view.keys["bob"], roles=[]), "is the key that bob already holds"),
    (lambda view: add_key(view, "alice", None, roles=["root"]), "alice is a keyholder of root already"),
    (lambda view: add_key(view, "alice", None, roles=["nobody"]), 'there is no role "nobody"; there are root'),
    (lambda view: add_key(view, "alice", None, roles=[]), "no --role was named"),
    (lambda view: plan_role(view, "root", threshold=4), "roles.root.threshold: must be at most 3"),
    (lambda view: plan_role(view, "root", threshold=2), "root is just so already"),
    (lambda view: plan_role(view, "nobody", threshold=2), 'there is no role "nobody"'),
    (lambda view: plan_role(view, "root", signing_days=900), "roles.root.signing_days: must be less than"),
    (lambda view: plan_renewal(view, ["timestamp"]), "timestamp: is signed by online keys"),
    (lambda view: plan_renewal(view, ["nobody"]), 'there is no signed role "nobody"'),
    (lambda view: revoke_registry_key(view, NPM, "SHA256:x"), 'has no key "SHA256:x"; it has SHA256:jl3b'),
    (lambda view: revoke_registry_key(view, "registry.example", "x"), "there is no such target"),
]


@pytest.mark.parametrize(("wish", "problem"), WRONG, ids=[item[1][:50] for item in WRONG])
def test_a_change_that_cannot_be_made_leaves_the_workspace_as_it_is(
    ready: Ceremony, wish: Callable[[View], Plan], problem: str
) -> None:
    before = contents(ready.workspace.root)
    with pytest.raises(InputError) as caught:
        ready.change(wish)
    assert problem in caught.value.message
    assert "\n" not in caught.value.message
    assert contents(ready.workspace.root) == before


# Roles


def test_a_higher_threshold_is_signed_and_merged_with_the_policy(ready: Ceremony) -> None:
    ready.change(lambda view: plan_role(view, "targets", threshold=3))
    assert [role.role for role in event_status(ready.workspace).roles] == ["root", "targets"]
    ready.sign("alice", "bob")
    with pytest.raises(ThresholdError, match="targets version 2 has 2 of 3"):
        ready.merge()
    sign_all(ready, "carol")
    assert ready.workspace.policy().roles["targets"].threshold == 3
    ready.online()


def test_other_periods_need_no_signature_and_count_from_the_next_version(ready: Ceremony) -> None:
    ready.change(lambda view: plan_role(view, NPM, expiry_days=90, signing_days=9))
    assert event_status(ready.workspace).due
    assert ready.merge().versions == {}
    ready.change(lambda view: plan_renewal(view, [NPM]))
    sign_all(ready, "npm-team")
    expires = ready.workspace.signed().delegated[NPM].signed.expires
    assert expires == ready.now.replace(microsecond=0) + timedelta(days=90)


def test_renewing_changes_the_expiry_and_nothing_else(ready: Ceremony) -> None:
    before = {name: parsed.signed for name, parsed in ready.workspace.signed().everything().items()}
    ready.now += timedelta(days=30)
    ready.change(lambda view: plan_renewal(view, ["root", "targets", NPM]))
    sign_all(ready, "alice", "carol", "npm-team")
    for name in ("root", "targets", NPM):
        after = ready.workspace.signed().everything()[name].signed
        assert after.expires > before[name].expires
        after.expires, after.version = before[name].expires, before[name].version
        assert after == before[name]


def test_a_delegation_lands_in_metadata_and_policy_together(ready: Ceremony) -> None:
    delegation = DelegationPolicy(
        name="hex.example",
        keyholders=("alice", "npm-team"),
        threshold=2,
        expiry=timedelta(days=90),
        signing=timedelta(days=9),
        paths=("hex.example/*",),
        terminating=True,
    )
    ready.change(lambda view: plan_delegation(view, delegation))
    ready.change(lambda view: add_target(view, "hex.example/key.pem", b"pem"))
    sign_all(ready, "alice", "bob", "npm-team")
    assert ready.workspace.policy().delegations["hex.example"] == delegation
    ready.online()
    ready.change(lambda view: plan_renewal(view, ["hex.example"]))
    sign_all(ready, "alice", "npm-team")


# A registry's own keys


def document(ceremony: Ceremony) -> list[tuple[str, str, dict[str, str]]]:
    value = json.loads((ceremony.workspace.root / f"targets/{NPM}/keys.json").read_bytes())
    return [(key["keyId"], key["keyUsage"], key["publicKey"]["validFor"]) for key in value["keys"]]


def client(ceremony: Ceremony, registry: str = NPM) -> TrustClient:
    out = ceremony.folder / "out"
    publish_workspace(ceremony.workspace, out, now=ceremony.now)
    root = (ceremony.workspace.root / "metadata/1.root.json").read_bytes()
    anchor = Anchor(name="example", initial_root=root, mirrors=(Mirror(url=str(out)),), registries=(registry,))
    return TrustClient(anchor, state=ceremony.folder / "state")


def test_a_stolen_registry_key_is_revoked_and_every_client_refuses_it(ready: Ceremony) -> None:
    with client(ready) as before:
        assert before.registry_keys(NPM).find(NEW).id == NEW
    ready.change(lambda view: revoke_registry_key(view, NPM, NEW))
    sign_all(ready, "npm-team")
    ready.online()
    with client(ready) as after:
        keys = after.registry_keys(NPM)
        with pytest.raises(VerificationError) as caught:
            keys.verify(b"anything", keyid=NEW, signature=b"x", usage="npm:signatures")
        assert caught.value.refusal.reason is Reason.REVOKED_KEY
        assert {key.id for key in keys.keys} == {OLD}
    assert {entry[0] for entry in document(ready)} == {OLD}


def test_a_revocation_survives_a_new_key_document(ready: Ceremony) -> None:
    before = (ready.workspace.root / f"targets/{NPM}/keys.json").read_bytes()
    ready.change(lambda view: revoke_registry_key(view, NPM, NEW))
    ready.change(lambda view: add_target(view, f"{NPM}/keys.json", before))
    sign_all(ready, "npm-team")
    ready.online()
    with client(ready) as found, pytest.raises(VerificationError, match="was revoked"):
        found.registry_keys(NPM).verify(b"anything", keyid=NEW, signature=b"x")


@pytest.mark.parametrize(
    ("registry", "keyid"),
    [
        ("apt/debian", "B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8"),
        ("hex/hexpm", "SHA256:O1LOYhHFW4kcrblKAxROaDEzLD8bn1seWbe5tq8TRsk"),
    ],
)
def test_a_key_of_another_kind_of_registry_is_revoked_and_its_document_stays(
    ready: Ceremony, registry: str, keyid: str
) -> None:
    entry = catalogue_entry(registry)
    ready.change(lambda view: add_target(view, entry.target, entry.target_bytes))
    with pytest.raises(InputError, match='has no key "x"; it has'):
        ready.change(lambda view: revoke_registry_key(view, registry, "x"))
    made = ready.change(lambda view: revoke_registry_key(view, registry, keyid))
    assert "whose bytes stay" in made.changes[-1]
    sign_all(ready, "alice", "bob")
    ready.online()
    with client(ready, registry) as found:
        keys = found.registry_keys(registry)
        assert keys.document == entry.target_bytes
        assert keys.find(keyid).status is KeyStatus.REVOKED


def test_the_only_key_stays_in_the_document_when_it_is_revoked(ready: Ceremony) -> None:
    ready.change(lambda view: revoke_registry_key(view, NPM, OLD))
    made = ready.change(lambda view: revoke_registry_key(view, NPM, NEW))
    assert "its entry stays until there is another" in made.changes[-1]
    with pytest.raises(InputError, match="is revoked already"):
        ready.change(lambda view: revoke_registry_key(view, NPM, NEW))
    sign_all(ready, "npm-team")
    ready.online()
    assert {entry[0] for entry in document(ready)} == {NEW}
    with client(ready) as found, pytest.raises(VerificationError, match="was revoked"):
        found.registry_keys(NPM).verify(b"anything", keyid=NEW, signature=b"x")


def test_a_registry_key_is_rotated_with_its_usages_and_times(ready: Ceremony) -> None:
    key = CryptoSigner.generate_ecdsa()
    start, end = ready.now + timedelta(days=7), ready.now + timedelta(days=21)
    ready.change(lambda view: rotate_registry_key(view, NPM, NEW, key.public_key, keyid=None, start=start, end=end))
    sign_all(ready, "npm-team")
    mark = ssh_fingerprint_of(key.public_key)
    assert mark is not None
    found = {(keyid, usage): window for keyid, usage, window in document(ready)}
    for usage in ("npm:signatures", "npm:attestations"):
        assert found[NEW, usage]["end"] == f"{end:%Y-%m-%dT%H:%M:%S}.000Z"
        assert found[mark, usage] == {"start": f"{start:%Y-%m-%dT%H:%M:%S}.000Z"}
    assert found[OLD, "npm:signatures"]["end"] == "2025-01-29T00:00:00.000Z"
    ready.online()
    with client(ready) as clients:
        keys = clients.registry_keys(NPM)
        signature = bytes.fromhex(key.sign(b"message").signature)
        keys.verify(b"message", keyid=mark, signature=signature, usage="npm:signatures", at=start)
        with pytest.raises(VerificationError, match="is valid from"):
            keys.verify(b"message", keyid=mark, signature=signature, usage="npm:signatures", at=ready.now)


def test_a_rotation_that_would_leave_a_gap_is_refused(ready: Ceremony) -> None:
    key = CryptoSigner.generate_ecdsa().public_key
    later = ready.now + timedelta(days=1)
    with pytest.raises(InputError, match="nothing that the registry signs in between would verify"):
        ready.change(lambda view: rotate_registry_key(view, NPM, NEW, key, keyid=None, start=later, end=ready.now))


def test_an_edited_document_keeps_its_layout(ready: Ceremony) -> None:
    before = (ready.workspace.root / f"targets/{NPM}/keys.json").read_text()
    ready.change(lambda view: revoke_registry_key(view, NPM, OLD))
    sign_all(ready, "npm-team")
    after = (ready.workspace.root / f"targets/{NPM}/keys.json").read_text()
    assert set(after.splitlines()) <= set(before.splitlines())


def test_a_registry_without_a_document_begins_with_its_first_key(ready: Ceremony) -> None:
    key = CryptoSigner.generate_ed25519().public_key
    ready.change(lambda view: add_registry_key(view, "registry.example", key, keyid="first", start=ready.now))
    sign_all(ready, "alice", "bob")
    value = json.loads((ready.workspace.root / "targets/registry.example/keys.json").read_bytes())
    assert [(item["keyId"], item["keyUsage"]) for item in value["keys"]] == [("first", "npm:signatures")]


# Two maintainers at once


def test_maintainers_at_work_at_once_lose_no_change_and_no_signature(ready: Ceremony) -> None:
    new_event(ready.workspace, "together", "all at once", now=ready.now)
    change(ready.workspace, lambda view: add_target(view, f"{NPM}/more.json", b"{}"), now=ready.now)
    for number in range(6):
        (ready.folder / f"{number}.txt").write_text(str(number))
    lines = [["target", "add", f"{number}.txt", f"{number}.txt", "-w", "workspace"] for number in range(6)]
    (ready.folder / "npm.pem").write_bytes(ready.signers["npm-team"].private_bytes)
    sign = ["sign", "-w", "workspace", "--key", "file:npm.pem", "--allow-unencrypted-key-file", "--yes"]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "kedge_repo", *line],
            cwd=ready.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for line in [*lines[:3], sign, *lines[3:]]
    ]
    ended = [(process.communicate(timeout=120), process.returncode) for process in started]
    # Whoever was shown an older state of the event is told so and signs nothing; nobody else is ever refused.
    assert all(code == 0 for _, code in ended[:3] + ended[4:]), ended
    (_, said), code = ended[3]
    assert code == 0 or "has changed since it was shown" in said, said
    if code != 0:
        assert Machine(ready.folder).ok(*sign).out == f"{NPM}: signed by npm-team\n"
    status = {role.role: role for role in event_status(ready.workspace).roles}
    assert status[NPM].groups[0].have == ("npm-team",)
    request = export_request(ready.workspace)
    assert {item.path for item in request.targets} == {f"{NPM}/more.json", *(f"{n}.txt" for n in range(6))}
    sign_all(ready, "alice", "bob")
    ready.online()
