"""A27: keys of types that nobody here knows, as tomorrow's algorithms are."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import Key, Signer

from kedge.errors import Reason, VerificationError
from kedge.tuf import checks, metadata
from support.world import KEYS, World

SLH_DSA = {"keytype": "slh-dsa", "scheme": "slh-dsa-sha2-128s", "keyval": {"public": "ab" * 32}}
STRANGE: dict[str, dict[str, Any]] = {
    "new-type": SLH_DSA,
    "new-scheme": {"keytype": "ed25519", "scheme": "ed25519ctx", "keyval": {"public": "ab" * 32}},
    "other-fields": {"keytype": "x", "scheme": "y", "keyval": {"certificate": {"chain": ["a"]}}, "x-note": 1},
}
ID = "e" * 64


def with_key(world: World, role: str, key: dict[str, Any], *, also_listed_for: str | None) -> None:
    """Let the next version of ``role`` list a key, and a role that it delegates to name it."""
    before = list(world.repo.signers["root"])
    if role == "root":
        world.repo.rotate("root")
    name = world.repo.path_of(role)
    signed = json.loads(world.repo.files[name])["signed"]
    tables = signed if role == "root" else signed["delegations"]
    tables["keys"][ID] = key
    if also_listed_for is not None:
        roles = signed["roles"] if role == "root" else {each["name"]: each for each in tables["roles"]}
        roles[also_listed_for]["keyids"].append(ID)
    if role == "root":
        sign_root(world, name, signed, before)
    else:
        sign_targets(world, role, signed)


def sign_root(world: World, name: str, signed: Any, before: list[Signer]) -> None:
    world.repo.sign_raw("root", signed)
    document = json.loads(world.repo.files[name])
    payload = (encode_canonical(signed) or "").encode()
    document["signatures"] += [signer.sign(payload).to_dict() for signer in before]
    world.repo.files[name] = json.dumps(document).encode()


def sign_targets(world: World, role: str, signed: Any) -> None:
    world.repo.meta_hashes = False
    signed["version"] += 1
    world.repo.payloads[role].version = signed["version"]
    world.repo._highest[role] = signed["version"]
    world.repo.sign_raw(role, signed)
    world.repo._signed[role] = world.repo.files[world.repo.path_of(role)]
    world.repo._follow(role)


@pytest.mark.parametrize("listed_for", [None, "root", "timestamp"])
@pytest.mark.parametrize("key", STRANGE.values(), ids=STRANGE)
def test_a27_an_unknown_key_in_root_counts_nothing_and_stops_nobody(
    world: World, key: dict[str, Any], listed_for: str | None
) -> None:
    assert world.keys() == b"the keys"
    with_key(world, "root", key, also_listed_for=listed_for)
    trust = world.refresh()
    assert trust.root.version == 2
    kind = f"{key['keytype']}/{key['scheme']}"
    assert any(f"root version 2 lists keys of unknown types ({kind})" in warning for warning in trust.warnings)
    assert world.keys() == b"the keys"
    assert world.client().status().root.version == 2  # also from what is stored
    world.repo.rotate("root")  # its successor follows from it
    assert world.refresh().root.version == 3


@pytest.mark.parametrize("key", STRANGE.values(), ids=STRANGE)
def test_a27_an_unknown_key_of_another_registry_stops_nobody(world: World, key: dict[str, Any]) -> None:
    world.repo.delegate("other.example", paths=["other.example/*"])
    world.repo.publish()
    assert world.keys() == b"the keys"
    with_key(world, "targets", key, also_listed_for="other.example")
    client = world.client()
    assert client.target(KEYS).data == b"the keys"
    assert any("targets version" in text and "unknown types" in text for text in client.trust.warnings)


def test_a27_an_unknown_key_makes_no_threshold(world: World) -> None:
    """The control: a role whose threshold needs the unknown key is refused."""
    world.repo.delegate("other.example", paths=["other.example/*"], threshold=1, keys=1)
    world.repo.add_target("other.example/file", b"theirs", role="other.example")
    world.repo.publish()
    assert world.client().target("other.example/file").data == b"theirs"
    name = world.repo.path_of("targets")
    signed = json.loads(world.repo.files[name])["signed"]
    signed["delegations"]["keys"][ID] = SLH_DSA
    other = next(role for role in signed["delegations"]["roles"] if role["name"] == "other.example")
    other["keyids"], other["threshold"] = [*other["keyids"], ID], 2
    sign_targets(world, "targets", signed)
    run = lambda: world.client().target("other.example/file")  # noqa: E731 one line
    world.refused("signed by 1 of the 2 keys", reason=Reason.SIGNATURES, run=run)
    assert world.keys() == b"the keys"


def test_a27_what_was_received_of_an_unknown_key_is_what_is_written_again() -> None:
    for key in STRANGE.values():
        kind = metadata._unknown_key()
        made = kind.from_dict(ID, dict(key))
        assert isinstance(made, Key)
        assert made.to_dict() == key


def test_a27_a_known_type_with_a_damaged_key_is_still_no_root(world: World) -> None:
    data = json.loads(world.repo.initial_root)
    data["signed"]["keys"][ID] = {"keytype": "ed25519", "keyval": {}}
    with pytest.raises(VerificationError, match="scheme: is missing"):
        metadata.parse(json.dumps(data).encode(), metadata.ROOT, file="root.json")


def test_a27_the_published_case_is_accepted(shared_cases: Path) -> None:
    """A root 2 that was made by other software, with a key of SLH-DSA in it."""
    data = (shared_cases / "client" / "2.root.unknown-keytype.json").read_bytes()
    root = metadata.parse(data, metadata.ROOT, file="2.root.json")
    metadata.require_threshold(root.signed, "root", root)
    assert metadata.unknown_keys(root.signed) == {ID: "slh-dsa/slh-dsa-sha2-128s"}
    assert checks.begin(data).root.version == 2
    assert root.signed.expires > datetime(2030, 1, 1, tzinfo=UTC)
