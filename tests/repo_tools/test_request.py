"""A keyholder on another machine, with nothing but the handed-over file, a root of their own and a key."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner

from kedge.documents import DocumentError
from kedge.errors import InputError, VerificationError
from kedge_repo.events.changes import change
from kedge_repo.events.plan import add_target
from kedge_repo.events.plan_keys import rotate_key
from kedge_repo.events.signatures import export_request, import_responses
from kedge_repo.signing.keyholder import FirstCeremony, TrustedRoot, sign_request, verify_request
from kedge_repo.signing.request import Request, Response, TargetChange, encode_request, request_code
from kedge_repo.signing.review import review_request
from kedge_repo.workspace.metadata import Payload
from repo_tools.ceremony import NPM, Ceremony

NOTHING_YET = FirstCeremony.NOTHING_IS_SIGNED_YET


@pytest.fixture
def ready(tmp_path: Path) -> Ceremony:
    return Ceremony(tmp_path / "maintainers").ready()


@pytest.fixture
def rotated(ready: Ceremony) -> Ceremony:
    """Root is at version 2, and a change to npm's keys is open."""
    ready.signers["carol-2"] = CryptoSigner.generate_ed25519()
    ready.change(lambda view: rotate_key(view, "carol", ready.signers["carol-2"].public_key))
    ready.sign("alice", "bob")
    ready.merge()
    ready.change(lambda view: add_target(view, f"{NPM}/keys.json", b'{"keys":[]}'))
    return ready


def root(ceremony: Ceremony, version: int = 1) -> TrustedRoot:
    path = ceremony.workspace.root / f"metadata/{version}.root.json"
    return TrustedRoot(data=path.read_bytes(), file=f"{version}.root.json")


def test_a_ceremony_works_with_nothing_shared_but_the_files(tmp_path: Path) -> None:
    ceremony = Ceremony(tmp_path / "maintainers").found()
    (tmp_path / "r.json").write_bytes(export_request(ceremony.workspace).to_bytes())
    codes = set()
    for name in ("alice", "carol", "npm-team"):
        machine = tmp_path / name
        machine.mkdir()
        verified = verify_request(Request.from_bytes((tmp_path / "r.json").read_bytes()), NOTHING_YET)
        codes.add(review_request(verified, now=datetime.now(UTC)).code)
        answer = sign_request(verified, ceremony.signers[name])
        (machine / "response.json").write_bytes(answer.to_bytes())
    people = ("alice", "carol", "npm-team")
    answers = [(name, Response.from_bytes((tmp_path / name / "response.json").read_bytes())) for name in people]
    assert import_responses(ceremony.workspace, answers).due
    assert {response.code for _, response in answers} == codes
    assert len(codes) == 1
    assert ceremony.merge().versions["root"] == 1


@pytest.mark.parametrize("version", [1, 2])
def test_the_keyholder_may_start_from_any_root_of_the_chain(rotated: Ceremony, version: int) -> None:
    verified = verify_request(export_request(rotated.workspace), root(rotated, version))
    response = sign_request(verified, rotated.signers["npm-team"])
    assert import_responses(rotated.workspace, [("r", response)]).due


def refused(request: Request, start: TrustedRoot | FirstCeremony, text: str) -> None:
    with pytest.raises(VerificationError, match=text) as caught:
        verify_request(request, start, file="r.json")
    assert caught.value.exit_code == 3
    assert "\n" not in caught.value.message


def test_a_request_of_another_repository_is_refused(rotated: Ceremony, tmp_path: Path) -> None:
    stranger = Ceremony(tmp_path / "stranger").ready()
    request = export_request(rotated.workspace)
    refused(request, root(stranger), r"r\.json: does not follow from 1\.root\.json: its root version 1 is another one")
    refused(
        replace(request, roots=(root(stranger).data, request.roots[1])), root(stranger), r"roots\[1\]: signed by 0 of"
    )


def test_a_base_that_does_not_chain_is_refused(rotated: Ceremony) -> None:
    request = export_request(rotated.workspace)
    first, second = request.roots
    forged = json.loads(second)
    forged["signed"]["expires"] = "2040-01-01T00:00:00Z"
    refused(replace(request, roots=(first, json.dumps(forged).encode())), root(rotated), r"roots\[1\]: signed by 0 of")
    refused(replace(request, roots=(first,)), root(rotated, 2), "is based on root version 1, older than version 2")
    refused(replace(request, roots=(second,)), root(rotated, 2), r"roots\[0\]: is version 2, expected 1")
    refused(replace(request, roots=()), root(rotated), "is based on root version 0, older than version 1")


def test_metadata_of_the_base_that_was_changed_is_refused(rotated: Ceremony) -> None:
    request = export_request(rotated.workspace)
    for role in ("targets", NPM):
        forged = json.loads(request.base[role])
        forged["signed"]["expires"] = "2040-01-01T00:00:00Z"
        base = {**request.base, role: json.dumps(forged).encode()}
        refused(replace(request, base=base), root(rotated), f"base {role}: signed by 0 of")


def test_a_base_that_is_left_out_cannot_roll_a_role_back(rotated: Ceremony) -> None:
    request = export_request(rotated.workspace)
    without_role = {name: data for name, data in request.base.items() if name != NPM}
    refused(replace(request, base=without_role), root(rotated), rf"base: does not bring {NPM}, which is version 1 in")
    refused(replace(request, base={}), root(rotated), "base: does not bring the signed targets")


def test_the_signed_snapshot_keeps_a_role_from_being_begun_again(rotated: Ceremony) -> None:
    request = export_request(rotated.workspace)
    value = json.loads(request.payloads[0].data)
    value["version"] = 1
    again = Payload.from_bytes(NPM, json.dumps(value, separators=(",", ":"), sort_keys=True).encode())
    left_out = {name: data for name, data in request.base.items() if name != NPM}
    change = replace(request.targets[0], old=None)
    forged = replace(request, payloads=(again,), base=left_out, targets=(change,))
    refused(forged, root(rotated), f"does not bring {NPM}, which is version 1 in the signed snapshot")
    # The control: without the snapshot it passes as a role's first version, and the review says what that means.
    unlisted = replace(forged, base={name: data for name, data in left_out.items() if name != "snapshot"})
    lines = list(review_request(verify_request(unlisted, root(rotated)), now=rotated.now).lines())
    assert "no snapshot: nothing of this repository was ever published" in lines[2]


def test_a_snapshot_or_a_base_of_another_time_is_refused(rotated: Ceremony) -> None:
    rotated.sign("npm-team")
    rotated.merge()
    rotated.online()
    rotated.change(lambda view: add_target(view, f"{NPM}/more.json", b"{}"))
    request = export_request(rotated.workspace)
    folder = rotated.workspace.root / "metadata"
    older = {**request.base, NPM: (folder / f"1.{NPM}.json").read_bytes()}
    refused(replace(request, base=older), root(rotated), f"base {NPM}: is version 1, and the signed snapshot lists 2")
    forged = json.loads(request.base["snapshot"])
    forged["signed"]["meta"].pop(f"{NPM}.json")
    other = {**request.base, "snapshot": json.dumps(forged).encode()}
    refused(replace(request, base=other), root(rotated), "base snapshot: signed by 0 of")
    spaced = {**request.base, NPM: request.base[NPM] + b" "}
    refused(replace(request, base=spaced), root(rotated), "is not the file that the signed snapshot lists")


def test_a_snapshot_that_todays_online_keys_did_not_sign_is_not_sent(ready: Ceremony) -> None:
    new = CryptoSigner.generate_ed25519()
    ready.change(lambda view: rotate_key(view, "ci", new.public_key))
    ready.sign("alice", "bob")
    ready.merge()
    ready.change(lambda view: add_target(view, "a.txt", b"a"))
    with pytest.raises(InputError, match="is not signed by the online keys of today") as caught:
        export_request(ready.workspace)
    assert "kedge-repo online" in str(caught.value.hint)
    ready.signers["ci"] = new
    ready.online()
    ready.sign("alice", "bob")
    ready.merge()


@pytest.mark.parametrize(("field", "name"), [("base", "role"), ("targets", "path"), ("payloads", "role")])
def test_an_entry_that_stands_twice_in_a_request_is_refused(rotated: Ceremony, field: str, name: str) -> None:
    document = json.loads(export_request(rotated.workspace).to_bytes())
    document[field].append(document[field][0])
    with pytest.raises(DocumentError, match=rf"^{field}\[\d\]\.{name}: .* stands there twice"):
        Request.from_bytes(json.dumps(document).encode())


def test_a_payload_that_is_not_the_next_version_is_refused(rotated: Ceremony) -> None:
    request = export_request(rotated.workspace)
    (payload,) = request.payloads
    value = json.loads(payload.data)
    value["version"] = 900
    ahead = Payload.from_bytes(NPM, json.dumps(value, separators=(",", ":"), sort_keys=True).encode())
    refused(replace(request, payloads=(ahead,)), root(rotated), f"the payload of {NPM} is version 900, expected 2")


@pytest.mark.parametrize(
    ("targets", "text"),
    [
        (lambda _: (), "changes the target registry.npmjs.org/keys.json and does not bring its bytes"),
        (lambda change: (replace(change, new=b"other"),), "new bytes of registry.npmjs.org/keys.json: are not those"),
        (lambda change: (replace(change, old=b"other"),), "old bytes of registry.npmjs.org/keys.json: are not those"),
        (lambda change: (replace(change, old=None),), "old bytes of registry.npmjs.org/keys.json: are missing"),
        (lambda change: (change, TargetChange(path="x", old=None, new=b"x")), "new bytes of x: are of no target"),
    ],
)
def test_target_bytes_that_are_not_what_is_signed_are_refused(
    rotated: Ceremony, targets: Callable[[TargetChange], tuple[TargetChange, ...]], text: str
) -> None:
    request = export_request(rotated.workspace)
    refused(replace(request, targets=targets(request.targets[0])), root(rotated), text)


def test_a_first_ceremony_is_only_one_where_nothing_is_signed(rotated: Ceremony) -> None:
    request = export_request(rotated.workspace)
    refused(request, NOTHING_YET, "is no first ceremony: it follows 2 roots that are signed already")
    refused(replace(request, roots=()), NOTHING_YET, "is no first ceremony")


def test_a_trusted_root_that_is_none_is_the_users_fault(rotated: Ceremony) -> None:
    request = export_request(rotated.workspace)
    with pytest.raises(InputError, match=r"mine\.json: is not JSON"):
        verify_request(request, TrustedRoot(data=b"{", file="mine.json"))


def test_the_review_says_what_changes_and_by_whom(rotated: Ceremony) -> None:
    lines = list(
        review_request(verify_request(export_request(rotated.workspace), root(rotated)), now=rotated.now).lines()
    )
    text = "\n".join(lines)
    new = hashlib.sha256(b'{"keys":[]}').hexdigest()
    assert f"{NPM} version 2 (after 1)" in text
    assert f"replaces target {NPM}/keys.json: 11 bytes, sha256 {new} (was 2121 bytes, sha256 160677eb" in text
    assert "signed by 1 of npm-team:" in text
    assert lines[-1] == f"request code: {request_code(export_request(rotated.workspace))}"


def test_the_review_shows_keys_that_come_and_go_by_fingerprint(ready: Ceremony) -> None:
    new = CryptoSigner.generate_ed25519()
    change(ready.workspace, lambda view: rotate_key(view, "carol", new.public_key), now=ready.now)
    shown = review_request(verify_request(export_request(ready.workspace), root(ready)), now=ready.now)
    labels = {key.name: key.label for key in shown.keys}
    fact = next(fact for fact in shown.roles[0].facts if fact.startswith("root is signed by"))
    assert labels["carol"] in fact.partition("(was")[0]
    assert labels["carol-old"] in fact.partition("(was")[2]
    assert labels["carol"].startswith("carol:")


def test_nothing_in_a_request_reaches_the_terminal_unescaped(rotated: Ceremony) -> None:
    request = replace(export_request(rotated.workspace), reason="all is well\x1b[2J\nrequest code: AAAA")
    lines = list(review_request(verify_request(request, root(rotated)), now=rotated.now).lines())
    assert all(line.isprintable() for line in lines)
    assert r"reason: all is well\x1b[2J\nrequest code: AAAA" in lines


def test_a_request_reads_back_as_itself(rotated: Ceremony) -> None:
    request = export_request(rotated.workspace)
    assert Request.from_bytes(request.to_bytes()) == request


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (["format"], "kedge.request/2", 'format: is "kedge.request/2"'),
        (["format"], "kedge.response/1", "format: must be"),
        (["payloads"], [], "payloads: must hold at least one payload"),
        (["payloads", 0, "payload"], "!!", "payloads[0].payload: must be base64"),
        (["payloads", 0, "payload"], b64(b"{}"), "payloads[0].payload: signed._type: is missing"),
        (["payloads", 0, "payload"], b64(b'{"a": 1}'), "payloads[0].payload: must be canonical JSON"),
        (["payloads", 0, "payload"], b64(b"[" * 100_000), "payloads[0].payload: must be canonical JSON"),
        (["payloads", 0, "version"], 7, "payloads[0].version: must be 2, as the payload says, not 7"),
        (["payloads", 0, "role"], "../x", "payloads[0].role: "),
        (["roots", 0], "!!", "roots[0]: must be base64"),
        (["targets", 0, "path"], "../x", "targets[0].path: the target path"),
        (["reason"], "", "reason: must not be empty"),
        (["extra"], 1, "extra: is not a field of this document"),
    ],
)
def test_a_malformed_request_names_the_path(
    rotated: Ceremony, path: list[str | int], value: object, problem: str
) -> None:
    document: Any = json.loads(export_request(rotated.workspace).to_bytes())
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(DocumentError) as caught:
        Request.from_bytes(json.dumps(document).encode())
    assert str(caught.value).startswith(problem)


def test_a_response_with_two_signatures_by_one_key_is_refused(rotated: Ceremony) -> None:
    verified = verify_request(export_request(rotated.workspace), root(rotated))
    response = sign_request(verified, rotated.signers["npm-team"])
    twice = replace(response, signatures=response.signatures * 2)
    with pytest.raises(DocumentError, match=r"signatures\[1\]\.keyid: .* signs the same payload twice"):
        Response.from_bytes(twice.to_bytes())
    with pytest.raises(DocumentError, match=r"signatures\[0\]\.sig: must not be empty"):
        Response.from_bytes(response.to_bytes().replace(response.signatures[0].signature.encode(), b""))


# A fixed request: its key is the public key of RFC 8032 §7.1 test 1, which signs nothing here.
KEYID = "a" * 64
KEY = {
    "keytype": "ed25519",
    "scheme": "ed25519",
    "keyval": {"public": "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"},
}
ROLE = {"keyids": [KEYID], "threshold": 1}
ROOT = {
    "_type": "root",
    "spec_version": "1.0.31",
    "version": 1,
    "expires": "2030-01-01T00:00:00Z",
    "consistent_snapshot": True,
    "keys": {KEYID: KEY},
    "roles": dict.fromkeys(("root", "targets", "snapshot", "timestamp"), ROLE),
}
TARGETS = (
    b'{"_type":"targets","expires":"2030-01-01T00:00:00Z","spec_version":"1.0.31",'
    b'"targets":{"a.txt":{"hashes":{"sha256":"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"},'
    b'"length":1}},"version":2}'
)


def fixed_request() -> Request:
    return Request(
        repository="example",
        event="example",
        reason="add a — 2026",
        payloads=(Payload.from_bytes("targets", TARGETS),),
        roots=(json.dumps({"signatures": [], "signed": ROOT}).encode(),),
        base={},
        targets=(TargetChange(path="a.txt", old=None, new=b"a"), TargetChange(path="b.txt", old=b"b", new=None)),
        keyholders={},
    )


def test_the_request_code_of_a_fixed_request() -> None:
    def item(data: bytes) -> bytes:
        return len(data).to_bytes(8, "big") + data

    canonical_root = json.dumps(ROOT, separators=(",", ":"), sort_keys=True).encode()
    expected = (
        item(b"kedge.request-code/1")
        + (1).to_bytes(8, "big")
        + item(b"targets")
        + item(hashlib.sha256(TARGETS).digest())
        + item(hashlib.sha256(canonical_root).digest())
        + (1).to_bytes(8, "big")
        + item(hashlib.sha256(b"a").digest())
        + item("add a — 2026".encode())
    )
    assert encode_request(fixed_request()) == expected
    bits = "".join(f"{byte:08b}" for byte in hashlib.sha256(expected).digest())[:140]
    letters = "".join("0123456789ABCDEFGHJKMNPQRSTVWXYZ"[int(bits[n : n + 5], 2)] for n in range(0, 140, 5))
    assert request_code(fixed_request()).replace("-", "") == letters
    assert request_code(fixed_request()) == "NQ4A-QM5W-Y2BG-E00E-8AQ8-RQ7E-HGYM"


@pytest.mark.parametrize(
    "changed",
    [
        {"reason": "add a — 2027"},
        {"payloads": (Payload.from_bytes("targets", TARGETS.replace(b'"version":2', b'"version":3')),)},
        {"payloads": (Payload.from_bytes("other", TARGETS),)},
        {"targets": (TargetChange(path="a.txt", old=None, new=b"b"),)},
        {"targets": ()},
        {"roots": ()},
    ],
)
def test_whatever_is_signed_shows_in_the_code(changed: dict[str, Any]) -> None:
    assert request_code(replace(fixed_request(), **changed)) != request_code(fixed_request())
