"""Packages signed here and one signed by NuGet: what verifies, and each way in which one does not."""

from __future__ import annotations

import io
import json
import subprocess
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Require
from kedge.errors import InputError
from kedge.registries.keys import KeySet
from kedge.registries.nuget.archive import read_archive
from kedge.registries.nuget.cms import CmsError, Unsupported
from kedge.registries.nuget.registry import Feed, NuGet, read_feed
from kedge.registries.nuget.signature import Kind, read_signature
from kedge.registries.nuget.verify import Outcome, Result, find_packages, judge, judge_file, verify_packages
from support.nuget import (
    AUTHOR,
    NOW,
    REPOSITORY,
    SERVICE_INDEX,
    Party,
    attribute,
    attributes,
    content_of,
    insert_signature,
    message,
    new_party,
    raw_signature,
    sign_content,
    sign_package,
    signer_info,
    time_stamp,
    unsigned,
)

FEED = "nuget/nuget.example"
PACKAGE = unsigned("Example", "1.0.0")
CONTENT = content_of(PACKAGE)
YEAR = timedelta(days=365)


@pytest.fixture(scope="module")
def author() -> Party:
    return new_party("author")


@pytest.fixture(scope="module")
def repository() -> Party:
    return new_party("repository")


@pytest.fixture(scope="module")
def expired() -> Party:
    """A repository whose certificate ended a year ago."""
    return new_party("expired repository", end=NOW - YEAR)


@pytest.fixture(scope="module")
def tsa() -> Party:
    """A time stamp authority below a root of its own."""
    root = new_party("stamp root", authority=True, start=NOW - 10 * YEAR, end=NOW + 10 * YEAR)
    return new_party("stamps", stamps=True, issuer=root, start=NOW - 9 * YEAR, end=NOW + 9 * YEAR)


def keys_of(
    *parties: Party, authors: tuple[Party, ...] = (), pinned: tuple[str, ...] = (), revoked: tuple[str, ...] = ()
) -> tuple[KeySet, Feed]:
    """The keys of a feed whose key document lists these parties, and what is known of the feed."""
    entries = [
        {
            "fingerprints": {"2.16.840.1.101.3.4.2.1": party.fingerprint},
            "notBefore": party.certificate.not_valid_before_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "notAfter": party.certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        for party in parties or (new_party("somebody"),)
    ]
    custom: dict[str, Any] = {"nuget": {"v": 1, "service_index": SERVICE_INDEX}}
    if authors:
        custom["nuget"]["authors"] = [{"name": "a", "certificates": [party.fingerprint for party in authors]}]
    if pinned:
        custom["nuget"]["timestamp_authorities"] = list(pinned)
    if revoked:
        custom["kedge"] = {"v": 1, "revoked": list(revoked)}
    data = json.dumps({"allRepositorySigned": True, "signingCertificates": entries}).encode()
    return NuGet().parse(data, registry=FEED, custom=custom, now=NOW), read_feed(FEED, custom)


def run(data: bytes, known: tuple[KeySet, Feed], *, name: str = "example.1.0.0.nupkg") -> Result:
    return judge_file(io.BytesIO(data), *known, name=name)[1]


def root_of(party: Party) -> str:
    import hashlib

    from cryptography.hazmat.primitives.serialization import Encoding

    return hashlib.sha256(party.chain[0].public_bytes(Encoding.DER)).hexdigest()


def test_a_countersigned_package_verifies_by_the_repositorys_certificate(author: Party, repository: Party) -> None:
    result = run(sign_package(PACKAGE, author, repository), keys_of(repository))
    assert result.outcome is Outcome.VERIFIED
    assert result.signature is not None
    assert (result.signature.kind, result.signature.is_counter) == (Kind.REPOSITORY, True)
    assert result.signature.owners == ("alice", "bob")
    assert result.notes == ("it bears no time stamp: it will not outlive its certificate",)


def test_a_package_that_the_repository_alone_signed_verifies(repository: Party) -> None:
    result = run(sign_package(PACKAGE, None, repository), keys_of(repository))
    assert (result.outcome, result.signature and result.signature.is_counter) == (Outcome.VERIFIED, False)


def test_an_authors_certificate_counts_for_authors_and_in_no_other_place(author: Party, repository: Party) -> None:
    package = sign_package(PACKAGE, author, repository)
    assert run(package, keys_of(authors=(author,))).outcome is Outcome.VERIFIED
    misplaced = run(package, keys_of(author, authors=(repository,)))
    assert misplaced.outcome is Outcome.UNKNOWN_KEY
    assert "for nuget:author only, not for nuget:repository" in misplaced.detail


def test_a_certificate_that_is_not_listed_is_unknown(author: Party, repository: Party) -> None:
    result = run(sign_package(PACKAGE, author, repository), keys_of())
    assert result.outcome is Outcome.UNKNOWN_KEY
    assert result.detail.endswith("; its certificate calls itself CN=repository")


def test_the_name_in_an_unknown_certificate_is_shown_on_one_line_and_not_at_any_length() -> None:
    strange = new_party("one\nline \x1b[31m" + 40 * "x")
    detail = run(sign_package(PACKAGE, None, strange), keys_of()).detail
    assert detail.isprintable()
    assert "calls itself 'CN=one\\nline \\x1b[31mxxx" in detail


def test_a_revoked_certificate_verifies_nothing(author: Party, repository: Party) -> None:
    known = keys_of(repository, revoked=(repository.fingerprint,))
    assert run(sign_package(PACKAGE, author, repository), known).outcome is Outcome.REVOKED_KEY
    gone = keys_of(revoked=(repository.fingerprint,))
    assert run(sign_package(PACKAGE, author, repository), gone).outcome is Outcome.REVOKED_KEY


def test_another_service_index_is_a_fault_which_nuget_itself_never_sees(author: Party, repository: Party) -> None:
    package = sign_package(PACKAGE, author, repository, service_index="https://other.example/v3/index.json")
    result = run(package, keys_of(repository))
    assert result.outcome is Outcome.WRONG_SOURCE
    assert f"expected {SERVICE_INDEX}, found https://other.example/v3/index.json" in result.detail


def test_an_expired_certificate_needs_a_time_stamp_and_says_whose_word_it_is(
    author: Party, expired: Party, tsa: Party
) -> None:
    then = NOW - 2 * YEAR
    stamped = sign_package(PACKAGE, author, expired, stamped_by=tsa, at=then)
    assert run(sign_package(PACKAGE, author, expired), keys_of(expired)).outcome is Outcome.OUTSIDE_VALIDITY
    unpinned = run(stamped, keys_of(expired))
    assert unpinned.outcome is Outcome.VERIFIED_TIME_UNVERIFIED
    assert "the word of an authority that nobody pinned" in unpinned.detail
    for pinned in (tsa.fingerprint, root_of(tsa)):
        assert run(stamped, keys_of(expired, pinned=(pinned,))).outcome is Outcome.VERIFIED
    assert run(stamped, keys_of(expired, pinned=(author.fingerprint,))).outcome is Outcome.VERIFIED_TIME_UNVERIFIED


def test_a_time_stamp_after_the_certificate_ended_is_outside_its_validity(
    author: Party, expired: Party, tsa: Party
) -> None:
    late = sign_package(PACKAGE, author, expired, stamped_by=tsa, at=NOW - YEAR + timedelta(days=1))
    assert run(late, keys_of(expired, pinned=(tsa.fingerprint,))).outcome is Outcome.OUTSIDE_VALIDITY


def test_a_certificate_of_tomorrow_signs_nothing_today(author: Party) -> None:
    future = new_party("future", start=NOW + YEAR, end=NOW + 2 * YEAR)
    assert run(sign_package(PACKAGE, author, future), keys_of(future)).outcome is Outcome.OUTSIDE_VALIDITY


def test_a_time_stamp_authority_counts_only_in_its_own_time_and_with_its_own_usage(
    author: Party, expired: Party
) -> None:
    then = NOW - 2 * YEAR
    ended = new_party("ended stamps", stamps=True, end=then - YEAR, start=then - 2 * YEAR)
    plain = new_party("no stamps")
    for authority in (ended, plain):
        package = sign_package(PACKAGE, author, expired, stamped_by=authority, at=then)
        known = keys_of(expired, pinned=(authority.fingerprint,))
        assert run(package, known).outcome is Outcome.VERIFIED_TIME_UNVERIFIED


def test_a_chain_through_a_certificate_that_is_no_authority_does_not_count(author: Party, expired: Party) -> None:
    middle = new_party("no authority", start=NOW - 10 * YEAR, end=NOW + 10 * YEAR)
    below = new_party("forged stamps", stamps=True, issuer=middle, start=NOW - 9 * YEAR, end=NOW + 9 * YEAR)
    package = sign_package(PACKAGE, author, expired, stamped_by=below, at=NOW - 2 * YEAR)
    known = keys_of(expired, pinned=(middle.fingerprint,))
    assert run(package, known).outcome is Outcome.VERIFIED_TIME_UNVERIFIED


def test_a_time_stamp_over_another_signature_is_none(expired: Party, tsa: Party) -> None:
    signed = attributes(expired, CONTENT, commitment=REPOSITORY, service_index=SERVICE_INDEX)
    signature = raw_signature(expired, signed)
    wrong = attribute("1.2.840.113549.1.9.16.2.14", time_stamp(b"something else", tsa, NOW - 2 * YEAR))
    data = message(CONTENT, [signer_info(expired, signed, signature, [wrong])], [expired.der])
    result = run(insert_signature(PACKAGE, data), keys_of(expired, pinned=(tsa.fingerprint,)))
    assert (result.outcome, "the time stamp is over another signature" in result.detail) == (
        Outcome.OUTSIDE_VALIDITY,
        True,
    )


def test_changed_content_is_a_digest_mismatch(author: Party, repository: Party) -> None:
    signature = read_archive(io.BytesIO(sign_package(PACKAGE, author, repository))).signature
    other = unsigned("Example", "1.0.0", {"lib/a.dll": b"evil " * 100})
    assert run(insert_signature(other, signature), keys_of(repository)).outcome is Outcome.DIGEST_MISMATCH
    assert run(insert_signature(PACKAGE, signature), keys_of(repository)).outcome is Outcome.VERIFIED


def test_a_package_under_another_name_is_named(author: Party, repository: Party) -> None:
    package = sign_package(PACKAGE, author, repository)
    result = run(package, keys_of(repository), name="other.1.0.0.nupkg")
    assert (result.outcome, result.detail) == (
        Outcome.WRONG_NAME,
        "the package says that it is Example 1.0.0, the file is called other.1.0.0.nupkg",
    )


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("1.0.0", "Example.1.0.0.nupkg"),
        ("1.0", "example.1.0.0.nupkg"),
        ("1.0.0.0", "example.1.0.0.nupkg"),
        ("1.0.0-beta+build5", "example.1.0.0-beta.nupkg"),
        ("01.2.3.4", "example.1.2.3.4.nupkg"),
    ],
)
def test_a_version_may_be_written_as_nuget_normalizes_it(repository: Party, version: str, name: str) -> None:
    package = sign_package(unsigned("Example", version), None, repository)
    assert run(package, keys_of(repository), name=name).outcome is Outcome.VERIFIED


def test_an_unsigned_package_is_unsigned_and_a_broken_one_malformed(repository: Party) -> None:
    assert run(PACKAGE, keys_of(repository)).outcome is Outcome.UNSIGNED
    assert run(b"nonsense", keys_of(repository)).outcome is Outcome.MALFORMED


def test_a_package_with_two_signatures_is_malformed(author: Party, repository: Party) -> None:
    package = sign_package(PACKAGE, author, repository)
    result = run(insert_signature(package, b"another"), keys_of(repository))
    assert (result.outcome, result.detail) == (Outcome.MALFORMED, "holds 2 signatures, where one may be")


def test_an_unknown_digest_is_unsupported_by_name(author: Party, repository: Party) -> None:
    content = CONTENT.replace(b"2.16.840.1.101.3.4.2.1-", b"1.3.14.3.2.26-")
    result = run(insert_signature(PACKAGE, sign_content(content, author, repository)), keys_of(repository))
    assert result.outcome is Outcome.UNSUPPORTED
    assert result.detail == "the package is digested by 1.3.14.3.2.26, where SHA-256, SHA-384 or SHA-512 is accepted"
    signed = attributes(repository, CONTENT, commitment=REPOSITORY, service_index=SERVICE_INDEX)
    info = signer_info(repository, signed, raw_signature(repository, signed), digest="1.3.14.3.2.26")
    with pytest.raises(Unsupported, match=r"uses the digest algorithm 1\.3\.14\.3\.2\.26"):
        read_signature(message(CONTENT, [info], [repository.der]))


def test_a_package_may_be_digested_by_sha512(repository: Party) -> None:
    content = content_of(PACKAGE, name="2.16.840.1.101.3.4.2.3", algorithm_name="sha512")
    package = insert_signature(PACKAGE, sign_content(content, None, repository))
    assert run(package, keys_of(repository)).outcome is Outcome.VERIFIED


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"Version:2\n\n2.16.840.1.101.3.4.2.1-Hash:AAAA\n\n",
        CONTENT + b"more",
        CONTENT.replace(b"\n", b"\r\n"),
        b"Version:1\n\n2.16.840.1.101.3.4.2.1-Hash:AAAA\n\n",
        b"Version:1\n\n2.16.840.1.101.3.4.2.1-Hash:A===\n\n",
    ],
)
def test_content_that_is_no_packages_digest_is_refused(repository: Party, content: bytes) -> None:
    with pytest.raises(CmsError):
        read_signature(sign_content(content, None, repository))


def test_huge_certificate_lists_are_refused_by_number(repository: Party) -> None:
    signed = attributes(repository, CONTENT, commitment=REPOSITORY, service_index=SERVICE_INDEX)
    info = signer_info(repository, signed, raw_signature(repository, signed))
    assert read_signature(message(CONTENT, [info], [repository.der] * 100)).primary.kind is Kind.REPOSITORY
    with pytest.raises(CmsError, match="brings 101 certificates, at most 100 are read"):
        read_signature(message(CONTENT, [info], [repository.der] * 101))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("two-signers", "the signature has 2 signers, where one must be"),
        ("no-kind", "does not say whether it is an author's or a repository's"),
        ("not-named", "does not say by which certificate it was made"),
        ("not-brought", "the certificate that it names is not in the message"),
        ("twice", "has the attribute 1.2.840.113549.1.9.3 twice"),
        ("other-type", "the signed attributes are about content of another type"),
        ("no-index", "has 0 signed attributes 1.3.6.1.4.1.311.84.2.1.1.1, where one must be"),
        ("junk", "the signature cannot be read"),
        ("trailing", "the signature cannot be read"),
        ("long", "the signature is longer than 1024 KiB"),
    ],
)
def test_a_signature_that_is_not_in_order_is_refused_by_name(
    author: Party, repository: Party, change: str, problem: str
) -> None:
    with pytest.raises(CmsError) as caught:
        read_signature(changed(author, repository, change))
    assert problem in str(caught.value)


def changed(author: Party, repository: Party, change: str) -> bytes:
    signed = attributes(author, CONTENT, commitment=None if change == "no-kind" else AUTHOR)
    if change == "not-named":
        signed = [each for each in signed if b"\x10\x02\x2f" not in each[:20]]
    if change == "twice":
        signed.append(attribute("1.2.840.113549.1.9.3", signed[0][-11:]))
    if change == "other-type":
        signed = attributes(author, CONTENT, content_type="1.2.3", commitment=AUTHOR)
    if change == "no-index":
        signed = attributes(author, CONTENT, commitment=REPOSITORY)
    info = signer_info(author, signed, raw_signature(author, signed))
    infos = [info, info.replace(b"\x02\x01\x01", b"\x02\x01\x03", 1)] if change == "two-signers" else [info]
    data = message(CONTENT, infos, [(repository if change == "not-brought" else author).der])
    return {"junk": b"\x30\x03abc", "trailing": data + b"\0", "long": data + bytes(1 << 20)}.get(change, data)


def test_a_small_key_is_unsupported(author: Party) -> None:
    weak = new_party("weak", bits=1_024)
    assert run(sign_package(PACKAGE, author, weak), keys_of(weak)).outcome is Outcome.UNSUPPORTED


def test_a_second_repository_may_not_countersign_and_strangers_are_ignored(author: Party, repository: Party) -> None:
    signed = attributes(author, CONTENT, commitment=AUTHOR)
    signature = raw_signature(author, signed)

    def counter(party: Party, commitment: str) -> bytes:
        inner = attributes(party, signature, commitment=commitment, service_index=SERVICE_INDEX)
        return signer_info(party, inner, raw_signature(party, inner))

    def package(*counters: bytes) -> bytes:
        unsigned_attributes = [attribute("1.2.840.113549.1.9.6", *counters)]
        info = signer_info(author, signed, signature, unsigned_attributes)
        return insert_signature(PACKAGE, message(CONTENT, [info], [author.der, repository.der]))

    stranger = counter(author, AUTHOR)
    assert run(package(counter(repository, REPOSITORY), stranger), keys_of(repository)).outcome is Outcome.VERIFIED
    both = run(package(counter(repository, REPOSITORY), counter(author, REPOSITORY)), keys_of(repository))
    assert (both.outcome, both.detail) == (Outcome.BAD_SIGNATURE, "2 repositories countersigned, where one may")


def test_a_counter_signature_of_another_package_is_a_bad_signature(author: Party, repository: Party) -> None:
    signed = attributes(author, CONTENT, commitment=AUTHOR)
    signature = raw_signature(author, signed)
    inner = attributes(repository, b"another signature", commitment=REPOSITORY, service_index=SERVICE_INDEX)
    moved = signer_info(repository, inner, raw_signature(repository, inner))
    info = signer_info(author, signed, signature, [attribute("1.2.840.113549.1.9.6", moved)])
    result = run(insert_signature(PACKAGE, message(CONTENT, [info], [author.der, repository.der])), keys_of(repository))
    assert result.outcome is Outcome.BAD_SIGNATURE
    assert result.detail == "the counter-signature: what was signed is not this content"


def test_another_key_cannot_take_an_authors_countersigned_signature_over(author: Party) -> None:
    """The author's signature with another certificate: the digest that the attributes name keeps them together."""
    forger = new_party("forger")
    signed = attributes(author, CONTENT, commitment=AUTHOR)
    signature = raw_signature(author, signed)
    other = attributes(forger, CONTENT, commitment=AUTHOR)
    for party, names in ((forger, signed), (forger, other), (author, other)):
        data = message(CONTENT, [signer_info(party, names, signature)], [party.der])
        with pytest.raises(CmsError):
            read_signature(data)
    assert read_signature(message(CONTENT, [signer_info(author, signed, signature)], [author.der])).counter is None


@pytest.mark.parametrize(
    "manifest",
    [
        None,
        b"<package/>",
        b"<package><metadata><id>a</id></metadata></package>",
        b"<package><metadata><id>../x</id><version>1</version></metadata></package>",
        b"<!DOCTYPE x [<!ENTITY a 'b'>]><package><metadata><id>a</id><version>1</version></metadata></package>",
        "<package><metadata><id>a</id><version>1</version></metadata></package>".encode("utf-16")[:-1],
        "<package><metadata><id>a</id><version>1</version></metadata></package>".encode("utf-32"),
        "<!DOCTYPE x><package><metadata><id>a</id><version>1</version></metadata></package>".encode("utf-16"),
        b"x" * ((1 << 20) + 1),
        b"not xml",
    ],
)
def test_a_manifest_that_cannot_be_read_is_malformed(repository: Party, manifest: bytes | None) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("readme.txt", b"x")
        if manifest is not None:
            archive.writestr("a.nuspec", manifest)
    assert run(sign_package(out.getvalue(), None, repository), keys_of(repository)).outcome is Outcome.MALFORMED


UTF16 = '<?xml version="1.0" encoding="utf-16"?>'
UTF8 = '<?xml version="1.0" encoding="utf-8"?>'
MARKED = [(name, f"\ufeff{text}") for name in ("utf-16-le", "utf-16-be") for text in (UTF16, UTF8, "")]
UNMARKED = [("utf-16-le", UTF16), ("utf-16-be", UTF16), ("utf-8", UTF8), ("utf-8", "")]


@pytest.mark.parametrize(("encoding", "begin"), [*MARKED, *UNMARKED, ("utf-8", f"\ufeff{UTF8}")])
def test_a_manifest_is_read_in_utf8_and_utf16_with_and_without_a_byte_order_mark(
    repository: Party, encoding: str, begin: str
) -> None:
    metadata = "<metadata><id>Ahre.Core</id><version>1.2.0</version></metadata>"
    text = f"{begin}<package><!-- Müller & Søn -->{metadata}</package>"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("Ahre.Core.nuspec", text.encode(encoding))
    package = io.BytesIO(sign_package(out.getvalue(), None, repository))
    identity, result = judge_file(package, *keys_of(repository), name="ahre.core.1.2.0.nupkg")
    assert (identity, result.outcome) == ("Ahre.Core 1.2.0", Outcome.VERIFIED)
    assert judge_file(package, *keys_of(repository), name="other.1.2.0.nupkg")[1].outcome is Outcome.WRONG_NAME


@settings(max_examples=200)
@given(st.data())
def test_a_changed_byte_in_a_signature_never_verifies_more(data: st.DataObject) -> None:
    party = new_party("repository")
    honest = sign_content(CONTENT, None, party)
    at = data.draw(st.integers(0, len(honest) - 1))
    broken = honest[:at] + bytes((honest[at] ^ data.draw(st.integers(1, 255)),)) + honest[at + 1 :]
    try:
        found = read_signature(broken)
    except CmsError:
        return
    assert (found.primary.fingerprint, found.digest) == (party.fingerprint, read_signature(honest).digest)


@given(st.binary(max_size=300))
def test_whatever_the_signature_file_holds_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(CmsError):
        read_signature(data)


# openssl as a second judge


def openssl_says(require: Require, tmp_path: Path, data: bytes) -> tuple[bool, bytes]:
    import shutil

    require(shutil.which("openssl"), "openssl is not installed")
    (tmp_path / "signature.p7s").write_bytes(data)
    command = ["openssl", "cms", "-verify", "-noverify", "-binary", "-inform", "DER", "-in", "signature.p7s"]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, timeout=30)
    return done.returncode == 0, done.stdout


def test_openssl_agrees_about_good_and_bad_signatures(
    require: Require, tmp_path: Path, author: Party, repository: Party, tsa: Party
) -> None:
    honest = sign_content(CONTENT, author, repository, stamped_by=tsa)
    assert openssl_says(require, tmp_path, honest) == (True, CONTENT)
    assert read_signature(honest).primary.fingerprint == author.fingerprint
    broken = honest.replace(CONTENT[-12:], CONTENT[-12:].swapcase())
    assert openssl_says(require, tmp_path, broken)[0] is False
    with pytest.raises(CmsError, match="what was signed is not this content"):
        read_signature(broken)
    signed = attributes(author, CONTENT, commitment=AUTHOR)
    forged = message(CONTENT, [signer_info(author, signed, raw_signature(new_party("forger"), signed))], [author.der])
    assert openssl_says(require, tmp_path, forged)[0] is False
    with pytest.raises(CmsError, match="its certificate's key did not make this signature"):
        read_signature(forged)


# The real signature


def real(shared_vectors: Path) -> tuple[bytes, dict[str, Any]]:
    folder = shared_vectors / "nuget"
    return (folder / "signature.p7s").read_bytes(), json.loads((folder / "expected.json").read_bytes())


def test_the_real_signature_says_what_is_expected_and_openssl_agrees(
    require: Require, tmp_path: Path, shared_vectors: Path
) -> None:
    data, expected = real(shared_vectors)
    found = read_signature(data)
    assert found.counter is not None
    assert found.primary.fingerprint.upper() == expected["author_cert_sha256"]
    assert found.counter.fingerprint.upper() == expected["repository_countersignature_cert_sha256"]
    assert (found.counter.service_index, list(found.counter.owners)) == (
        expected["v3_service_index"],
        expected["owners"],
    )
    import base64

    assert base64.b64encode(found.digest).decode() == expected["package_sha256_without_signature_entry_b64"]
    assert openssl_says(require, tmp_path, data) == (True, expected["signed_content"].encode())


def real_keys(shared_vectors: Path, *, without: str = "", pinned: tuple[str, ...] = ()) -> tuple[KeySet, Feed]:
    table = json.loads((shared_vectors / "nuget" / "repository-signatures-index.docs-sample.json").read_bytes())
    table["signingCertificates"] = [
        each for each in table["signingCertificates"] if without not in each["fingerprints"].values()
    ]
    custom = {
        "nuget": {"v": 1, "service_index": "https://api.nuget.org/v3/index.json", "timestamp_authorities": list(pinned)}
    }
    registry = "nuget/api.nuget.org"
    keys = NuGet().parse(json.dumps(table).encode(), registry=registry, custom=custom, now=NOW)
    return keys, read_feed(registry, custom)


VERISIGN = "2399561127a57125de8cefea610ddf2fa078b5c8067f4e828290bfb860e84b3c"
"""VeriSign Universal Root Certification Authority, above the authority that stamped the real signature."""


def test_the_real_counter_signature_holds_though_its_certificate_expired_in_2021(shared_vectors: Path) -> None:
    found = read_signature(real(shared_vectors)[0])
    assert found.counter is not None
    assert found.counter.time_stamp is not None
    assert found.counter.time_stamp.time == datetime(2019, 4, 4, 22, 56, 42, tzinfo=UTC)
    assert judge(found, *real_keys(shared_vectors)).outcome is Outcome.VERIFIED_TIME_UNVERIFIED
    verified = judge(found, *real_keys(shared_vectors, pinned=(VERISIGN,)))
    assert (verified.outcome, verified.signature) == (Outcome.VERIFIED, found.counter)


def test_without_the_expired_certificate_in_the_list_the_real_package_is_unknown(shared_vectors: Path) -> None:
    found = read_signature(real(shared_vectors)[0])
    assert found.counter is not None
    known = real_keys(shared_vectors, without=found.counter.fingerprint, pinned=(VERISIGN,))
    assert judge(found, *known).outcome is Outcome.UNKNOWN_KEY


def test_a_changed_bit_in_the_real_signature_is_refused(shared_vectors: Path) -> None:
    data, _ = real(shared_vectors)
    content_at = data.index(b"Pz1Pwq70")
    broken = data[:content_at] + b"Q" + data[content_at + 1 :]
    with pytest.raises(CmsError, match="what was signed is not this content"):
        read_signature(broken)


# Files


def test_folders_are_searched_and_nothing_to_check_is_said(tmp_path: Path, repository: Party) -> None:
    with pytest.raises(InputError, match=r"there is no package \(\*\.nupkg\) in this folder"):
        find_packages([tmp_path])
    with pytest.raises(InputError, match="there is no such file or folder"):
        find_packages([tmp_path / "nowhere"])
    (tmp_path / "example" / "1.0.0").mkdir(parents=True)
    file = tmp_path / "example" / "1.0.0" / "example.1.0.0.nupkg"
    file.write_bytes(sign_package(PACKAGE, None, repository))
    (checked,) = verify_packages(find_packages([tmp_path, file]), *keys_of(repository))
    assert (checked.outcome, checked.is_fault, checked.facts["identity"]) == (Outcome.VERIFIED, False, "Example 1.0.0")


def test_strict_makes_an_unverified_time_a_fault(tmp_path: Path, expired: Party, tsa: Party) -> None:
    file = tmp_path / "example.1.0.0.nupkg"
    file.write_bytes(sign_package(PACKAGE, None, expired, stamped_by=tsa, at=NOW - 2 * YEAR))
    keys, feed = keys_of(expired)
    for strict in (False, True):
        (checked,) = verify_packages([file], keys, feed, strict=strict)
        assert checked.is_fault is strict


def test_the_moment_of_judging_is_the_reference_time(author: Party, repository: Party) -> None:
    keys, feed = keys_of(repository)
    later = replace(keys, reference_time=NOW + YEAR)
    assert run(sign_package(PACKAGE, author, repository), (later, feed)).outcome is Outcome.OUTSIDE_VALIDITY


def test_a_manifest_whose_compression_is_damaged_is_malformed(repository: Party) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.nuspec", b"<package>" * 50)
    data = bytearray(stream.getvalue())
    begin = 30 + len("a.nuspec")
    data[begin : begin + 4] = b"\xff" * 4  # no block of deflate begins so
    result = run(sign_package(bytes(data), None, repository), keys_of(repository))
    assert (result.outcome, result.detail) == (Outcome.MALFORMED, "the package's manifest cannot be read")
