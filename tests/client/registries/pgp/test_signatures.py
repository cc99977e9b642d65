"""Signatures as gpgv and sqv tell of them: by their words, never by their exit status; and the frame around a text."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Require
from kedge.documents import DocumentError
from kedge.errors import StoreError
from kedge.registries.apt.registry import APT
from kedge.registries.keys import KeySet
from kedge.registries.pgp.registry import keyring_of
from kedge.registries.pgp.verify import (
    TOOLS,
    Checker,
    Judged,
    Signature,
    SignatureOutcome,
    Standing,
    find_checker,
    is_clear_signed,
    judge,
    read_gpgv,
    read_signature,
    read_sqv,
    split,
    verify_file,
)
from support.gnupg import GnuPG, gnupg, need_gnupg

NOW = datetime(2026, 8, 22, tzinfo=UTC)
FIRST, SECOND = "A" * 40, "B" * 40
LATER = "20400101T000000!"


@pytest.fixture(scope="module")
def gpg(require: Require) -> Iterator[GnuPG]:
    need_gnupg(require)
    with gnupg() as home:
        yield home


@pytest.fixture(params=TOOLS)
def checker(require: Require, request: pytest.FixtureRequest) -> Checker:
    program = shutil.which(request.param)
    require(program, f"{request.param} is not installed")
    return Checker(program=Path(program or ""))


def keys_of(keyring: bytes, *revoked: str, now: datetime = NOW) -> KeySet:
    custom = {"kedge": {"v": 1, "revoked": list(revoked)}}
    return APT().parse(keyring, registry="apt/example", custom=custom, now=now)


def judged(checker: Checker, signed: bytes, keys: KeySet) -> Judged:
    parts = split(signed)
    return judge(checker.check(parts.signature, parts.text, keyring_of(keys)), keys)


def test_debians_release_is_verified_by_one_known_key_of_three(shared_vectors: Path, checker: Checker) -> None:
    # Where gpgv knows one key of three, its exit status is the same as where it knows none.
    release = (shared_vectors / "apt/bookworm.InRelease").read_bytes()
    for keyring, noted in (("archive-keyring", 0), ("archive-bookworm-automatic", 2)):
        keys = keys_of((shared_vectors / f"apt/debian-{keyring}.gpg").read_bytes())
        verdict = judged(checker, release, keys)
        assert verdict.outcome is SignatureOutcome.VERIFIED
        assert verdict.key in {key.id for key in keys.keys}
        assert len(verdict.notes) == noted
        assert all("is not in the verified keyring" in note for note in verdict.notes)


def test_one_changed_byte_of_debians_release_is_a_bad_signature(shared_vectors: Path, checker: Checker) -> None:
    release = (shared_vectors / "apt/bookworm.InRelease").read_bytes()
    keys = keys_of((shared_vectors / "apt/debian-archive-keyring.gpg").read_bytes())
    assert judged(checker, release.replace(b"Label: Debian", b"Label: debian"), keys).outcome is (
        SignatureOutcome.BAD_SIGNATURE
    )


def test_what_a_key_is_worth_names_the_outcome(gpg: GnuPG, checker: Checker) -> None:
    signed = gpg.clear_sign(b"text\n", "ours")
    both = gpg.clear_sign(b"text\n", "ours", "stranger")
    ours = gpg.key("ours")
    known = keys_of(gpg.public("ours"))
    assert judged(checker, signed, known) == Judged(outcome=SignatureOutcome.VERIFIED, key=ours)
    assert judged(checker, both, known).outcome is SignatureOutcome.VERIFIED
    assert judged(checker, signed, keys_of(gpg.public("stranger"))).outcome is SignatureOutcome.UNKNOWN_KEY
    assert judged(checker, signed, keys_of(gpg.public("ours"), ours)).outcome is SignatureOutcome.REVOKED_KEY
    # The entry is gone from the keyring, and the revocation stays.
    assert judged(checker, signed, keys_of(gpg.public("stranger"), ours)).outcome is SignatureOutcome.REVOKED_KEY


def test_a_revoked_subkey_counts_for_nothing_while_its_primary_key_does(gpg: GnuPG, checker: Checker) -> None:
    subkey = gpg.subkey("split")
    by_subkey = gpg.clear_sign(b"text\n", "split", by={"split": subkey})
    by_primary = gpg.clear_sign(b"text\n", "split")
    revoked = keys_of(gpg.public("split"), subkey)
    assert judged(checker, by_primary, revoked).outcome is SignatureOutcome.VERIFIED
    assert judged(checker, by_subkey, keys_of(gpg.public("split"))).outcome is SignatureOutcome.VERIFIED
    assert judged(checker, by_subkey, revoked).outcome is SignatureOutcome.REVOKED_KEY


def test_an_expired_key_verifies_nothing(gpg: GnuPG, checker: Checker) -> None:
    gpg.key("past", expires="1d", at="20240101T000000!")
    signed = gpg.clear_sign(b"text\n", "past", at="20240101T010000!")
    keyring = gpg.public("past")
    assert judged(checker, signed, keys_of(keyring)).outcome in {
        SignatureOutcome.EXPIRED_KEY,
        SignatureOutcome.UNCHECKED,  # sqv has no word of its own for it
    }


def test_a_key_that_is_over_by_the_reference_time_is_expired_also_where_the_clock_is_behind(
    gpg: GnuPG, checker: Checker
) -> None:
    gpg.key("short", expires="2y")
    signed = gpg.clear_sign(b"text\n", "short")
    assert judged(checker, signed, keys_of(gpg.public("short"))).outcome is SignatureOutcome.VERIFIED
    late = keys_of(gpg.public("short"), now=datetime(2040, 1, 1, tzinfo=UTC))
    assert judged(checker, signed, late).outcome is SignatureOutcome.EXPIRED_KEY


def test_a_weak_digest_does_not_count(gpg: GnuPG) -> None:
    gpg.key("old", algorithm="rsa2048")
    signed = gpg.clear_sign(b"text\n", "old", digest="SHA1")
    verdict = judged(find_checker(), signed, keys_of(gpg.public("old")))
    assert verdict.outcome is SignatureOutcome.WEAK_DIGEST
    assert "SHA-1" in verdict.detail


def test_a_bad_signature_beside_a_good_one_is_bad(gpg: GnuPG, checker: Checker) -> None:
    good, other = (gpg.detach(text, "ours", armored=False) for text in (b"text", b"other"))
    keys = keys_of(gpg.public("ours"))
    assert judge(checker.check(good, b"text", keyring_of(keys)), keys).outcome is SignatureOutcome.VERIFIED
    both = checker.check(good + other, b"text", keyring_of(keys))
    assert judge(both, keys).outcome is SignatureOutcome.BAD_SIGNATURE


def test_no_signature_is_unsigned() -> None:
    assert judge((), keys_of_nobody()).outcome is SignatureOutcome.UNSIGNED


def keys_of_nobody() -> KeySet:
    return KeySet(registry="apt/example", keys=(), target="t", sha256="0" * 64, reference_time=NOW)


def test_a_program_that_is_not_there_is_this_machines_fault(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be run: no such file"):
        Checker(program=tmp_path / "gpgv").check(b"", b"", b"")
    slow = tmp_path / "gpgv"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    with pytest.raises(StoreError, match=r"said nothing for 0\.2 seconds"):
        Checker(program=slow, timeout_s=0.2).check(b"", b"", b"")


def line(*words: str) -> str:
    return " ".join(("[GNUPG:]", *words)) + "\n"


def valid(key: str, primary: str | None = None, digest: str = "8") -> str:
    fields = (key, "2026-01-01", "1767225600", "0", "4", "0", "1", digest, "00", *([primary] if primary else []))
    return line("VALIDSIG", *fields)


@pytest.mark.parametrize(
    ("status", "standings"),
    [
        ("", []),
        (line("NODATA", "4"), []),
        (line("GOODSIG", "0" * 16, "x") + valid(FIRST), []),  # outside of any signature
        (line("NEWSIG") + line("GOODSIG", "0" * 16, "x") + valid(FIRST), [Standing.GOOD]),
        (line("NEWSIG") + line("GOODSIG", "0" * 16, "x"), [Standing.UNCHECKED]),  # good, and not said whose
        (line("NEWSIG") + line("GOODSIG", "0" * 16, "x") + valid(FIRST) + valid(SECOND), [Standing.UNCHECKED]),
        (
            line("NEWSIG") + line("GOODSIG", "0" * 16, "x") + line("BADSIG", "0" * 16, "x") + valid(FIRST),
            [Standing.UNCHECKED],
        ),
        (line("NEWSIG") + line("GOODSIG", "0" * 16, "x") + valid("A" * 16), [Standing.UNCHECKED]),
        (line("NEWSIG") + line("GOODSIG", "0" * 16, "x") + valid(FIRST, "x"), [Standing.UNCHECKED]),
        (line("NEWSIG") + line("EXPKEYSIG", "0" * 16, "x") + valid(FIRST), [Standing.EXPIRED_KEY]),
        (line("NEWSIG") + line("REVKEYSIG", "0" * 16, "x") + valid(FIRST), [Standing.REVOKED_KEY]),
        (line("NEWSIG") + line("EXPSIG", "0" * 16, "x") + valid(FIRST), [Standing.EXPIRED_SIGNATURE]),
        (line("NEWSIG") + line("GOODSIG", "0" * 16, "x") + valid(FIRST, digest="2"), [Standing.WEAK_DIGEST]),
        (line("NEWSIG") + line("NEWSIG") + line("BADSIG", "0" * 16, "x"), [Standing.UNCHECKED, Standing.BAD]),
        (line("NEWSIG") + line("NO_PUBKEY", "0" * 16), [Standing.UNKNOWN_KEY]),
        (line("NEWSIG") + line("ERRSIG", "0" * 16, "1", "8", "00", "1", "9", FIRST), [Standing.UNCHECKED]),
        ("NEWSIG\nGOODSIG 0 x\n", []),
        (line("NEWSIG") + f" {line('GOODSIG', '0' * 16, 'x')}" + valid(FIRST), [Standing.UNCHECKED]),
    ],
)
def test_status_lines_are_read_signature_by_signature(status: str, standings: list[Standing]) -> None:
    assert [signature.standing for signature in read_gpgv(status)] == standings


def test_a_name_that_looks_like_a_status_line_is_no_word_of_gpgv() -> None:
    status = line("NEWSIG") + line("NO_PUBKEY", "0" * 16, "x", "[GNUPG:]", "GOODSIG", FIRST)
    assert [signature.standing for signature in read_gpgv(status)] == [Standing.UNKNOWN_KEY]


@given(
    st.lists(st.sampled_from(["NEWSIG", "GOODSIG", "VALIDSIG", "BADSIG", "ERRSIG", "NO_PUBKEY", FIRST, "1", "x", "\n"]))
)
def test_only_a_good_signature_with_its_fingerprint_is_good(words: list[str]) -> None:
    status = "".join(f"[GNUPG:] {text.strip()}\n" for text in " ".join(words).split("\n"))
    for signature in read_gpgv(status):
        if signature.standing is Standing.GOOD:
            assert signature.primary is not None
            assert "GOODSIG" in status
            assert "VALIDSIG" in status


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_words_of_sqv_are_read(output: str, messages: str) -> None:
    for signature in read_sqv(output, messages):
        assert signature.standing in {Standing.GOOD, Standing.BAD, Standing.UNKNOWN_KEY, Standing.UNCHECKED}
        assert signature.standing is not Standing.GOOD or len(signature.key) in (40, 64)


def test_the_first_known_key_is_named_and_the_rest_is_noted(shared_vectors: Path) -> None:
    keys = keys_of((shared_vectors / "apt/debian-archive-bookworm-automatic.gpg").read_bytes())
    good = Signature(standing=Standing.GOOD, key=keys.keys[0].id, primary=keys.keys[0].id)
    strange = Signature(standing=Standing.UNKNOWN_KEY, key=FIRST)
    verdict = judge((strange, good), keys)
    assert (verdict.outcome, verdict.key) == (SignatureOutcome.VERIFIED, keys.keys[0].id)
    assert verdict.notes == (f"beside it: {FIRST} is not in the verified keyring",)
    # A good signature by a key that gpgv knows and the key document does not cannot be; if it is, it does not count.
    unlisted = Signature(standing=Standing.GOOD, key=SECOND, primary=SECOND)
    assert judge((unlisted,), keys).outcome is SignatureOutcome.UNKNOWN_KEY


FRAME = b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n"


def test_the_signed_text_is_what_comes_out(gpg: GnuPG) -> None:
    text = b"A: b\n- dashed\n-----BEGIN PGP MESSAGE-----\n\nend \t\n"
    parts = split(gpg.clear_sign(text, "ours"))
    assert parts.text == b"A: b\n- dashed\n-----BEGIN PGP MESSAGE-----\n\nend"
    assert is_clear_signed(FRAME)
    assert not is_clear_signed(b"Suite: bookworm\n")


def spoilt(signed: bytes) -> dict[str, tuple[bytes, str]]:
    head, _, signature = signed.partition(b"-----BEGIN PGP SIGNATURE-----")
    return {
        "leading": (b"Suite: evil\n\n" + signed, "line 1: stands before the header of a signed text"),
        "leading newline": (b"\n" + signed, "line 1: stands before the header of a signed text"),
        "trailing": (signed + b"Suite: evil\n", "stands after the end of the signature"),
        "trailing blank": (signed + b"\n", "stands after the end of the signature"),
        "two messages": (signed + signed, "stands after the end of the signature"),
        "no header": (b"Suite: evil\n", "line 1: is no header of a signed text"),
        "empty": (b"", "line 1: is no header of a signed text"),
        "a header that is none": (signed.replace(b"Hash:", b"Suite:"), "line 2: is no Hash header"),
        "no end of headers": (
            b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n",
            "ends before the signed text begins",
        ),
        "no signature": (head, "holds no signature after the signed text"),
        "open signature": (signed.replace(b"-----END PGP", b"-----ENDED PGP"), "begins a signature that does not end"),
        "bare dash": (signed.replace(b"text\n", b"-text\n"), "begins with a dash that is not escaped"),
        "text in the signature": (head + b"-----BEGIN PGP SIGNATURE-----\nSuite: evil\n" + signature, "base64"),
    }


@pytest.mark.parametrize("name", spoilt(b""))
def test_a_frame_with_anything_beside_it_is_refused(gpg: GnuPG, name: str) -> None:
    signed = gpg.clear_sign(b"text\n", "ours")
    assert split(signed).text == split(signed.rstrip(b"\n")).text == b"text"
    data, problem = spoilt(signed)[name]
    with pytest.raises(
        DocumentError, match=problem if name != "text in the signature" else "the signature that begins"
    ):
        split(data)


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_a_frame_or_a_named_fault(data: bytes, framed: bool) -> None:
    try:
        split((FRAME if framed else b"") + data)
    except DocumentError:
        return


def test_a_detached_signature_is_packets_and_nothing_else(gpg: GnuPG) -> None:
    armored, binary = (gpg.detach(b"text", "ours", armored=form) for form in (True, False))
    assert read_signature(armored) != b""
    assert read_signature(binary) == binary
    assert read_signature(b"") == read_signature(b"\n") == b""
    for other, problem in (
        (gpg.public("ours"), "tag 6"),
        (gpg.public("ours", armored=True), "begins a PGP public key block"),
        (b"<html>", "page of HTML"),
        (gpg.clear_sign(b"text\n", "ours"), "begins a PGP signed message"),
    ):
        with pytest.raises(DocumentError, match=problem):
            read_signature(other)


def test_a_file_is_verified_by_its_detached_signature(gpg: GnuPG, checker: Checker, tmp_path: Path) -> None:
    file = tmp_path / "-artifact.jar"  # a name that a program could take for an option
    file.write_bytes(b"content")
    keys = keys_of(gpg.public("ours"))
    for signature, outcome in (
        (gpg.detach(b"content", "ours"), "verified"),
        (gpg.detach(b"content", "stranger", "ours", armored=False), "verified"),
        (gpg.detach(b"other", "ours"), "bad-signature"),
        (gpg.detach(b"content", "stranger"), "unknown-key"),
        (b"", "unsigned"),
        (b"<html>", "malformed"),
        (gpg.clear_sign(b"content", "ours"), "malformed"),
    ):
        checked = verify_file(file, signature, keys, checker)
        assert checked.outcome.value == outcome
        assert (checked.detail == f"by key {gpg.key('ours')}") is (outcome == "verified")
        assert checked.is_fault is (outcome != "verified")
        assert (checked.facts.get("key") == gpg.key("ours")) is (outcome == "verified")
