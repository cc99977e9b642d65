"""What a registry's own keys endpoint answers (``GET /-/npm/v1/keys``), read as keys to compare a key document with.

Nobody signs this answer and it says less than a key document: no usage, and no beginning of a key's validity.

Source: npm's ``GET /-/npm/v1/keys``.
"""

from __future__ import annotations

import base64
from datetime import datetime

from kedge.document import Fields, load_json
from kedge.keys import KeyFormat, KeySet, KeyStatus, RegistryKey, TimeBasis
from kedge.registries.npm.signature import SIGNATURES
from kedge.registry import KEYID, NoKeysError

__all__ = ["parse_endpoint"]

_ALGORITHMS = {"ecdsa-sha2-nistp256": "PKIX_ECDSA_P256_SHA_256", "ed25519": "PKIX_ED25519"}


def parse_endpoint(data: bytes, *, registry: str, target: str, now: datetime) -> KeySet:
    """Read the answer of the keys endpoint of ``registry``.

    Raises:
        DocumentError: it is not one; the path leads to the fault.
        NoKeysError: it names no key.
    """
    value = load_json(data)
    entries = Fields(value).tables("keys")
    if not entries:
        raise NoKeysError("keys", "is empty: the endpoint names no key")
    return KeySet.of_document(
        data,
        registry=registry,
        target=target,
        keys=(
            _key(fields, registry, now, endless=entry.get("expires") is None)
            for fields, entry in zip(entries, value["keys"], strict=True)
        ),
        now=now,
    )


def _key(fields: Fields, registry: str, now: datetime, *, endless: bool) -> RegistryKey:
    scheme = fields.text("scheme")
    text = fields.text("key")
    try:
        material = base64.b64decode(text, validate=True)
    except ValueError:
        fields.fail("key", "must be base64")
    until = None if endless else fields.time("expires")
    return RegistryKey(
        id=fields.text("keyid", pattern=KEYID, expected="up to 200 visible ASCII characters"),
        registry=registry,
        usages=(SIGNATURES,),
        material=material,
        format=KeyFormat.SPKI_DER,
        algorithm=_ALGORITHMS.get(scheme, scheme),
        valid_from=None,
        valid_until=until,
        time_basis=TimeBasis.PUBLISH_TIME,
        status=KeyStatus.at(now, until=until, is_revoked=False),
    )
