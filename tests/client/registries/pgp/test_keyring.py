"""Keyrings: Debian's real one packet by packet, and everything that is none is named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Require
from kedge.documents import DocumentError
from kedge.errors import InputError
from kedge.registries.apt.registry import APT
from kedge.registries.keys import KeyFormat, KeySet, KeyStatus, TimeBasis
from kedge.registries.pgp.certificate import read_keyring, without_subkeys, write_keyring
from kedge.registries.pgp.packets import armor, dearmor, read_packets
from kedge.registries.pgp.registry import PGP, Gradle
from kedge.registries.registry import Registry, Severity, find_registry
from support.gnupg import GnuPG, gnupg, need_gnupg

NOW = datetime(2026, 8, 22, tzinfo=UTC)
BOOKWORM = "B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8"


@pytest.fixture(scope="module")
def gpg(require: Require) -> Iterator[GnuPG]:
    need_gnupg(require)
    with gnupg() as home:
        yield home


@pytest.fixture(scope="module")
def debian(shared_vectors: Path) -> bytes:
    return (shared_vectors / "apt/debian-archive-keyring.gpg").read_bytes()


def keys_of(data: bytes, custom: object = None, *, now: datetime = NOW) -> KeySet:
    table = {"kedge": {"v": 1, **custom}} if isinstance(custom, dict) else None
    return APT().parse(data, registry="apt/debian", custom=table, now=now)


def test_debians_keyring_is_read_and_written_byte_for_byte(debian: bytes) -> None:
    certificates = read_keyring(debian)
    assert len(certificates) == 9
    assert write_keyring(certificates) == debian
    bookworm = next(each for each in certificates if each.fingerprint == BOOKWORM)
    assert (bookworm.algorithm, bookworm.bits) == ("RSA", 4096)
    assert bookworm.created == datetime(2023, 1, 21, 11, 44, 21, tzinfo=UTC)
    assert bookworm.expires == datetime(2031, 1, 19, 11, 44, 21, tzinfo=UTC)
    assert bookworm.subkeys == ("4CB50190207B4758A3F73A796ED0E7B82643E131",)
    assert not bookworm.revoked


def test_the_armoured_form_is_the_same_keyring(debian: bytes, shared_vectors: Path) -> None:
    assert read_keyring(armor(debian).encode()) == read_keyring(debian)
    armored = (shared_vectors / "apt/debian-archive-bookworm-automatic.asc").read_bytes()
    binary = (shared_vectors / "apt/debian-archive-bookworm-automatic.gpg").read_bytes()
    assert read_keyring(armored)[0].fingerprint == read_keyring(binary)[0].fingerprint == BOOKWORM


def test_gpg_reads_the_fingerprints_and_times_that_we_read(gpg: GnuPG) -> None:
    names = ("plain", "subkeyed", "rsa")
    gpg.key("rsa", algorithm="rsa2048", expires="5y")
    gpg.subkey("subkeyed")
    certificates = {each.fingerprint: each for each in read_keyring(gpg.public(*names))}
    assert list(certificates) == [gpg.key(name) for name in names]
    for name in names:
        listed = gpg.listed(name)
        ours = certificates[gpg.key(name)]
        assert [ours.fingerprint, *ours.subkeys] == listed.fingerprints
        assert ours.created == listed.created
        assert ours.expires == listed.expires


def test_a_key_set_is_judged_by_the_reference_time(debian: bytes) -> None:
    keys = keys_of(debian)
    assert {key.status for key in keys.keys} == {KeyStatus.ACTIVE}
    assert keys.target == "apt/debian/archive-keyring.gpg"
    key = keys.find(BOOKWORM, "apt:release")
    assert (key.format, key.algorithm, key.time_basis) == (KeyFormat.OPENPGP, "OPENPGP_RSA_4096", TimeBasis.NOW)
    later = keys_of(debian, now=datetime(2030, 1, 1, tzinfo=UTC))
    assert sum(key.status is KeyStatus.RETIRED for key in later.keys) == 3


def test_what_the_repository_revoked_and_what_its_owner_revoked_are_revoked(debian: bytes, gpg: GnuPG) -> None:
    keys = keys_of(debian, {"revoked": [BOOKWORM]})
    assert keys.find(BOOKWORM).status is KeyStatus.REVOKED
    assert sum(key.status is KeyStatus.REVOKED for key in keys.keys) == 1
    gpg.key("leaver")
    gpg.revoke("leaver")
    assert [key.status for key in keys_of(gpg.public("leaver")).keys] == [KeyStatus.REVOKED]


@pytest.mark.parametrize("spelling", [BOOKWORM.lower(), f"0x{BOOKWORM}", BOOKWORM[-16:], "SHA256:abc"])
def test_a_revocation_in_a_spelling_that_would_match_nothing_is_refused(debian: bytes, spelling: str) -> None:
    with pytest.raises(DocumentError, match=re.escape("custom.kedge.revoked[0]: must be a fingerprint")):
        keys_of(debian, {"revoked": [spelling]})


def test_a_time_basis_that_openpgp_does_not_have_is_refused(debian: bytes) -> None:
    assert keys_of(debian, {"time_basis": "now"}).keys
    with pytest.raises(DocumentError, match="time_basis: must be now"):
        keys_of(debian, {"time_basis": "publish-time"})


def test_a_private_key_is_refused_in_words_that_nobody_overlooks(gpg: GnuPG) -> None:
    with pytest.raises(DocumentError, match="holds a PRIVATE key"):
        read_keyring(gpg.secret("plain"))


def test_a_keybox_is_named(gpg: GnuPG) -> None:
    gpg.key("plain")
    keybox = (gpg.home / "pubring.kbx").read_bytes()
    with pytest.raises(DocumentError, match="is a GnuPG keybox"):
        read_keyring(keybox)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty"),
        (b"<html>sign in</html>", "page of HTML"),
        (b"\xff\xfe\x00", "partial length"),
        (b"\xff\xff\x00", "ends inside the header"),
        (b"\x99\x00", "ends inside the header of a packet, at byte 0"),
        (b"\x99\x00\x05\x04\x00", "ends inside a packet, which begins at byte 0"),
        (b"\x9b\x04", "indeterminate length"),
        (b"\xc6\xe1\x04", "partial length"),
        (b"\xc0\x00", "reserved tag 0"),
        (b"\x98\x01\x03", "version 3, expected 4 or 6"),
        (b"\x98\x01\x04", "public key without its numbers"),
        (b"\x88\x01\x04", "begins with a packet of tag 2"),
        (b"\xcc\x00", "holds no public key"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n", "does not end"),
        (b"-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP SIGNATURE-----\n", "expected a public key block"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n", "empty line"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n=AAAA\n-----END PGP PUBLIC KEY BLOCK-----\n", "nothing in it"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\nno\n\nAA\n-----END PGP PUBLIC KEY BLOCK-----\n", "is no header"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAA*\n-----END PGP PUBLIC KEY BLOCK-----\n", "no base64"),
    ],
)
def test_what_is_no_keyring_is_named(data: bytes, problem: str) -> None:
    with pytest.raises(DocumentError, match=problem):
        read_keyring(data)


def test_a_damaged_armour_a_tail_and_a_double_are_named(debian: bytes) -> None:
    text = armor(debian)
    checksum = text.rsplit("\n=", 1)[1][:4]
    spoilt = text.replace(f"\n={checksum}\n", "\n=AAAA\n")
    with pytest.raises(DocumentError, match="checksum does not fit"):
        read_keyring(spoilt.encode())
    with pytest.raises(DocumentError, match="no OpenPGP packet"):
        read_keyring(debian + b"\n")
    with pytest.raises(DocumentError, match="stands outside any armoured block"):
        read_keyring(text.encode() + b"trust me\n")
    with pytest.raises(DocumentError, match="stands twice in the keyring") as caught:
        read_keyring(debian + debian)
    assert caught.value.path == read_keyring(debian)[0].fingerprint


@given(st.binary(max_size=200))
def test_any_bytes_are_packets_or_a_named_fault(data: bytes) -> None:
    try:
        packets = read_packets(data)
    except DocumentError:
        return
    assert b"".join(packet.raw for packet in packets) == data


@given(st.binary(min_size=1, max_size=300))
def test_armour_carries_any_bytes(data: bytes) -> None:
    assert dearmor(armor(data).encode()) == data


@given(st.text(alphabet="-=ABEGINPUBLICKEYDO \n:/", max_size=200))
def test_any_text_is_armour_or_a_named_fault(text: str) -> None:
    try:
        dearmor(text.encode())
    except DocumentError:
        return


@given(data=st.data())
def test_a_spoilt_keyring_is_read_or_a_named_fault(debian: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, 2000))
    spoilt = debian[:position] + bytes([data.draw(st.integers(0, 255))]) + debian[position + 1 :]
    try:
        read_keyring(spoilt)
    except DocumentError:
        return


@pytest.mark.parametrize(("lifetime", "expected"), [(b"\x00\x01\x51\x80", 1), (b"\x00" * 4, None), (b"\xff" * 9, None)])
def test_a_self_signature_says_how_long_a_key_lasts_in_four_bytes_or_not_at_all(
    lifetime: bytes, expected: int | None
) -> None:
    created = (1_600_000_000).to_bytes(4)
    key = b"\x04" + created + b"\x16\x00\x01\x00"
    hashed = b"\x05\x02" + created + bytes([len(lifetime) + 1]) + b"\x09" + lifetime
    statement = b"\x04\x13\x16\x08" + len(hashed).to_bytes(2) + hashed + b"\x00\x00\x00\x00"
    (certificate,) = read_keyring(
        b"".join(bytes([0x80 | tag << 2, len(body)]) + body for tag, body in ((6, key), (13, b"x"), (2, statement)))
    )
    days = (certificate.expires - certificate.created).days if certificate.expires is not None else None
    assert days == expected


def test_a_subkey_is_taken_out_with_what_is_bound_to_it(gpg: GnuPG) -> None:
    one, two = gpg.subkey("several"), gpg.subkey("several")
    (certificate,) = read_keyring(gpg.public("several"))
    assert certificate.subkeys == (one, two)
    (rest,) = read_keyring(without_subkeys(certificate.material, [one]))
    assert (rest.fingerprint, rest.subkeys) == (certificate.fingerprint, (two,))
    assert without_subkeys(certificate.material, []) == certificate.material


@pytest.mark.parametrize(
    ("module", "registry", "target"),
    [
        (APT(), "apt/debian", "apt/debian/archive-keyring.gpg"),
        (Gradle(), "gradle/example", "gradle/example/verification-keyring.keys"),
        (PGP(), "pgp/example", "pgp/example/keyring.gpg"),
    ],
)
def test_each_kind_has_its_target_and_is_found_by_its_id(module: Registry, registry: str, target: str) -> None:
    assert module.target_path(registry) == target
    assert type(find_registry(registry)) is type(module)
    for wrong in (
        f"{module.name}/",
        module.name,
        f"{module.name}/a/b",
        f"{module.name}/../x",
        f"{module.name}/A",
        "npm/x",
    ):
        with pytest.raises(InputError, match="is not a registry's id"):
            module.target_path(wrong)


def rules(old: KeySet | None, new: KeySet) -> dict[str, Severity]:
    return {finding.rule: finding.severity for finding in APT().lint(old, new)}


def test_lint_finds_nothing_in_debians_keyring(debian: bytes) -> None:
    assert rules(None, keys_of(debian)) == {}
    assert rules(keys_of(debian), keys_of(debian)) == {}


def test_lint_names_what_breaks_installed_machines(debian: bytes, gpg: GnuPG) -> None:
    old = keys_of(debian)
    rest = [each for each in read_keyring(debian) if each.fingerprint != BOOKWORM]
    assert rules(old, keys_of(write_keyring(rest))) == {"apt/key-dropped": Severity.ERROR}
    assert rules(old, keys_of(write_keyring(rest), {"revoked": [BOOKWORM]})) == {}
    assert rules(None, keys_of(debian, now=datetime(2040, 1, 1, tzinfo=UTC))) == {"apt/no-active-key": Severity.ERROR}
    assert rules(None, keys_of(debian, now=datetime(2035, 3, 1, tzinfo=UTC))) == {"apt/ends-soon": Severity.WARNING}
    assert rules(None, keys_of(armor(debian).encode())) == {"apt/armoured-gpg": Severity.ERROR}
    gpg.key("short", algorithm="rsa1024")
    assert rules(None, keys_of(gpg.public("short"))) == {"apt/weak-key": Severity.ERROR}
    gradle = Gradle().parse(debian, registry="gradle/example", custom=None, now=NOW)
    assert [finding.rule for finding in Gradle().lint(None, gradle)] == ["gradle/binary-keys"]
