"""Real bundles: verified as they are, and refused after any one field of them was altered."""

from __future__ import annotations

import base64
import copy
import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from kedge.documents import DocumentError
from kedge.errors import Reason, StoreError, VerificationError
from kedge.registries.keys import KeySet
from kedge.registries.sigstore.bundle import Bundle, part_of
from kedge.registries.sigstore.registry import Sigstore
from kedge.registries.sigstore.verify import BundleVerifier, SignedStatement

USAGE = "npm:attestations"
Path = tuple[str | int, ...]
Edit = Callable[[Any], object]


def verify(verifier: BundleVerifier, value: Any, keys: KeySet | None = None) -> SignedStatement:
    return verifier.verify_statement(Bundle.from_value(value), signers=keys, usage=USAGE)


def edited(value: Any, edit: Edit) -> Any:
    changed = copy.deepcopy(value)
    edit(changed)
    return changed


def test_npms_publish_attestation_is_verified_by_npms_key_at_the_logs_time(
    verifier: BundleVerifier, npm_bundles: dict[str, Any], npm_keys: KeySet
) -> None:
    found = verify(verifier, npm_bundles["publish"], npm_keys)
    assert found.signed.key is not None
    assert found.signed.key.key.id == "SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA"
    assert found.signed.identity is None
    assert found.signed.at == datetime(2023, 2, 9, 17, 56, 2, tzinfo=UTC)
    assert (found.signed.place.log, found.signed.place.index) == ("https://rekor.sigstore.dev", 12988399)
    assert found.statement.subjects[0].name == "pkg:npm/sigstore@1.0.0"


def test_a_builds_provenance_is_verified_by_its_certificate(
    verifier: BundleVerifier, npm_bundles: dict[str, Any]
) -> None:
    found = verify(verifier, npm_bundles["provenance"])
    assert found.signed.identity is not None
    assert found.signed.identity.repository == "https://github.com/sigstore/sigstore-js"
    assert found.signed.identity.commit == "06528997c3c8ab9f864fad9a3658446aca7fd86d"
    workflow = "https://github.com/sigstore/sigstore-js/.github/workflows/publish.yml@refs/tags/v1.0.0"
    assert found.signed.identity.workflow == workflow
    assert found.signed.key is None


def test_a_bundle_with_a_proof_and_newer_claims_is_verified(
    verifier: BundleVerifier, pypi_bundle: dict[str, Any]
) -> None:
    identity = verify(verifier, pypi_bundle).signed.identity
    assert identity is not None
    assert identity.repository == "https://github.com/trailofbits/pypi-attestations"
    assert identity.runner == "github-hosted"
    assert identity.run is not None


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every field of a document that holds a text or a number, with the path to it."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(item, (*path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    elif value is not None:
        yield path, value


def alterations(value: str) -> Iterator[str]:
    """A text with one character altered, at its start, in its middle and at its end; numbers by one."""
    if value.isdecimal() or not value:
        yield str(int(value or 0) + 1)
        return
    for at in (0, len(value) // 2, len(value) - 1):
        # The last characters before the padding have bits that count for nothing: altered too.
        for sign in ("A" if value[at] != "A" else "B", chr(ord(value[at]) ^ 1)):
            yield value[:at] + sign + value[at + 1 :]
    yield ""


def put(value: Any, path: Path, leaf: Any) -> Any:
    changed = copy.deepcopy(value)
    inner = changed
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = leaf
    return changed


MEANINGS = {
    "mediaType": {"mediaType"},
    "rawBytes": {"signing certificate", "certificate's log entry", "verificationMaterial"},
    "hint": {"signer's key", "verificationMaterial"},
    "logIndex": {"log's time", "inclusion proof"},
    "keyId": {"log's time", "verificationMaterial"},
    "kind": {"log entry", "verificationMaterial"},
    "version": {"log entry", "verificationMaterial"},
    "integratedTime": {"log's time", "signing certificate"},
    "signedEntryTimestamp": {"log's time", "verificationMaterial"},
    "canonicalizedBody": {"log's time", "verificationMaterial"},
    "rootHash": {"inclusion proof", "verificationMaterial"},
    "treeSize": {"inclusion proof"},
    "hashes": {"inclusion proof", "verificationMaterial"},
    "envelope": {"log's checkpoint", "verificationMaterial"},
    "payload": {"signature", "dsseEnvelope"},
    "payloadType": {"payload type", "dsseEnvelope"},
    "sig": {"signature", "dsseEnvelope"},
    "keyid": {"signer's key"},
}
"""What a refusal must name for each field: the part that it is of, or its place where it can no longer be read."""


@pytest.mark.parametrize("which", ["publish", "provenance", "pypi"])
def test_each_single_field_altered_is_refused_and_the_refusal_names_its_meaning(
    which: str, verifier: BundleVerifier, npm_bundles: dict[str, Any], pypi_bundle: dict[str, Any], npm_keys: KeySet
) -> None:
    bundle = pypi_bundle if which == "pypi" else npm_bundles[which]
    verify(verifier, bundle, npm_keys)  # the control: unaltered, it verifies
    seen = 0
    for path, leaf in leaves(bundle):
        field = next(step for step in reversed(path) if isinstance(step, str))
        for altered in alterations(str(leaf)):
            seen += 1
            with pytest.raises((VerificationError, DocumentError)) as caught:
                verify(verifier, put(bundle, path, altered), npm_keys)
            named = str(caught.value)
            assert any(named.startswith(part) for part in MEANINGS[field]), (path, altered, named)
    assert seen > 60


@pytest.mark.parametrize(
    "path",
    [
        ("verificationMaterial", "certificate", "rawBytes"),
        ("verificationMaterial", "tlogEntries", 0, "inclusionPromise", "signedEntryTimestamp"),
        ("verificationMaterial", "tlogEntries", 0, "canonicalizedBody"),
        ("dsseEnvelope", "signatures", 0, "sig"),
        ("dsseEnvelope", "payload"),
    ],
)
def test_no_bit_inside_of_what_is_encoded_can_be_turned(
    path: Path, verifier: BundleVerifier, pypi_bundle: dict[str, Any]
) -> None:
    leaf = pypi_bundle
    for step in path:
        leaf = leaf[step]  # type: ignore[index] # a path leads through dicts and lists
    whole = base64.b64decode(str(leaf))
    for at in range(0, len(whole), max(1, len(whole) // 40)):
        turned = whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :]
        with pytest.raises((VerificationError, DocumentError)):
            verify(verifier, put(pypi_bundle, path, base64.b64encode(turned).decode()))


@pytest.mark.parametrize("name", ["payload", "payloadType", "signatures"])
def test_a_part_of_the_envelope_from_another_bundle_is_refused(
    name: str, verifier: BundleVerifier, npm_bundles: dict[str, Any], npm_keys: KeySet
) -> None:
    other = npm_bundles["provenance"]["dsseEnvelope"] | {"payloadType": "application/vnd.other+json"}
    swapped = edited(npm_bundles["publish"], lambda b: b["dsseEnvelope"].update({name: other[name]}))
    with pytest.raises(VerificationError):
        verify(verifier, swapped, npm_keys)


def test_the_log_entry_of_another_bundle_is_refused(
    verifier: BundleVerifier, npm_bundles: dict[str, Any], npm_keys: KeySet
) -> None:
    """Right in itself, by the log's own key, and about something else."""
    entries = npm_bundles["provenance"]["verificationMaterial"]["tlogEntries"]
    swapped = edited(npm_bundles["publish"], lambda b: b["verificationMaterial"].update(tlogEntries=entries))
    with pytest.raises(VerificationError) as caught:
        verify(verifier, swapped, npm_keys)
    assert caught.value.refusal.reason is Reason.CONTENT
    assert str(caught.value).endswith("is not the one that the log took in")


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda m: m.update(tlogEntries=[]), "must be exactly one entry of a log, not 0"),
        (lambda m: m.update(tlogEntries=m["tlogEntries"] * 2), "must be exactly one entry of a log, not 2"),
        (lambda m: m["tlogEntries"][0].pop("inclusionPromise"), "must hold a promise of the log"),
        (lambda m: m["tlogEntries"][0].update(integratedTime="0"), "must say when the log took it in"),
        (lambda m: m["tlogEntries"][0].update(integratedTime="9" * 15), "is later than the year 9999"),
        (lambda m: m["tlogEntries"][0].update(integratedTime="-1"), "must be a number"),
        (lambda m: m.update(publicKey={"hint": "x"}), "must be the one thing that names the signer"),
        (lambda m: m.pop("x509CertificateChain"), "must be the one thing that names the signer"),
        (lambda m: m["x509CertificateChain"].update(certificates=[]), "must not be empty"),
    ],
)
def test_a_bundle_without_what_its_version_asks_for_is_refused(
    edit: Edit, problem: str, npm_bundles: dict[str, Any]
) -> None:
    with pytest.raises(DocumentError) as caught:
        Bundle.from_value(edited(npm_bundles["provenance"], lambda b: edit(b["verificationMaterial"])))
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda e: e.pop("inclusionProof"), "must hold an inclusion proof with a checkpoint"),
        (lambda e: e["inclusionProof"].pop("checkpoint"), "must hold an inclusion proof with a checkpoint"),
        (lambda e: e.pop("inclusionPromise"), "states a time (integratedTime) that no promise of the log signs"),
        (lambda e: (e.pop("inclusionPromise"), e.pop("integratedTime")), "no time is signed"),
    ],
)
def test_a_newer_bundle_needs_a_proof_and_a_time_that_is_signed(
    edit: Edit, problem: str, pypi_bundle: dict[str, Any]
) -> None:
    with pytest.raises(DocumentError) as caught:
        Bundle.from_value(edited(pypi_bundle, lambda b: edit(b["verificationMaterial"]["tlogEntries"][0])))
    assert problem in str(caught.value)


def test_two_signatures_in_one_envelope_are_refused(pypi_bundle: dict[str, Any]) -> None:
    doubled = edited(pypi_bundle, lambda b: b["dsseEnvelope"].update(signatures=b["dsseEnvelope"]["signatures"] * 2))
    with pytest.raises(DocumentError, match="must be exactly one, not 2"):
        Bundle.from_value(doubled)


def root_with(keys: KeySet, edit: Edit, custom: Any = None) -> BundleVerifier:
    document = edited(json.loads(keys.document), edit)
    data = json.dumps(document).encode()
    parsed = Sigstore().parse(data, registry="sigstore", custom=custom, now=keys.reference_time)
    return BundleVerifier(parsed)


def unchanged(_document: Any) -> None:
    """No change."""


REKOR = "wNI9atQGlz+VWfO6LRygH4QUfY/8W4RFwiT5i5WRgB0="
CTFE = "3T0wasbHETJjGR4cmWc3AqJKXrjePK3/h4pygC8p7o4="
FULCIO = "x509:15d795348226b4649f750f5802592c393bee7cc53c3b86982175b7ad087efe47"


@pytest.mark.parametrize(
    ("edit", "revoked", "part", "reason"),
    [
        (lambda d: d["tlogs"].pop(0), None, "log's time", Reason.UNKNOWN_KEY),
        (unchanged, REKOR, "log's time", Reason.REVOKED_KEY),
        (
            lambda d: d["tlogs"][0]["publicKey"]["validFor"].update(end="2022-01-01T00:00:00Z"),
            None,
            "log's time",
            Reason.OUTSIDE_VALIDITY,
        ),
        (lambda d: d["ctlogs"].pop(1), None, "certificate's log entry", Reason.UNKNOWN_KEY),
        (unchanged, CTFE, "certificate's log entry", Reason.REVOKED_KEY),
        (
            lambda d: d["ctlogs"][1]["publicKey"]["validFor"].update(end="2023-01-01T00:00:00Z"),
            None,
            "certificate's log entry",
            Reason.OUTSIDE_VALIDITY,
        ),
        (unchanged, FULCIO, "signing certificate", Reason.REVOKED_KEY),
        (
            lambda d: d["certificateAuthorities"][1]["validFor"].update(end="2023-01-01T00:00:00Z"),
            None,
            "signing certificate",
            Reason.OUTSIDE_VALIDITY,
        ),
    ],
)
def test_a_root_that_does_not_believe_in_the_log_or_the_authority_then_refuses(
    edit: Edit, revoked: str | None, part: str, reason: Reason, root_keys: KeySet, npm_bundles: dict[str, Any]
) -> None:
    custom = {"kedge": {"v": 1, "revoked": [revoked]}} if revoked else None
    with pytest.raises(VerificationError) as caught:
        verify(root_with(root_keys, edit, custom), npm_bundles["provenance"])
    assert (part_of(caught.value), caught.value.refusal.reason) == (part, reason)


def test_a_root_without_the_authority_does_not_know_its_chain(
    root_keys: KeySet, npm_bundles: dict[str, Any], pypi_bundle: dict[str, Any]
) -> None:
    without = root_with(root_keys, lambda d: d["certificateAuthorities"].pop(1))
    for bundle in (npm_bundles["provenance"], pypi_bundle):
        with pytest.raises(VerificationError) as caught:
            verify(without, bundle)
        assert part_of(caught.value) == "signing certificate"


def test_n9_a_key_that_had_ended_by_the_logs_time_is_outside_its_validity(
    verifier: BundleVerifier, npm_bundles: dict[str, Any], npm_keys: KeySet
) -> None:
    """formats.md §12, n9, with the attestation of sigstore@1.0.0."""
    ended = datetime(2023, 1, 1, tzinfo=UTC)
    keys = replace(npm_keys, keys=tuple(replace(key, valid_until=ended) for key in npm_keys.keys))
    with pytest.raises(VerificationError) as caught:
        verify(verifier, npm_bundles["publish"], keys)
    assert caught.value.refusal.reason is Reason.OUTSIDE_VALIDITY
    assert "was retired at 2023-01-01T00:00:00Z, and this was signed at 2023-02-09T17:56:02Z" in str(caught.value)


def test_a_key_for_packages_does_not_sign_attestations(
    verifier: BundleVerifier, npm_bundles: dict[str, Any], npm_keys: KeySet
) -> None:
    keys = replace(npm_keys, keys=tuple(key for key in npm_keys.keys if USAGE not in key.usages))
    with pytest.raises(VerificationError) as caught:
        verify(verifier, npm_bundles["publish"], keys)
    assert caught.value.refusal.reason is Reason.UNKNOWN_KEY


def test_a_keys_bundle_is_refused_where_a_certificate_is_asked_for(
    verifier: BundleVerifier, npm_bundles: dict[str, Any]
) -> None:
    with pytest.raises(VerificationError) as caught:
        verify(verifier, npm_bundles["publish"])
    assert part_of(caught.value) == "signer's key"


def test_a_signed_timestamp_that_is_none_is_refused(verifier: BundleVerifier, pypi_bundle: dict[str, Any]) -> None:
    junk = {"rfc3161Timestamps": [{"signedTimestamp": base64.b64encode(b"not a timestamp").decode()}]}
    stamped = edited(pypi_bundle, lambda b: b["verificationMaterial"].update(timestampVerificationData=junk))
    with pytest.raises((VerificationError, StoreError)) as caught:
        verify(verifier, stamped)
    assert "signed timestamp" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"mediaType": 1}', b"\xff", b"<html>"])
def test_what_is_no_bundle_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError):
        Bundle.from_bytes(data)


def test_a_verifier_can_go_to_another_process(verifier: BundleVerifier, pypi_bundle: dict[str, Any]) -> None:
    other = pickle.loads(pickle.dumps(verifier))
    assert verify(other, pypi_bundle) == verify(verifier, pypi_bundle)
