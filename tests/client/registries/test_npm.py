"""npm's key document and npm's signatures, made here and real."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from kedge.documents import DocumentError
from kedge.errors import InputError, Reason, VerificationError
from kedge.registries.keys import KeyFormat, KeySet, KeyStatus, TimeBasis
from kedge.registries.npm.judge import SIGNATURES, signed_message, verify_signature
from kedge.registries.npm.registry import NPM
from kedge.registries.registry import NoKeysError

REGISTRY = "registry.example"
NOW = datetime(2026, 8, 22, tzinfo=UTC)
IN_2024 = datetime(2024, 1, 1, tzinfo=UTC)

PRIVATE = ec.generate_private_key(ec.SECP256R1())
PUBLIC = base64.b64encode(PRIVATE.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
OTHER_PUBLIC = base64.b64encode(
    ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
).decode()
ED25519_PUBLIC = base64.b64encode(
    ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
).decode()


def entry(keyid: str = "k1", usage: str = SIGNATURES, **public: Any) -> dict[str, Any]:
    """One entry of a key document."""
    body = {
        "rawBytes": PUBLIC,
        "keyDetails": "PKIX_ECDSA_P256_SHA_256",
        "validFor": {"start": "2025-01-13T00:00:00.000Z"},
        **public,
    }
    return {"keyId": keyid, "keyUsage": usage, "publicKey": body}


def parse(*entries: Any, custom: Any = None, registry: str = REGISTRY) -> KeySet:
    data = json.dumps({"keys": list(entries)}).encode()
    return NPM().parse(data, registry=registry, custom=custom, now=NOW)


def fault(*entries: Any, custom: Any = None) -> str:
    with pytest.raises(DocumentError) as caught:
        parse(*entries, custom=custom)
    return str(caught.value)


def test_a_key_document_gives_its_keys_in_order() -> None:
    data = json.dumps({"keys": [entry(), entry(usage="npm:attestations", validFor={})]}).encode()
    keys = NPM().parse(data, registry=REGISTRY, custom=None, now=NOW)
    assert (keys.registry, keys.target, keys.reference_time) == (REGISTRY, "registry.example/keys.json", NOW)
    assert keys.sha256 == hashlib.sha256(data).hexdigest()
    first, second = keys.keys
    assert (first.id, first.registry, first.usages) == ("k1", REGISTRY, (SIGNATURES,))
    assert (first.format, first.algorithm) == (KeyFormat.SPKI_DER, "PKIX_ECDSA_P256_SHA_256")
    assert first.material == base64.b64decode(PUBLIC)
    assert (first.valid_from, first.valid_until) == (datetime(2025, 1, 13, tzinfo=UTC), None)
    assert (first.time_basis, first.status) == (TimeBasis.PUBLISH_TIME, KeyStatus.ACTIVE)
    assert (second.valid_from, second.valid_until) == (None, None)


def test_a_key_is_retired_from_the_moment_its_validity_ends() -> None:
    ends = {"2026-08-22T00:00:00Z": KeyStatus.RETIRED, "2026-08-22T00:00:01Z": KeyStatus.ACTIVE}
    for end, status in ends.items():
        assert parse(entry(validFor={"end": end})).keys[0].status is status


def test_custom_says_what_the_document_cannot() -> None:
    custom = {"kedge": {"v": 1, "revoked": ["k1", "gone"], "time_basis": "log-time"}, "sigstore": {"anything": 1}}
    keys = parse(entry(), entry("k2"), custom=custom)
    assert [key.status for key in keys.keys] == [KeyStatus.REVOKED, KeyStatus.ACTIVE]
    assert {key.time_basis for key in keys.keys} == {TimeBasis.LOG_TIME}
    assert keys.revoked == ("k1", "gone")


@pytest.mark.parametrize("custom", [None, {}, {"sigstore": {"status": "Active"}}, {"kedge": {"v": 1}}])
def test_without_a_word_of_ours_in_custom_nothing_is_revoked(custom: Any) -> None:
    keys = parse(entry(), custom=custom)
    assert (keys.revoked, keys.keys[0].status) == ((), KeyStatus.ACTIVE)


def test_fields_that_nobody_here_knows_are_left_alone() -> None:
    known = entry()
    known["comment"] = known["publicKey"]["hint"] = known["publicKey"]["validFor"]["note"] = "new"
    document = {"keys": [known], "mediaType": "application/x"}
    assert len(NPM().parse(json.dumps(document).encode(), registry=REGISTRY, custom=None, now=NOW).keys) == 1


def test_the_same_entry_twice_is_one_key() -> None:
    assert len(parse(entry(), entry()).keys) == 1


def test_a_key_of_an_unknown_algorithm_does_not_take_the_others_away() -> None:
    keys = parse(entry(), entry("new", keyDetails="PKIX_ML_DSA_65", rawBytes="AAAA"))
    assert [key.format for key in keys.keys] == [KeyFormat.SPKI_DER, KeyFormat.RAW]
    message = signed_message("left-pad", "1.0.0", "sha512-AAAA")
    keys.verify(message, keyid="k1", signature=PRIVATE.sign(message, ec.ECDSA(SHA256())), usage=SIGNATURES)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"rawBytes": "Zm9v"}, "must be an ECDSA P-256 public key (SubjectPublicKeyInfo, DER)"),
        ({"rawBytes": "%%%%"}, "must be base64"),
        ({"rawBytes": "é"}, "must be base64"),
        ({"rawBytes": PUBLIC + "AAAA"}, "must be base64"),
        ({"rawBytes": ""}, "must not be empty"),
        ({"rawBytes": 7}, "must be a text, not a number"),
        (
            {"rawBytes": ED25519_PUBLIC},
            (
                "must be an ECDSA P-256 public key (SubjectPublicKeyInfo, DER), "
                "as its algorithm PKIX_ECDSA_P256_SHA_256 says"
            ),
        ),
    ],
)
def test_bytes_that_are_no_such_key_are_refused_where_they_stand(change: dict[str, Any], text: str) -> None:
    assert fault(entry("k0"), entry("k1"), entry("k2", **change)) == f"keys[2].publicKey.rawBytes: {text}"


@pytest.mark.parametrize("field", ["keyId", "keyUsage", "publicKey"])
def test_a_missing_field_of_an_entry_is_named(field: str) -> None:
    wrong = entry()
    del wrong[field]
    assert fault(wrong) == f"keys[0].{field}: is missing"


@pytest.mark.parametrize("field", ["rawBytes", "keyDetails"])
def test_a_missing_field_of_a_public_key_is_named(field: str) -> None:
    wrong = entry()
    del wrong["publicKey"][field]
    assert fault(wrong) == f"keys[0].publicKey.{field}: is missing"


@pytest.mark.parametrize(
    ("window", "text"),
    [
        ("always", "validFor: must be a table, not a text"),
        ({"start": "yesterday"}, 'validFor.start: must be a time such as 2025-01-27T00:00:00Z, not "yesterday"'),
        ({"end": None}, "validFor.end: must be a text, not null"),
        (
            {"start": "2025-01-13T00:00:00Z", "end": "2025-01-13T00:00:00Z"},
            "validFor.end: must be later than start",
        ),
    ],
)
def test_a_validity_that_is_none_is_refused(window: Any, text: str) -> None:
    assert fault(entry(validFor=window)) == f"keys[0].publicKey.{text}"


def test_one_keyid_with_two_meanings_is_refused() -> None:
    assert fault(entry(), entry(rawBytes=OTHER_PUBLIC)) == "keys[1].keyId: k1 stands for another key further up"
    other_usage = entry(usage="npm:attestations", rawBytes=OTHER_PUBLIC)
    assert fault(entry(), other_usage) == "keys[1].keyId: k1 stands for another key further up"
    other_validity = entry(validFor={})
    assert fault(entry(), other_validity) == "keys[1].keyId: k1 stands twice for npm:signatures, with other validity"


def test_a_keyid_that_could_break_a_terminal_is_refused() -> None:
    for keyid in ("a b", "k\n1", "k\x1b[2J", "schlüssel", "k" * 201):
        assert fault(entry(keyid)).startswith("keys[0].keyId: must be up to 200 visible ASCII characters")


def test_a_document_without_keys_is_a_fault_of_its_own() -> None:
    with pytest.raises(NoKeysError, match=r"keys: is empty: the document names no key"):
        parse()


@pytest.mark.parametrize(
    ("custom", "text"),
    [
        ([], "custom: must be a table, not a list"),
        ({"kedge": []}, "custom.kedge: must be a table, not a list"),
        ({"kedge": {}}, "custom.kedge.v: is missing"),
        ({"kedge": {"v": 2}}, "custom.kedge.v: must be 1: a newer kedge is needed to read this"),
        ({"kedge": {"v": 1, "revoked": "k1"}}, "custom.kedge.revoked: must be a list, not a text"),
        (
            {"kedge": {"v": 1, "revoked": ["k1", "k 2"]}},
            "custom.kedge.revoked[1]: must be a keyid, up to 200 visible ASCII characters",
        ),
        (
            {"kedge": {"v": 1, "time_basis": "moon"}},
            (
                "custom.kedge.time_basis: must be one of publish-time, log-time, signature-timestamp, now, none, "
                'not "moon"'
            ),
        ),
        ({"kedge": {"v": 1, "revokd": ["k1"]}}, "custom.kedge.revokd: is not a field of this document"),
    ],
)
def test_what_custom_says_wrongly_is_refused_and_never_skipped(custom: Any, text: str) -> None:
    assert fault(entry(), custom=custom) == text


def keys_or_fault(data: bytes, custom: Any) -> str:
    """The keyids of a document, or what is wrong with it; any exception but a DocumentError fails the test."""
    try:
        return " ".join(key.id for key in NPM().parse(data, registry=REGISTRY, custom=custom, now=NOW).keys)
    except DocumentError as error:
        return str(error)


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_at_all_end_in_a_document_error_or_in_keys(data: bytes) -> None:
    found = keys_or_fault(data, None)
    assert found
    assert "\n" not in found


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from([PUBLIC, "PKIX_ED25519"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.data())
def test_any_value_anywhere_in_a_document_ends_in_a_document_error_or_in_keys(data: st.DataObject) -> None:
    document = {"keys": [entry(), entry("k2", validFor={"end": "2025-01-29T00:00:00.000Z"})]}
    custom = {"kedge": {"v": 1, "revoked": ["k2"], "time_basis": "now"}}
    places = [
        (table, name)
        for key in document["keys"]
        for table in (key, key["publicKey"], key["publicKey"]["validFor"])
        for name in table
    ]
    places += [(document, "keys"), (custom, "kedge"), *[(custom["kedge"], name) for name in custom["kedge"]]]
    table, name = data.draw(st.sampled_from(places))
    table[name] = data.draw(JSON_VALUES)
    found = keys_or_fault(json.dumps(document).encode(), custom)
    assert found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("registry", "target"),
    [
        ("registry.example", "registry.example/keys.json"),
        ("localhost:4873", "localhost:4873/keys.json"),
        ("proxy.example/repo/npm", "proxy.example/repo/npm/keys.json"),
        ("npm.pkg.example/@scope", "npm.pkg.example/@scope/keys.json"),
    ],
)
def test_a_registrys_id_is_the_folder_of_its_target(registry: str, target: str) -> None:
    assert NPM().target_path(registry) == target


@pytest.mark.parametrize(
    "registry",
    ["", "/", "a/", "/a", "a//b", "../a", "a/../b", "a/.", "a b", "a\n", "ä.example", "a?b", "a#b", "a\\b", "a/%2e%2e"],
)
def test_what_is_no_registrys_id_is_refused(registry: str) -> None:
    with pytest.raises(InputError, match="is not a registry's id: expected a host and perhaps a path") as caught:
        NPM().target_path(registry)
    assert "\n" not in str(caught.value)


def test_an_address_in_place_of_an_id_gets_a_hint() -> None:
    with pytest.raises(InputError) as caught:
        NPM().target_path("https://registry.example/npm/")
    assert caught.value.hint == "give its id, which is registry.example/npm"


def test_the_signed_message_is_name_version_and_integrity() -> None:
    assert (
        signed_message("@scope/left-pad", "1.0.0-rc.1+b", "sha512-AA==") == b"@scope/left-pad@1.0.0-rc.1+b:sha512-AA=="
    )


@pytest.mark.parametrize(
    ("name", "version", "integrity", "path"),
    [
        ("", "1.0.0", "sha512-AA==", "name"),
        ("a@1", "1.0.0", "sha512-AA==", "name"),
        ("a/b", "1.0.0", "sha512-AA==", "name"),
        ("a\nb", "1.0.0", "sha512-AA==", "name"),
        ("a\ud800", "1.0.0", "sha512-AA==", "name"),
        ("a", "1.0.0:sha512-AA==", "sha512-AA==", "version"),
        ("a", "1.0.0", "sha512-AA== sha1-AA==", "integrity"),
        ("a", "1.0.0", "", "integrity"),
    ],
)
def test_a_message_that_could_be_read_in_two_ways_is_not_made(
    name: str, version: str, integrity: str, path: str
) -> None:
    with pytest.raises(DocumentError) as caught:
        signed_message(name, version, integrity)
    assert caught.value.path == path


# Real keys, real signatures.


@pytest.fixture(scope="module")
def real_document(shared_vectors: Path) -> bytes:
    return (shared_vectors / "npm" / "tuf-target-registry.npmjs.org-keys.json").read_bytes()


@pytest.fixture(scope="module")
def real_keys(real_document: bytes) -> KeySet:
    return NPM().parse(real_document, registry="registry.npmjs.org", custom=None, now=NOW)


@pytest.fixture(scope="module")
def real_vectors(shared_vectors: Path) -> list[dict[str, str]]:
    vectors: list[dict[str, str]] = json.loads(
        (shared_vectors / "npm" / "registry-signature-vectors.json").read_bytes()
    )
    return vectors


def signatures_of(packument: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    return [
        (manifest["name"], version, manifest["dist"]["integrity"], signature["keyid"], signature["sig"])
        for version, manifest in packument["versions"].items()
        for signature in manifest["dist"]["signatures"]
    ]


@pytest.fixture(scope="module")
def lodash(shared_vectors: Path) -> list[tuple[str, str, str, str, str]]:
    return signatures_of(json.loads((shared_vectors / "npm" / "lodash-packument-corgi.json").read_bytes()))


def test_the_real_key_document_is_read(real_keys: KeySet) -> None:
    assert real_keys.sha256 == "160677eb6e1c7083c89b166b20f8fe4e837fb71181506aff1991b80b89184f7d"
    assert [(key.id[:11], key.usages, key.status.value) for key in real_keys.keys] == [
        ("SHA256:jl3b", ("npm:signatures",), "retired"),
        ("SHA256:jl3b", ("npm:attestations",), "retired"),
        ("SHA256:DhQ8", ("npm:signatures",), "active"),
        ("SHA256:DhQ8", ("npm:attestations",), "active"),
    ]


def test_every_real_signature_verifies(real_keys: KeySet, real_vectors: list[dict[str, str]]) -> None:
    assert len({vector["keyid"] for vector in real_vectors}) == 2
    for vector in real_vectors:
        at = IN_2024 if vector["keyid"].startswith("SHA256:jl3b") else None
        package = (vector["name"], vector["version"], vector["integrity"])
        assert signed_message(*package) == vector["message"].encode()
        evidence = verify_signature(real_keys, *package, keyid=vector["keyid"], signature=vector["sig"], published=at)
        assert evidence.key.id == vector["keyid"]


def test_one_changed_character_of_the_digest_is_a_bad_signature(
    real_keys: KeySet, real_vectors: list[dict[str, str]]
) -> None:
    pnpm = next(vector for vector in real_vectors if (vector["name"], vector["version"]) == ("pnpm", "10.1.0"))
    changed = pnpm["integrity"].replace("sha512-yJhH", "sha512-yJhI")
    with pytest.raises(VerificationError) as caught:
        verify_signature(real_keys, "pnpm", "10.1.0", changed, keyid=pnpm["keyid"], signature=pnpm["sig"])
    assert caught.value.refusal.reason is Reason.BAD_SIGNATURE


def test_a_signature_that_is_not_base64_is_a_bad_signature(real_keys: KeySet) -> None:
    for signature in ("%", "é"):
        with pytest.raises(VerificationError) as caught:
            verify_signature(real_keys, "pnpm", "10.1.0", "sha512-AA==", keyid="any", signature=signature)
        assert caught.value.refusal.reason is Reason.BAD_SIGNATURE


def outcomes(keys: KeySet, signatures: list[tuple[str, str, str, str, str]], at: datetime | None) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, version, integrity, keyid, signature in signatures:
        try:
            verify_signature(keys, name, version, integrity, keyid=keyid, signature=signature, published=at)
            outcome = "verified"
        except VerificationError as error:
            outcome = error.refusal.reason.value
        counts[outcome] = counts.get(outcome, 0) + 1
    return counts


def test_all_of_lodash_verifies_with_both_keys(
    real_document: bytes, lodash: list[tuple[str, str, str, str, str]]
) -> None:
    between = datetime(2025, 1, 20, tzinfo=UTC)
    keys = NPM().parse(real_document, registry="registry.npmjs.org", custom=None, now=between)
    assert outcomes(keys, lodash, at=None) == {"verified": 117}


def test_without_the_old_key_the_old_signatures_are_by_an_unknown_key(
    real_document: bytes, lodash: list[tuple[str, str, str, str, str]]
) -> None:
    document = json.loads(real_document)
    document["keys"] = [key for key in document["keys"] if not key["keyId"].startswith("SHA256:jl3b")]
    keys = NPM().parse(json.dumps(document).encode(), registry="registry.npmjs.org", custom=None, now=NOW)
    assert outcomes(keys, lodash, at=None) == {"unknown-key": 114, "verified": 3}


def test_a_retired_key_is_not_accepted_silently_where_the_time_is_unknown(
    real_keys: KeySet, lodash: list[tuple[str, str, str, str, str]]
) -> None:
    assert outcomes(real_keys, lodash, at=None) == {"outside-validity": 114, "verified": 3}


def test_a_revoked_key_takes_all_its_signatures_with_it(
    real_document: bytes, lodash: list[tuple[str, str, str, str, str]]
) -> None:
    custom = {"kedge": {"v": 1, "revoked": ["SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA"]}}
    keys = NPM().parse(real_document, registry="registry.npmjs.org", custom=custom, now=NOW)
    assert outcomes(keys, lodash, at=None) == {"revoked-key": 114, "verified": 3}
    assert outcomes(keys, lodash, at=IN_2024) == {"revoked-key": 114, "outside-validity": 3}


def test_a_key_for_attestations_only_does_not_sign_packages(
    real_document: bytes, real_vectors: list[dict[str, str]]
) -> None:
    document = copy.deepcopy(json.loads(real_document))
    document["keys"] = [key for key in document["keys"] if key["keyUsage"] == "npm:attestations"]
    keys = NPM().parse(json.dumps(document).encode(), registry="registry.npmjs.org", custom=None, now=NOW)
    vector = next(vector for vector in real_vectors if vector["keyid"].startswith("SHA256:DhQ8"))
    with pytest.raises(VerificationError) as caught:
        verify_signature(
            keys,
            vector["name"],
            vector["version"],
            vector["integrity"],
            keyid=vector["keyid"],
            signature=vector["sig"],
        )
    assert caught.value.refusal.reason is Reason.UNKNOWN_KEY
    assert "for npm:attestations only, not for npm:signatures" in str(caught.value)
