"""What keyholders are shown: key documents key by key, releases that stop verifying, who can do what alone."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from architecture import schemas
from kedge.errors import VerificationError
from kedge_repo.events.plan import add_target
from kedge_repo.events.plan_keys import revoke_key, revoke_registry_key, rotate_registry_key
from kedge_repo.events.plan_roles import plan_renewal, plan_role
from kedge_repo.events.signatures import own_request
from kedge_repo.signing.key_diff import Sample, read_sample
from kedge_repo.signing.key_rules import KeyRule, request_key_faults
from kedge_repo.signing.keyholder import sign_request
from kedge_repo.signing.lint import lint_keys, lint_sarif
from kedge_repo.signing.review import Labels, Review, review_request, review_table
from kedge_repo.signing.threshold import groups_for
from kedge_repo.workspace.metadata import Payload, canonical_json
from kedge_repo.workspace.public_key import fingerprint, ssh_fingerprint_of
from repo_tools.ceremony import NPM, Ceremony

OLD = "SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA"
NEW = "SHA256:DhQ8wR5APBvFHLF/+Tc+AYvPOdTpcIDqOhxsBHRwC7U"


@pytest.fixture
def ready(tmp_path: Path) -> Ceremony:
    return Ceremony(tmp_path).ready()


def shown(ceremony: Ceremony, sample: Sample | None = None) -> tuple[Review, str]:
    found = review_request(own_request(ceremony.workspace), now=ceremony.now, sample=sample)
    assert schemas.faults("review", json.loads(json.dumps(review_table(found)))) == []
    return found, re.sub(r":[0-9a-f]{8}\b", "", "\n".join(found.lines()))


def without(ceremony: Ceremony, keyid: str) -> bytes:
    document = json.loads((ceremony.workspace.root / f"targets/{NPM}/keys.json").read_bytes())
    document["keys"] = [key for key in document["keys"] if key["keyId"] != keyid]
    return json.dumps(document).encode()


def test_114_of_117_releases_stop_verifying(ready: Ceremony, shared_vectors: Path) -> None:
    sample = read_sample((shared_vectors / "npm/lodash-packument-corgi.json").read_bytes())
    document = without(ready, OLD)
    ready.change(lambda view: add_target(view, f"{NPM}/keys.json", document))
    found, text = shown(ready, sample)
    assert "sample lodash: 114 of 117 releases stop verifying (the sample states no publish times" in text
    counted = found.roles[0].targets[0].sample
    assert counted is not None
    assert (counted.before, counted.after, counted.start) == (117, 3, 0)


def test_of_a_release_with_a_publish_time_the_time_counts(ready: Ceremony, shared_vectors: Path) -> None:
    packument = json.loads((shared_vectors / "npm/lodash-packument-corgi.json").read_bytes())
    packument["time"] = dict.fromkeys(packument["versions"], "2020-01-01T00:00:00.000Z")
    sample = read_sample(json.dumps(packument).encode())
    document = (ready.workspace.root / f"targets/{NPM}/keys.json").read_bytes()
    assert document.count(b"2025-01-29") == 2
    ready.change(lambda view: add_target(view, f"{NPM}/keys.json", document.replace(b"2025-01-29", b"2019-01-29", 1)))
    _, text = shown(ready, sample)
    assert "sample lodash: 114 of 117 releases stop verifying\n" in text
    assert (
        f"key {OLD} for npm:signatures: valid from 1999-01-01T00:00:00Z to 2019-01-29T00:00:00Z "
        "(was valid from 1999-01-01T00:00:00Z to 2025-01-29T00:00:00Z)" in text
    )


def test_a_key_document_is_compared_key_by_key(ready: Ceremony) -> None:
    key = CryptoSigner.generate_ed25519().public_key
    ready.change(lambda view: rotate_registry_key(view, NPM, NEW, key, keyid=None, start=ready.now, end=ready.now))
    ready.change(lambda view: revoke_registry_key(view, NPM, OLD))
    found, text = shown(ready)
    assert f"adds key {ssh_fingerprint_of(key)} for npm:signatures, valid from " in text
    assert f"sha256 {fingerprint(key)}" in text
    assert f"removes key {OLD} for npm:attestations, valid from 2022-12-01T00:00:00Z to 2025-01-29T00:00:00Z" in text
    assert f"revokes key {OLD}: nothing that it ever signed is accepted any more" in text
    assert f"key {NEW} for npm:signatures: valid from 2025-01-13T00:00:00Z to " in text
    diff = review_table(found)["roles"][0]["targets"][0]["keys"]
    assert [entry["id"] for entry in diff["added"]] == [ssh_fingerprint_of(key)] * 2
    assert [entry["before"]["id"] for entry in diff["changed"]] == [NEW, NEW]
    assert diff["revoked"] == [OLD]


def test_what_clients_would_choke_on_is_a_warning(ready: Ceremony) -> None:
    ready.change(lambda view: revoke_registry_key(view, NPM, OLD))
    ready.sign("npm-team")
    ready.merge()
    ready.online()
    document = (ready.workspace.root / f"targets/{NPM}/keys.json").read_bytes()
    ready.change(lambda view: add_target(view, f"{NPM}/keys.json", document + b" ", {}))
    _, text = shown(ready)
    assert f"WARNING: key {OLD} is revoked no longer" in text
    ready.change(lambda view: add_target(view, f"{NPM}/keys.json", b"{"))
    _, text = shown(ready)
    assert "WARNING: clients cannot read the new key document: is not JSON" in text


def test_a_key_that_becomes_another_key_is_a_warning(ready: Ceremony) -> None:
    document = (ready.workspace.root / f"targets/{NPM}/keys.json").read_bytes()
    ready.change(lambda view: add_target(view, f"{NPM}/keys.json", swapped(document)))
    _, text = shown(ready)
    assert f"WARNING: key {NEW} for npm:signatures is another key now; sha256 " in text


def swapped(document: bytes) -> bytes:
    value = json.loads(document)
    for key in value["keys"]:
        if key["keyId"] == NEW:
            key["publicKey"]["rawBytes"] = value["keys"][0]["publicKey"]["rawBytes"]
    return json.dumps(value).encode()


def test_consequences_are_computed_from_the_metadata(ready: Ceremony) -> None:
    ready.change(lambda view: plan_role(view, "root", threshold=3))
    ready.change(lambda view: plan_role(view, "targets", threshold=1))
    _, text = shown(ready)
    assert "after this, alice, bob and carol alone can replace root, and with it every other key\n" in text
    assert "after this, if one of these keys is lost, root can never be changed again\n" in text
    assert "after this, any one of alice, bob, carol alone can change every target that no role before it holds" in text
    assert "after this, ci alone can decide which signed versions clients are shown" in text


def test_two_who_alone_can_replace_root_are_named(ready: Ceremony) -> None:
    ready.change(lambda view: revoke_key(view, "carol"))
    _, text = shown(ready)
    assert "after this, alice and bob alone can replace root, and with it every other key\n" in text


def test_a_first_ceremony_says_what_its_holders_can_do(tmp_path: Path) -> None:
    ceremony = Ceremony(tmp_path).found()
    found, text = shown(ceremony)
    assert "based on: nothing: a first ceremony" in text
    assert "after this, any 2 of alice, bob, carol can replace root" in text
    assert "after this, root can still be changed when 1 of its 3 keys is lost" in text
    assert f"after this, npm-team alone can change {NPM}/* (as {NPM})" in text
    marks = {key.name: key.ssh_fingerprint for key in found.keys}
    assert marks["bob"] == ssh_fingerprint_of(ceremony.signers["bob"].public_key)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"name":"a","versions":{"1":{}}}', b"[" * 100_000])
def test_what_is_no_packument_says_so(data: bytes) -> None:
    with pytest.raises(ValueError, match="is not a packument"):
        read_sample(data)


def test_lint_and_event_review_say_what_sign_refuses(ready: Ceremony) -> None:
    ready.change(lambda view: plan_renewal(view, ["root"]))
    clean = own_request(ready.workspace)
    assert lint_keys(clean.signed, clean.request.payloads) == ()
    assert lint_keys(clean.signed) == ()
    (payload,) = clean.request.payloads
    value = json.loads(payload.data, strict=False)
    value["roles"]["root"]["keyids"] += value["roles"]["timestamp"]["keyids"]
    online = Payload.from_bytes("root", canonical_json(value).encode())
    odd = replace(
        clean,
        request=replace(clean.request, payloads=(online,)),
        groups={online.sha256: groups_for(online, clean.signed, [online])},
        key_faults=request_key_faults([online], clean.signed),
    )
    findings = lint_keys(odd.signed, odd.request.payloads)
    assert [(item.rule, item.place) for item in findings] == [("metadata/online-key-in-root", "2.root.json")]
    assert lint_sarif(findings)["runs"][0]["results"][0]["ruleId"] == "metadata/online-key-in-root"
    table = review_table(review_request(odd, now=ready.now))
    assert [fault["rule"] for fault in table["roles"][0]["key_faults"]] == ["online-key-in-root"]
    assert schemas.faults("review", json.loads(json.dumps(table))) == []
    with pytest.raises(VerificationError, match=r"not signed: root version 2: .* \[online-key-in-root\]"):
        sign_request(odd, ready.signers["alice"])
    accepted = sign_request(odd, ready.signers["alice"], accept=[KeyRule.ONLINE])
    assert [item.role for item in accepted.signatures] == ["root"]


def test_two_keys_whose_fingerprints_begin_alike_are_named_in_full(ready: Ceremony) -> None:
    ready.change(lambda view: plan_renewal(view, ["root"]))
    verified = own_request(ready.workspace)
    names = dict.fromkeys(verified.request.keyholders, "same")
    renamed = replace(verified, request=replace(verified.request, keyholders=names))
    apart, alike = Labels(renamed).keys, Labels(renamed, digits=0).keys
    assert [key.label for key in apart] == [f"same:{key.fingerprint[:8]}" for key in apart]
    assert [key.label for key in alike] == [f"same:{key.fingerprint}" for key in alike]
