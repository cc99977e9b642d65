"""What leaves as a keyring holds nothing that was revoked, neither a certificate nor one subkey of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from conftest import Require
from kedge.errors import InputError, VerificationError
from kedge.registries.apt.registry import APT
from kedge.registries.export import Exported, Source
from kedge.registries.pgp.certificate import read_keyring
from kedge.registries.pgp.export import keyring
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
