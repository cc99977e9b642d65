"""The key document of a Hex repository: ``hex/<repository>/keys.json``, format ``kedge.hex-keys/1``.

A Hex client has one slot for a repository's key, and what is signed names no key. So the document says from when each
key is the one that signs (``active_from``): exports choose by that, and verifying accepts whichever key's time it is.
A key that is replaced keeps its entry, with ``active_until`` a while after the next one's beginning, for what caches
still hold. Nothing signed carries a time, so validity is measured by now. A keyid is the fingerprint that Hex's own
tools show (``SHA256:…``, of the key as OpenSSH writes it); it is compared, and checked by lint only.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kedge.document import DocumentError, Fields, load_json
from kedge.errors import InputError
from kedge.findings import Finding
from kedge.keys import KeyFormat, KeySet, KeyStatus, RegistryKey, TimeBasis, load_public_key
from kedge.registries.hex.lint import lint
from kedge.registry import KEYID, NoKeysError, read_custom

__all__ = ["ALGORITHM", "FORMAT", "USAGE", "Hex"]

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
