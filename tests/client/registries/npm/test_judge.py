"""The judgement, on real packages first: what npm signed must verify, and no lie about it may."""

from __future__ import annotations

import base64
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedge.registries.keys import KeySet
from kedge.registries.npm.judge import Cause, Outcome, Policy, RetiredKeys, Verdict, judge_package
from kedge.registries.npm.locked import Digest, LockedPackage, digest_of, parse_shasum, parse_sri
from kedge.registries.npm.packument import Served, ServedSignature, read
from kedge.registries.npm.registry import NPM
from support.packages import SigningKey, archive_of, integrity_of, key_document, shasum_of

NPMJS = "registry.npmjs.org"
NOW = datetime(2026, 8, 22, tzinfo=UTC)
OLD_ID = "SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA"
JUNK = ServedSignature("SHA256:junk", base64.b64encode(b"junk").decode())


def keys_of(document: bytes | Any, registry: str = NPMJS, custom: Any = None) -> KeySet:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return NPM().parse(data, registry=registry, custom=custom, now=NOW)


@pytest.fixture(scope="session")
def key_file(shared_vectors: Path) -> Any:
    return json.loads((shared_vectors / "npm/tuf-target-registry.npmjs.org-keys.json").read_bytes())


@pytest.fixture(scope="session")
def lodash(shared_vectors: Path) -> dict[str, Served]:
    data = (shared_vectors / "npm/lodash-packument-corgi.json").read_bytes()
    found = read(data, "lodash", json.loads(data)["versions"])
    return {version: served for version, served in found.items() if isinstance(served, Served)}


@pytest.fixture(scope="session")
def pnpm(shared_vectors: Path) -> tuple[LockedPackage, Served]:
    vectors = json.loads((shared_vectors / "npm/registry-signature-vectors.json").read_bytes())
    entries = vectors if isinstance(vectors, list) else vectors["vectors"]
    (entry,) = [each for each in entries if (each["name"], each["version"]) == ("pnpm", "10.1.0")]
    served = Served(
        integrity=entry["integrity"],
        shasum=None,
        signatures=(ServedSignature(entry["keyid"], entry["sig"]),),
        published=None,
    )
    return locked("pnpm", "10.1.0", entry["integrity"]), served


def locked(name: str, version: str, integrity: str | None) -> LockedPackage:
    return LockedPackage(name=name, version=version, digests=parse_sri(integrity) if integrity else ())


def judged(package: LockedPackage, served: Served, *keys: KeySet, policy: Policy | None = None, **more: Any) -> Verdict:
    return judge_package(package, served, keys, policy or Policy(), **more)


def all_of(lodash: dict[str, Served], keys: KeySet, policy: Policy | None = None) -> Counter[Outcome]:
    return Counter(
        judged(locked("lodash", version, served.integrity), served, keys, policy=policy).outcome
        for version, served in lodash.items()
    )


def test_n1_every_version_of_lodash_is_verified(lodash: dict[str, Served], key_file: Any) -> None:
    dated = {
        version: replace(served, published=datetime(2021, 2, 20, tzinfo=UTC)) for version, served in lodash.items()
    }
    found = all_of(dated, keys_of(key_file))
    assert found == {Outcome.VERIFIED_TIME_UNSIGNED: 114, Outcome.VERIFIED: 3}


def test_n2_without_the_old_key_its_versions_are_by_an_unknown_key(lodash: dict[str, Served], key_file: Any) -> None:
    remaining = {"keys": [entry for entry in key_file["keys"] if entry["keyId"] != OLD_ID]}
    assert all_of(lodash, keys_of(remaining)) == {Outcome.UNKNOWN_KEY: 114, Outcome.VERIFIED: 3}


def test_n3_without_a_time_a_retired_key_verifies_nothing(lodash: dict[str, Served], key_file: Any) -> None:
    assert all_of(lodash, keys_of(key_file)) == {Outcome.OUTSIDE_VALIDITY: 114, Outcome.VERIFIED: 3}
    served = next(served for served in lodash.values() if served.signatures[0].keyid == OLD_ID)
    verdict = judged(locked("lodash", "4.17.20", served.integrity), served, keys_of(key_file))
    assert verdict.cause is Cause.TIME_UNKNOWN
    assert "was retired at 2025-01-29T00:00:00Z, and the registry states no time of publishing" in verdict.detail


def test_n4_one_character_of_the_digest_changed_is_a_bad_signature(
    pnpm: tuple[LockedPackage, Served], key_file: Any
) -> None:
    package, served = pnpm
    assert judged(package, served, keys_of(key_file)).outcome is Outcome.VERIFIED
    integrity = str(served.integrity)
    changed = integrity[:-4] + ("A" if integrity[-4] != "A" else "B") + integrity[-3:]
    verdict = judged(locked("pnpm", "10.1.0", changed), replace(served, integrity=changed), keys_of(key_file))
    assert verdict.outcome is Outcome.BAD_SIGNATURE


def test_n5_a_junk_signature_beside_it_is_noted(pnpm: tuple[LockedPackage, Served], key_file: Any) -> None:
    package, served = pnpm
    both = replace(served, signatures=(JUNK, *served.signatures), broken=1)
    verdict = judged(package, both, keys_of(key_file))
    assert verdict.outcome is Outcome.VERIFIED
    assert verdict.notes == (
        "beside it: a signature by SHA256:junk: unknown-key (registry.npmjs.org)",
        "beside it: 1 entries among the signatures that are none",
    )


@pytest.mark.parametrize("broken", [0, 2])
def test_n6_without_signatures_it_is_unsigned(pnpm: tuple[LockedPackage, Served], key_file: Any, broken: int) -> None:
    package, served = pnpm
    verdict = judged(package, replace(served, signatures=(), broken=broken), keys_of(key_file))
    assert verdict.outcome is Outcome.UNSIGNED
    assert verdict.is_fault(Policy())
    if not broken:
        assert "registry.npmjs.org signs everything" in verdict.detail


def test_n7_the_mirrors_own_content_and_key_is_a_mismatch_and_an_unknown_key(
    pnpm: tuple[LockedPackage, Served], key_file: Any
) -> None:
    package, served = pnpm
    own, integrity = SigningKey("SHA256:mirror"), integrity_of(b"evil")
    entry = own.sign("pnpm", "10.1.0", integrity)
    forged = replace(served, integrity=integrity, signatures=(ServedSignature(entry["keyid"], entry["sig"]),))
    verdict = judged(package, forged, keys_of(key_file))
    assert (verdict.outcome, verdict.also) == (Outcome.DIGEST_MISMATCH, (Outcome.UNKNOWN_KEY,))


def test_n8_a_key_for_attestations_signs_no_packages(pnpm: tuple[LockedPackage, Served], key_file: Any) -> None:
    package, served = pnpm
    others = {"keys": [entry for entry in key_file["keys"] if entry["keyUsage"] == "npm:attestations"]}
    assert judged(package, served, keys_of(others)).outcome is Outcome.UNKNOWN_KEY


@pytest.fixture
def signer() -> SigningKey:
    return SigningKey("SHA256:own", start="2020-01-01T00:00:00Z")


def signed(key: SigningKey, name: str = "a", version: str = "1.0.0", *, algorithm: str = "sha512") -> Served:
    data = archive_of(name, version)
    digest = digest_of(data, algorithm)
    entry = key.sign(name, version, digest.sri)
    return Served(
        integrity=digest.sri if algorithm == "sha512" else None,
        shasum=shasum_of(data),
        signatures=(ServedSignature(entry["keyid"], entry["sig"]),),
        published=datetime(2024, 1, 1, tzinfo=UTC),
    )


def package_of(*digests: Digest, name: str = "a", version: str = "1.0.0") -> LockedPackage:
    return LockedPackage(name=name, version=version, digests=digests)


SHA512 = digest_of(archive_of("a", "1.0.0"))
SHA1 = digest_of(archive_of("a", "1.0.0"), "sha1")


def test_a_lockfile_with_sha1_only_is_bound_where_the_registry_signed_sha1(signer: SigningKey) -> None:
    keys = keys_of(key_document(signer))
    old = signed(signer, algorithm="sha1")
    assert judged(package_of(SHA1), old, keys).outcome is Outcome.VERIFIED
    verdict = judged(package_of(SHA1), signed(signer), keys)
    assert (verdict.outcome, verdict.cause) == (Outcome.SKIPPED, Cause.NOT_BOUND)
    assert verdict.is_fault(Policy())
    assert "sha1 digest only" in verdict.detail


def test_a_sha1_that_the_registry_does_not_state_is_a_mismatch(signer: SigningKey) -> None:
    other = parse_shasum("0" * 40)
    verdict = judged(package_of(other), signed(signer), keys_of(key_document(signer)))
    assert verdict.outcome is Outcome.DIGEST_MISMATCH


def test_the_bytes_on_disk_bind_what_the_lockfile_does_not(signer: SigningKey) -> None:
    keys = keys_of(key_document(signer))
    assert judged(package_of(), signed(signer), keys).cause is Cause.NOT_BOUND
    assert judged(package_of(), signed(signer), keys, content=SHA512).outcome is Outcome.VERIFIED
    assert judged(package_of(SHA1), signed(signer), keys, content=SHA512).outcome is Outcome.VERIFIED
    other = judged(package_of(), signed(signer), keys, content=digest_of(b"other"))
    assert other.outcome is Outcome.DIGEST_MISMATCH


def test_a_lockfile_that_allows_two_contents_is_bound_to_none(signer: SigningKey) -> None:
    verdict = judged(package_of(SHA512, digest_of(b"evil")), signed(signer), keys_of(key_document(signer)))
    assert (verdict.outcome, verdict.cause) == (Outcome.DIGEST_MISMATCH, Cause.TWO_DIGESTS)


def test_of_several_algorithms_the_strongest_counts(signer: SigningKey) -> None:
    keys = keys_of(key_document(signer))
    assert judged(package_of(SHA1, SHA512), signed(signer), keys).outcome is Outcome.VERIFIED
    assert judged(package_of(digest_of(b"x", "sha256")), signed(signer), keys).cause is Cause.NOT_BOUND


def test_a_registry_that_states_two_contents_is_a_mismatch(signer: SigningKey) -> None:
    served = signed(signer)
    two = replace(served, integrity=f"{served.integrity} {integrity_of(b'evil')}")
    assert judged(package_of(SHA512), two, keys_of(key_document(signer))).outcome is Outcome.DIGEST_MISMATCH


@pytest.mark.parametrize("integrity", [None, "", "nonsense", "sha512-AAAA"])
def test_a_registry_that_states_no_readable_digest_is_judged_by_the_signature(
    signer: SigningKey, integrity: str | None
) -> None:
    served = replace(signed(signer), integrity=integrity, shasum=None)
    assert judged(package_of(SHA512), served, keys_of(key_document(signer))).outcome is Outcome.VERIFIED
    other = judged(package_of(digest_of(b"other")), served, keys_of(key_document(signer)))
    assert other.outcome is Outcome.BAD_SIGNATURE


def test_a_second_issuer_is_taken_where_it_was_named_and_reported_apart(signer: SigningKey) -> None:
    proxy = SigningKey("SHA256:proxy")
    ours, theirs = keys_of(key_document(signer)), keys_of(key_document(proxy), "proxy.example")
    served = signed(proxy)
    assert judged(package_of(SHA512), served, ours).outcome is Outcome.UNKNOWN_KEY
    verdict = judged(package_of(SHA512), served, ours, theirs)
    assert (verdict.outcome, verdict.issuer) == (Outcome.VERIFIED, "proxy.example")


def test_one_keyid_of_two_issuers_is_checked_with_both_keys() -> None:
    first, second = SigningKey("SHA256:same"), SigningKey("SHA256:same")
    issuers = keys_of(key_document(first), "one.example"), keys_of(key_document(second), "two.example")
    verdict = judged(package_of(SHA512), signed(second), *issuers)
    assert (verdict.outcome, verdict.issuer) == (Outcome.VERIFIED, "two.example")
    assert [result.outcome for result in verdict.signatures] == [Outcome.BAD_SIGNATURE, Outcome.VERIFIED]


def test_a_revoked_key_beside_a_good_one_is_noted_and_alone_it_is_the_outcome(signer: SigningKey) -> None:
    stolen = SigningKey("SHA256:stolen")
    keys = keys_of(key_document(signer, stolen), custom={"kedge": {"v": 1, "revoked": ["SHA256:stolen"]}})
    bad, good = signed(stolen), signed(signer)
    assert judged(package_of(SHA512), bad, keys).outcome is Outcome.REVOKED_KEY
    both = replace(bad, signatures=(*bad.signatures, *good.signatures))
    verdict = judged(package_of(SHA512), both, keys)
    assert verdict.outcome is Outcome.VERIFIED
    assert "revoked-key" in verdict.notes[0]


def test_a_key_that_is_not_valid_yet_is_not_brought_forward_by_the_registrys_word() -> None:
    future = SigningKey("SHA256:future", start="2030-01-01T00:00:00Z")
    served = replace(signed(future), published=datetime(2031, 1, 1, tzinfo=UTC))
    assert judged(package_of(SHA512), served, keys_of(key_document(future))).outcome is Outcome.OUTSIDE_VALIDITY


def test_a_key_measured_by_the_log_is_not_measured_by_the_registry() -> None:
    retired = SigningKey("SHA256:old", end="2025-01-01T00:00:00Z")
    custom = {"kedge": {"v": 1, "time_basis": "log-time"}}
    verdict = judged(package_of(SHA512), signed(retired), keys_of(key_document(retired), custom=custom))
    assert verdict.outcome is Outcome.OUTSIDE_VALIDITY
    assert "log-time" in verdict.detail
    assert judged(package_of(SHA512), signed(retired), keys_of(key_document(retired))).issuer == NPMJS


def test_a_retired_key_with_a_bad_signature_is_a_bad_signature() -> None:
    retired = SigningKey("SHA256:old", end="2025-01-01T00:00:00Z")
    verdict = judged(
        package_of(digest_of(b"x")),
        replace(signed(retired), integrity=None, shasum=None),
        keys_of(key_document(retired)),
    )
    assert verdict.outcome is Outcome.BAD_SIGNATURE


def test_the_policy_reject_takes_no_retired_key() -> None:
    retired = SigningKey("SHA256:old", end="2025-01-01T00:00:00Z")
    policy = Policy(retired_keys=RetiredKeys.REJECT)
    verdict = judged(package_of(SHA512), signed(retired), keys_of(key_document(retired)), policy=policy)
    assert verdict.outcome is Outcome.OUTSIDE_VALIDITY


def test_a_key_of_a_kind_that_this_kedge_cannot_check_is_not_called_a_bad_signature(signer: SigningKey) -> None:
    document = {"keys": [signer.entry()]}
    document["keys"][0]["publicKey"]["keyDetails"] = "PKIX_ML_DSA_65"
    verdict = judged(package_of(SHA512), signed(signer), keys_of(document))
    assert (verdict.outcome, verdict.cause) == (Outcome.UNKNOWN_KEY, Cause.UNSUPPORTED)


def test_a_signature_that_is_no_base64_is_bad(signer: SigningKey) -> None:
    served = replace(signed(signer), signatures=(ServedSignature(signer.keyid, "not base64!"),))
    assert judged(package_of(SHA512), served, keys_of(key_document(signer))).outcome is Outcome.BAD_SIGNATURE


FIXED = SigningKey("SHA256:own")
FIXED_KEYS = keys_of(key_document(FIXED))
TEXTS = st.none() | st.text(max_size=30) | st.sampled_from([SHA512.sri, SHA1.sri, integrity_of(b"evil"), "0" * 40])


@settings(max_examples=300, deadline=None)
@given(
    integrity=TEXTS,
    shasum=TEXTS,
    entries=st.lists(st.tuples(st.sampled_from([FIXED.keyid, "x"]) | st.text(), st.text(max_size=40)), max_size=3),
    digests=st.lists(st.sampled_from([SHA512, SHA1, digest_of(b"evil"), digest_of(b"evil", "sha256")]), unique=True),
)
def test_nothing_verifies_without_a_right_signature(
    integrity: str | None, shasum: str | None, entries: list[tuple[str, str]], digests: list[Digest]
) -> None:
    served = Served(
        integrity=integrity,
        shasum=shasum,
        signatures=tuple(ServedSignature(keyid, sig) for keyid, sig in entries),
        published=None,
    )
    verdict = judged(package_of(*digests), served, FIXED_KEYS)
    assert verdict.is_fault(Policy())


@settings(max_examples=100, deadline=None)
@given(integrity=TEXTS, shasum=TEXTS, name=st.sampled_from(["a", "b"]), digest=st.sampled_from([SHA512, SHA1]))
def test_a_right_signature_verifies_what_it_signed_and_nothing_else(
    integrity: str | None, shasum: str | None, name: str, digest: Digest
) -> None:
    served = replace(signed(FIXED), integrity=integrity, shasum=shasum)
    verdict = judged(package_of(digest, name=name), served, FIXED_KEYS)
    if verdict.outcome is Outcome.VERIFIED:
        assert (name, digest) == ("a", SHA512)
    if (name, digest, integrity, shasum) == ("a", SHA512, SHA512.sri, SHA1.value.hex()):
        assert verdict.outcome is Outcome.VERIFIED
