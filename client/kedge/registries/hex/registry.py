"""The key document of a Hex repository: ``hex/<repository>/keys.json``, format ``kedge.hex-keys/1``.

A Hex client has one slot for a repository's key, and what is signed names no key. So the document says from when each
key is the one that signs (``active_from``): exports choose by that, and verifying accepts whichever key's time it is.
A key that is replaced keeps its entry, with ``active_until`` a while after the next one's beginning, for what caches
still hold. Nothing signed carries a time, so validity is measured by now. A keyid is the fingerprint that Hex's own
tools show (``SHA256:…``, of the key as OpenSSH writes it); it is compared, and checked by lint only.

What would go wrong with a new key document of a Hex repository, said before anybody signs it.

A Hex client holds one key. So there is one moment at which the repository signs with the next key and clients must take
it up; what lint asks for is that this moment is announced, and that the old key's word holds for a while after it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from kedge.documents import DocumentError, Fields, format_time, load_json
from kedge.errors import InputError
from kedge.registries import (
    KEYID,
    Finding,
    KeyFormat,
    KeySet,
    KeyStatus,
    NoKeysError,
    RegistryKey,
    Severity,
    TimeBasis,
    dropped,
    load_public_key,
    read_custom,
    ssh_fingerprint,
)

NOTICE = timedelta(days=14)
OVERLAP = timedelta(days=2)


def signing_key(keys: KeySet) -> RegistryKey | None:
    """The key that signs now: of those whose time has begun, and is not over, the one that began last."""
    begun = [
        key
        for key in keys.keys
        if key.status is KeyStatus.ACTIVE and key.valid_from is not None and key.valid_from <= keys.reference_time
    ]
    return max(begun, key=_begin, default=None)


def fingerprint(key: RegistryKey) -> str:
    """The fingerprint that Hex's tools show: SHA-256 over the key as OpenSSH writes it."""
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    return ssh_fingerprint(load_der_public_key(key.material))


def lint(old: KeySet | None, new: KeySet) -> tuple[Finding, ...]:
    """Say what would go wrong with ``new`` in place of ``old``."""
    return (*_nothing_active(new), *_dropped(old, new), *_order(old, new), *_fingerprints(new))


def _nothing_active(new: KeySet) -> list[Finding]:
    if signing_key(new) is not None:
        return []
    text = "no key's time is now: everything that the repository serves would be refused"
    return [_finding("hex/no-active-key", Severity.ERROR, new, text, "add the key that signs today")]


def _dropped(old: KeySet | None, new: KeySet) -> list[Finding]:
    return [
        _finding(
            "hex/key-dropped",
            Severity.ERROR if key.status is KeyStatus.ACTIVE else Severity.NOTE,
            new,
            f"{key.id} is no longer there: what caches hold under it would be refused",
            "end its time and keep its entry, or revoke it if it was stolen",
        )
        for key, _ in dropped(old, new)
    ]


def _order(old: KeySet | None, new: KeySet) -> list[Finding]:
    found: list[Finding] = []
    alive = sorted((key for key in new.keys if key.status is not KeyStatus.REVOKED), key=_begin)
    for earlier, later in pairwise(alive):
        began = format_time(_begin(later))
        if _begin(earlier) == _begin(later):
            text = f"{earlier.id} and {later.id} begin at the same time, and a client has one slot"
            found.append(_finding("hex/two-begin", Severity.ERROR, new, text))
        elif earlier.valid_until is not None and earlier.valid_until < _begin(later):
            text = f"{earlier.id} ends at {format_time(earlier.valid_until)}, before {later.id} begins at {began}"
            hint = "nothing in between would verify"
            found.append(_finding("hex/gap", Severity.ERROR, new, text, hint))
        elif earlier.valid_until is not None and earlier.valid_until < _begin(later) + OVERLAP:
            text = f"{earlier.id} ends within {OVERLAP.days} days of the beginning of {later.id} at {began}"
            hint = "caches serve for a while what the old key signed"
            found.append(_finding("hex/short-overlap", Severity.WARNING, new, text, hint))
    return [*found, *_sudden(old, new, alive)]


def _sudden(old: KeySet | None, new: KeySet, alive: Sequence[RegistryKey]) -> list[Finding]:
    known = {key.id for key in old.keys} if old is not None else {key.id for key in alive}
    sudden = [key for key in alive if key.id not in known and _begin(key) < new.reference_time + NOTICE]
    return [
        _finding(
            "hex/sudden",
            Severity.WARNING,
            new,
            f"{key.id} begins at {format_time(_begin(key))}, in less than {NOTICE.days} days",
            "clients that refresh more seldom are broken until they do; unless the old key was stolen, begin later",
        )
        for key in sudden
    ]


def _fingerprints(new: KeySet) -> list[Finding]:
    return [
        _finding(
            "hex/other-id",
            Severity.WARNING,
            new,
            f"{key.id} is not the fingerprint that Hex's tools show for this key, which is {fingerprint(key)}",
        )
        for key in new.keys
        if key.id != fingerprint(key)
    ]


def _begin(key: RegistryKey) -> datetime:
    if key.valid_from is None:
        raise ValueError("each key of a Hex key document says when it begins")
    return key.valid_from


def _finding(rule: str, severity: Severity, new: KeySet, message: str, hint: str | None = None) -> Finding:
    return Finding(rule=rule, severity=severity, place=f"{new.target}: keys", message=message, hint=hint)


FORMAT = "kedge.hex-keys/1"
USAGE = "hex:registry"
ALGORITHM = "PKIX_RSA_PKCS1V15_SHA512"
_NAME = "[a-z0-9][a-z0-9_-]{0,99}"
_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----\n((?:[A-Za-z0-9+/=]{1,76}\n)+)-----END PUBLIC KEY-----\n?")


class Hex:
    """The registry module of Hex repositories."""

    name = "hex"

    def target_path(self, registry: str) -> str:
        """Give the target path of a repository's key document: ``hex/<repository>/keys.json``.

        Raises:
            InputError: the id is not ``hex/<repository>``.
        """
        if re.fullmatch(f"hex/{_NAME}", registry) is None:
            shown = registry if registry.isprintable() else ascii(registry)
            hint = "an organisation of hexpm has hexpm's key" if re.fullmatch(f"hex/{_NAME}:.*", registry) else None
            raise InputError(f"{shown[:200]} is not a registry's id: expected hex/NAME, such as hex/hexpm", hint=hint)
        return f"{registry}/keys.json"

    def parse(self, data: bytes, *, registry: str, custom: Mapping[str, Any] | None, now: datetime) -> KeySet:
        """Read the key document of ``registry``; a key whose time ended at ``now`` or before is retired.

        Raises:
            DocumentError: the document or ``custom`` is not what it should be; the path leads to the fault.
            NoKeysError: the document names no key.
            InputError: ``registry`` is not an id of a Hex repository.
            StoreError: this machine's cryptography cannot read RSA keys.
        """
        target = self.target_path(registry)
        revoked, basis = read_custom(custom)
        if basis not in (None, TimeBasis.NOW):
            raise DocumentError("custom.kedge.time_basis", "must be now: nothing that Hex signs carries a time")
        fields = Fields(load_json(data))
        fields.format(FORMAT)
        if fields.text("repository") != registry.removeprefix("hex/"):
            fields.fail("repository", f"must be {registry.removeprefix('hex/')}, as the target's path says")
        entries = fields.tables("keys")
        fields.end()
        if not entries:
            raise NoKeysError("keys", "is empty: the document names no key")
        keys: dict[str, RegistryKey] = {}
        for entry in entries:
            key = _read_key(entry, registry, revoked, now)
            if key.id in keys:
                entry.fail("id", f"{key.id} stands there twice")
            keys[key.id] = key
        return KeySet.of_document(data, registry=registry, target=target, keys=keys.values(), now=now, revoked=revoked)

    def lint(self, old: KeySet | None, new: KeySet) -> tuple[Finding, ...]:
        """Say what would go wrong with ``new`` in place of ``old``."""
        return lint(old, new)


def _read_key(fields: Fields, registry: str, revoked: tuple[str, ...], now: datetime) -> RegistryKey:
    keyid = fields.text("id", pattern=KEYID, expected="up to 200 visible ASCII characters")
    material = _read_pem(fields)
    active_from = fields.time("active_from")
    active_until = fields.optional("active_until", fields.time)
    if active_until is not None and active_until <= active_from:
        fields.fail("active_until", "must be later than active_from")
    fields.end()
    return RegistryKey(
        id=keyid,
        registry=registry,
        usages=(USAGE,),
        material=material,
        format=KeyFormat.SPKI_DER,
        algorithm=ALGORITHM,
        valid_from=active_from,
        valid_until=active_until,
        time_basis=TimeBasis.NOW,
        status=KeyStatus.at(now, until=active_until, is_revoked=keyid in revoked),
    )


def _read_pem(fields: Fields) -> bytes:
    match = _PEM.fullmatch(fields.text("pem"))
    if match is None:
        fields.fail("pem", "must be one PUBLIC KEY in PEM, which is all that mix takes")
    try:
        material = base64.b64decode(match[1].replace("\n", ""), validate=True)
        load_public_key(material, ALGORITHM)
    except binascii.Error:
        fields.fail("pem", "must be base64 between its lines")
    except ValueError as error:
        fields.fail("pem", str(error))
    return material
