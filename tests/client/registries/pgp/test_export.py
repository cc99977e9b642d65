"""What leaves as a keyring holds nothing that was revoked, neither a certificate nor one subkey of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from conftest import Require
from kedge.errors import InputError, VerificationError
from kedge.registries.apt.registry import APT
from kedge.registries.export import Exported, Source
from kedge.registries.pgp.certificate import read_keyring
from kedge.registries.pgp.export import keyring, trusted_keys
from kedge.registries.pgp.registry import Gradle
from kedge.tuf.trust import Target
from support.gnupg import GnuPG, gnupg, need_gnupg

NOW = datetime(2026, 8, 22, tzinfo=UTC)


@pytest.fixture(scope="module")
def gpg(require: Require) -> Iterator[GnuPG]:
    need_gnupg(require)
    with gnupg() as home:
        yield home


def fetch(path: str) -> Target:
    raise AssertionError(f"no keyring needs {path}")


def exported(data: bytes, *revoked: str, with_retired: bool = True, now: datetime = NOW) -> Exported:
    custom = {"kedge": {"v": 1, "revoked": list(revoked)}}
    keys = APT().parse(data, registry="apt/example", custom=custom, now=now)
    return keyring.export([Source(keys=keys, fetch=fetch)], with_retired=with_retired)


def test_a_revoked_certificate_and_a_revoked_subkey_are_left_out(gpg: GnuPG) -> None:
    kept, gone = gpg.subkey("ours"), gpg.subkey("ours")
    data = gpg.public("ours", "stolen")
    whole = exported(data)
    assert whole.content == data
    assert whole.notes == ()
    rest = exported(data, gpg.key("stolen"), gone)
    (certificate,) = read_keyring(rest.content)
    assert (certificate.fingerprint, certificate.subkeys) == (gpg.key("ours"), (kept,))
    assert [key.id for key in rest.left_out] == [gpg.key("stolen")]
    assert [note.rpartition(": ")[2] for note in rest.notes] == [
        "it was revoked",
        "a subkey that was revoked is left out",
    ]


def test_a_key_whose_time_is_over_stays_unless_it_is_asked_away(gpg: GnuPG) -> None:
    gpg.key("short", expires="1y")
    later = datetime(2040, 1, 1, tzinfo=UTC)
    assert "its time is over" in exported(gpg.public("short"), now=later).notes[0]
    with pytest.raises(VerificationError, match="no key is left to export"):
        exported(gpg.public("short"), with_retired=False, now=later)


def test_two_registries_that_name_other_certificates_of_one_key_are_not_merged(gpg: GnuPG) -> None:
    before = gpg.public("merged")
    gpg.subkey("merged")
    sources = [
        Source(keys=APT().parse(data, registry=f"apt/{name}", custom=None, now=NOW), fetch=fetch)
        for name, data in (("one", before), ("two", gpg.public("merged")))
    ]
    with pytest.raises(InputError, match="apt/one and apt/two name different certificates"):
        keyring.export(sources, with_retired=True)


SIGN, ENCRYPT, AUTHENTICATE = ("ed25519", "sign"), ("cv25519", "encr"), ("ed25519", "auth")
SUBKEYS = ((), (SIGN,), (ENCRYPT,), (ENCRYPT, SIGN), (SIGN, SIGN, AUTHENTICATE))


def trusted(data: bytes, *revoked: str) -> Exported:
    custom = {"kedge": {"v": 1, "revoked": list(revoked)}}
    keys = Gradle().parse(data, registry="gradle/example", custom=custom, now=NOW)
    return trusted_keys.export([Source(keys=keys, fetch=fetch)], with_retired=True)


def named(exported: Exported) -> list[str]:
    return re.findall(r'<trusted-key id="([0-9A-F]{40})"/>', exported.content.decode())


@pytest.mark.parametrize("usage", ["cert", "sign"])
@pytest.mark.parametrize("subkeys", SUBKEYS, ids=lambda kinds: "-".join(kind for _, kind in kinds) or "none")
def test_gradle_is_told_of_the_very_keys_that_gpg_signs_with(
    gpg: GnuPG, usage: str, subkeys: tuple[tuple[str, str], ...]
) -> None:
    name = f"{usage}-" + "-".join(kind for _, kind in subkeys)
    primary = gpg.key(name, usage=usage)
    for algorithm, kind in subkeys:
        gpg.subkey(name, algorithm=algorithm, usage=kind)
    signers = gpg.listed(name).signers
    assert (primary in signers, len(signers)) == (usage == "sign", (usage == "sign") + subkeys.count(SIGN))
    if signers:
        assert named(trusted(gpg.public(name))) == signers
    else:
        with pytest.raises(InputError, match=rf"gradle/example: no key of {primary} may sign"):
            trusted(gpg.public(name))


def test_a_signing_subkey_that_was_revoked_is_not_named_to_gradle(gpg: GnuPG) -> None:
    primary = gpg.key("rotated", usage="cert")
    old, new = gpg.subkey("rotated"), gpg.subkey("rotated")
    assert named(trusted(gpg.public("rotated"), old)) == [new]
    with pytest.raises(InputError, match=f"no key of {primary} may sign"):
        trusted(gpg.public("rotated"), old, new)
    gpg.revoke_subkey("rotated", 1)
    assert named(trusted(gpg.public("rotated"))) == [new]


def test_of_several_certificates_the_one_that_signs_nothing_is_left_out_and_said(gpg: GnuPG) -> None:
    silent = gpg.key("silent", usage="cert")
    result = trusted(gpg.public("ours", "silent"))
    assert named(result) == gpg.listed("ours").signers
    assert f"{silent} is left out: none of its keys may sign" in result.notes


def test_of_the_published_case_the_subkey_that_signs_is_named_and_not_the_primary(shared_cases: Path) -> None:
    data = (shared_cases / "ecosystems" / "gradle-cert-only-primary.keys").read_bytes()
    assert named(trusted(data)) == ["D642BD9E07A4BD0C4E6506D9DE7F9DDF7F19DD34"]
