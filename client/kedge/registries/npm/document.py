"""The key document of an npm registry: ``<host><path>/keys.json``.

The document is Sigstore's, byte for byte, so that a target that npm publishes there can be carried over. What it
cannot say (``revoked``, ``time_basis``) stands in the TUF target's ``custom`` under ``kedge``. Both arrive verified by
TUF; they are read strictly all the same, for a signing mistake must not become a silent "no such key".

- Fields that nobody here knows are left alone: the document is somebody else's. ``custom.kedge`` is ours, and is not.
- keyids are opaque. npm's are OpenSSH fingerprints, which stands in no specification; they are compared, not computed.
- One keyid is one key. The same keyid for the same usage twice, or with other bytes, is refused unless it is the same
  entry again.
- A key of an algorithm that this kedge does not know is kept, and says so when it is asked to verify: a key that npm
  adds for newer tools must not take the older ones away.

Sources: Sigstore protobuf-specs ``PublicKey``, ``PublicKeyDetails``, ``TimeRange`` in ProtoJSON.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kedge.document import Fields, load_json
from kedge.errors import InputError
from kedge.findings import Finding
from kedge.keys import ALGORITHMS, KeyFormat, KeySet, KeyStatus, RegistryKey, TimeBasis, load_public_key
from kedge.registry import KEYID, NoKeysError, read_custom

__all__ = ["NPM"]

_REGISTRY = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9_~@-][A-Za-z0-9._~@-]*)*"


class NPM:
    """The registry module of npm and of every registry that speaks its protocol."""

    name = "npm"

    def target_path(self, registry: str) -> str:
        """Give the target path of a registry's key document: ``<host><path>/keys.json``.

        Raises:
            InputError: the id is not a host with an optional path.
        """
        if re.fullmatch(_REGISTRY, registry) is None:
            shown = registry if registry.isprintable() else ascii(registry)
            hint = None
            if match := re.fullmatch(rf"https?://({_REGISTRY})/?", registry):
                hint = f"give its id, which is {match[1]}"
            raise InputError(f"{shown[:200]} is not a registry's id: expected a host and perhaps a path", hint=hint)
        return f"{registry}/keys.json"

    def parse(self, data: bytes, *, registry: str, custom: Mapping[str, Any] | None, now: datetime) -> KeySet:
        """Read the key document of ``registry``; a key whose validity ended at ``now`` or before is retired.

        Raises:
            DocumentError: the document or ``custom`` is not what it should be; the path leads to the fault.
            NoKeysError: the document names no key.
            InputError: ``registry`` is not an id of an npm registry.
            StoreError: this machine's cryptography cannot read keys of a kind that kedge knows.
        """
        target = self.target_path(registry)
        revoked, time_basis = read_custom(custom)
        entries = Fields(load_json(data)).tables("keys")
        if not entries:
            raise NoKeysError("keys", "is empty: the document names no key")
        first: dict[str, RegistryKey] = {}
        keys: dict[tuple[str, str], RegistryKey] = {}
        for fields in entries:
            key = _read_key(fields, registry=registry, revoked=revoked, basis=time_basis, now=now)
            same = keys.setdefault((key.id, key.usages[0]), key)
            _require_one_meaning(fields, key, first.setdefault(key.id, key), same)
        return KeySet.of_document(data, registry=registry, target=target, keys=keys.values(), now=now, revoked=revoked)

    def lint(self, old: KeySet | None, new: KeySet) -> tuple[Finding, ...]:
        """Say what would go wrong with ``new`` in place of ``old`` (None: there was no document)."""
        from kedge.registries.npm.lint import lint  # for maintainers; whoever reads keys needs none of it

        return lint(old, new)

    def parse_live(self, data: bytes, *, registry: str, now: datetime) -> KeySet:
        """Read what the registry's own keys endpoint answers, or a key document in its place.

        Raises:
            DocumentError: it is neither.
        """
        from kedge.registries.npm.endpoint import parse_endpoint

        if any("keyId" in fields for fields in Fields(load_json(data)).tables("keys")):
            return self.parse(data, registry=registry, custom=None, now=now)
        return parse_endpoint(data, registry=registry, target=self.target_path(registry), now=now)


def _read_key(
    fields: Fields, *, registry: str, revoked: tuple[str, ...], basis: TimeBasis | None, now: datetime
) -> RegistryKey:
    keyid = fields.text("keyId", pattern=KEYID, expected="up to 200 visible ASCII characters")
    usage = fields.text("keyUsage", pattern=KEYID, expected="up to 200 visible ASCII characters")
    public = fields.table("publicKey")
    algorithm = public.text("keyDetails", pattern="[A-Z][A-Z0-9_]{0,99}", expected="a name such as PKIX_ED25519")
    material = _read_material(public, algorithm)
    valid_from, valid_until = _read_window(public.optional("validFor", public.table))
    return RegistryKey(
        id=keyid,
        registry=registry,
        usages=(usage,),
        material=material,
        format=KeyFormat.SPKI_DER if algorithm in ALGORITHMS else KeyFormat.RAW,
        algorithm=algorithm,
        valid_from=valid_from,
        valid_until=valid_until,
        time_basis=basis or TimeBasis.PUBLISH_TIME,
        status=KeyStatus.at(now, until=valid_until, is_revoked=keyid in revoked),
    )


def _read_material(public: Fields, algorithm: str) -> bytes:
    text = public.text("rawBytes")
    try:
        material = base64.b64decode(text, validate=True)
    except ValueError:
        public.fail("rawBytes", "must be base64")
    if algorithm in ALGORITHMS:
        try:
            load_public_key(material, algorithm)
        except ValueError as error:
            public.fail("rawBytes", str(error))
    return material


def _read_window(fields: Fields | None) -> tuple[datetime | None, datetime | None]:
    if fields is None:
        return None, None
    start, end = fields.optional("start", fields.time), fields.optional("end", fields.time)
    if start is not None and end is not None and end <= start:
        fields.fail("end", "must be later than start")
    return start, end


def _require_one_meaning(fields: Fields, key: RegistryKey, first: RegistryKey, same: RegistryKey) -> None:
    """Check ``key`` against the first entry of its keyid and the entry of the same keyid and usage."""
    if (first.material, first.algorithm) != (key.material, key.algorithm):
        fields.fail("keyId", f"{key.id} stands for another key further up")
    if same != key:
        fields.fail("keyId", f"{key.id} stands twice for {key.usages[0]}, with other validity")
