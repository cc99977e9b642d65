"""The fast way of reading targets metadata comes to what the slow way does, or leaves the document to it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, TargetFile, Targets

from kedge.errors import VerificationError
from kedge.tuf.metadata import Parsed, parse, read_canonical
from kedge_repo.workspace.metadata import canonical_json

SHA256 = "0123456789abcdef" * 4
DOCUMENT: dict[str, Any] = {
    "signatures": [{"keyid": "a" * 64, "sig": "00ff"}, {"keyid": "b", "sig": ""}],
    "signed": {
        "_type": "targets",
        "expires": "2027-01-27T00:00:00Z",
        "spec_version": "1.0.31",
        "targets": {
            "a": {"hashes": {"sha256": SHA256}, "length": 0},
            "a!": {"hashes": {"sha256": SHA256}, "length": 7},
            "a/b-c_1.0.tgz": {"hashes": {"sha256": SHA256}, "length": 999999999999999},
        },
        "version": 3,
    },
}


def canonical(document: dict[str, Any]) -> bytes:
    return canonical_json(document).encode()


def slow(data: bytes) -> Parsed[Targets]:
    """Read the same document in a form that is not canonical: with a blank before it."""
    return parse(b" " + data, Targets, file="x")


def same(data: bytes) -> None:
    fast, plain = read_canonical(data), slow(data)
    assert fast is not None
    assert fast.payload == plain.payload
    assert {keyid: value.signature for keyid, value in fast.signatures.items()} == {
        keyid: value.signature for keyid, value in plain.signatures.items()
    }
    assert (fast.signed.version, fast.signed.expires) == (plain.signed.version, plain.signed.expires)
    assert (fast.signed.spec_version, fast.signed.delegations) == (plain.signed.spec_version, None)
    assert dict(fast.signed.targets) == plain.signed.targets
    assert fast.signed.to_dict() == plain.signed.to_dict()


def test_a_canonical_document_is_read_as_it_stands() -> None:
    data = canonical(DOCUMENT)
    same(data)
    same(data + b"\n")
    parsed = parse(data, Targets, file="x")
    assert parsed.payload == data.partition(b',"signed":')[2][:-1]
    assert parsed.signed.targets.get("a!") == TargetFile(7, {"sha256": SHA256}, "a!")
    assert len(parsed.signed.targets) == 3


@pytest.mark.parametrize("path", ["", "b", "A", "a/b", '":{', "a\\", "ä", "hashes", "a/b-c_1.0.tgz ", '"a"'])
def test_what_is_not_listed_is_not_found(path: str) -> None:
    parsed = parse(canonical(DOCUMENT), Targets, file="x")
    assert parsed.signed.targets.get(path) is None
    assert path not in parsed.signed.targets


def test_a_role_without_targets_or_signatures_is_read_too() -> None:
    same(canonical({"signatures": [], "signed": {**DOCUMENT["signed"], "targets": {}}}))


def changed(**fields: object) -> dict[str, Any]:
    return {**DOCUMENT, "signed": {**DOCUMENT["signed"], **fields}}


@pytest.mark.parametrize(
    "document",
    [
        changed(custom=1),
        changed(delegations={"keys": {}, "roles": []}),
        changed(_type="snapshot"),
        changed(version=0),
        changed(expires="2027-02-30T00:00:00Z"),
        changed(spec_version="2.0.0"),
        changed(targets={"ä": {"hashes": {"sha256": SHA256}, "length": 1}}),
        changed(targets={"a": {"custom": {}, "hashes": {"sha256": SHA256}, "length": 1}}),
        changed(targets={"a": {"hashes": {"sha256": SHA256, "sha512": SHA256 * 2}, "length": 1}}),
        changed(targets={"a": {"hashes": {"sha256": SHA256}, "length": -1}}),
        changed(targets={'a"b': {"hashes": {"sha256": SHA256}, "length": 1}}),
        changed(targets={"": {"hashes": {"sha256": SHA256}, "length": 1}}),
        {**DOCUMENT, "signatures": [DOCUMENT["signatures"][0]] * 2},
        {**DOCUMENT, "more": 1},
    ],
)
def test_anything_more_takes_the_slow_way(document: dict[str, Any]) -> None:
    assert read_canonical(canonical(document)) is None


def reordered(document: dict[str, Any]) -> bytes:
    targets = dict(reversed(document["signed"]["targets"].items()))
    return json.dumps(
        {**document, "signed": {**document["signed"], "targets": targets}}, separators=(",", ":")
    ).encode()


@pytest.mark.parametrize(
    "data",
    [
        reordered(DOCUMENT),
        json.dumps(DOCUMENT, sort_keys=True).encode(),
        json.dumps(DOCUMENT, sort_keys=True, indent=1).encode(),
        canonical(DOCUMENT).replace(b'"length":7', b'"length":07'),
        canonical(DOCUMENT).replace(b'"a!"', b'"a"'),
        canonical(DOCUMENT).replace(b"a!", b"\\u0061!"),
        canonical(DOCUMENT) + b" ",
        canonical(DOCUMENT) + canonical(DOCUMENT),
        canonical(DOCUMENT)[:-1],
        b"",
    ],
)
def test_bytes_that_are_not_the_canonical_form_take_the_slow_way(data: bytes) -> None:
    assert read_canonical(data) is None


def test_what_is_signed_over_another_order_is_refused_as_ever() -> None:
    signer = CryptoSigner.generate_ed25519()
    payload = reordered(DOCUMENT).partition(b',"signed":')[2][:-1]
    signature = {"keyid": signer.public_key.keyid, "sig": signer.sign(payload).signature}
    data = b'{"signatures":[%b],"signed":%b}' % (canonical_json(signature).encode(), payload)
    parsed = parse(data, Targets, file="x")
    assert parsed.payload != payload


paths = st.text(st.characters(min_codepoint=32, max_codepoint=127), min_size=0, max_size=12)
targets = st.dictionaries(paths, st.integers(0, 10**15 - 1), max_size=6)


@given(targets=targets, version=st.integers(1, 10**15 - 1))
def test_of_any_targets_both_ways_say_the_same(targets: dict[str, int], version: int) -> None:
    listed = {path: {"hashes": {"sha256": SHA256}, "length": length} for path, length in targets.items()}
    data = canonical(changed(targets=listed, version=version))
    plain = all(path and not set(path) & set('"\\\x7f') for path in targets)
    assert (read_canonical(data) is not None) == plain
    if plain:
        same(data)


@given(position=st.integers(0, len(canonical(DOCUMENT)) - 1), data=st.binary(max_size=3), cut=st.integers(0, 3))
def test_of_any_changed_bytes_the_fast_way_reads_nothing_that_the_slow_one_would_not(
    position: int, data: bytes, cut: int
) -> None:
    whole = canonical(DOCUMENT)
    bent = whole[:position] + data + whole[position + cut :]
    if read_canonical(bent) is not None:
        same(bent)


def test_python_tuf_takes_the_same_bytes_for_the_payload() -> None:
    signer = CryptoSigner.generate_ed25519()
    metadata = Metadata(Targets(version=1, expires=datetime(2027, 1, 1, tzinfo=UTC)))
    metadata.signed.targets["a"] = TargetFile(1, {"sha256": SHA256}, "a")
    metadata.sign(signer)
    data = canonical_json(metadata.to_dict()).encode()
    fast = read_canonical(data)
    assert fast is not None
    assert fast.payload == metadata.signed_bytes


def test_a_fault_in_a_document_is_named_by_the_slow_way() -> None:
    with pytest.raises(VerificationError, match=r"x: signed\.version: must be at least 1"):
        parse(canonical(changed(version=0)), Targets, file="x")
