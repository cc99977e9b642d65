"""What an npm registry signs: ``name@version:integrity``, and how one entry of ``dist.signatures`` is checked.

The message is made of texts that were checked to be a name, a version and one digest, so that no other package could
be meant by the same bytes.

Source: npm's registry signatures (ECDSA P-256 over SHA-256); a Sigstore key document names the key.
"""

from __future__ import annotations

import base64
from datetime import datetime

from kedge.document import DocumentError, Fields
from kedge.errors import Reason, Refusal, VerificationError
from kedge.keys import Evidence, KeySet

__all__ = ["SIGNATURES", "signed_message", "verify_signature"]

SIGNATURES = "npm:signatures"
"""The usage of the keys that sign packages."""

_NAME = r"(@[^\x00-\x20\x7f-\x9f@:/]+/)?[^\x00-\x20\x7f-\x9f@:/]+"
_VERSION = r"[0-9A-Za-z.+-]+"
_INTEGRITY = r"sha[0-9]+-[A-Za-z0-9+/]+={0,2}"


def signed_message(name: str, version: str, integrity: str) -> bytes:
    """Give the bytes that npm signs for one package version: ``name@version:integrity``, in UTF-8.

    ``name`` carries its scope (``@scope/name``), ``integrity`` is one whole SRI value (``sha512-…``).

    Raises:
        DocumentError: one of the three is not such a text. Its path is ``name``, ``version`` or ``integrity``. What is
            refused here could otherwise be read as another name, version or digest in the same bytes.
    """
    fields = Fields({"name": name, "version": version, "integrity": integrity})
    fields.text("name", pattern=_NAME, expected="a package name such as lodash or @scope/name")
    fields.text("version", pattern=_VERSION, expected="a version such as 1.0.0")
    fields.text("integrity", pattern=_INTEGRITY, expected="one SRI digest such as sha512-…")
    try:
        return f"{name}@{version}:{integrity}".encode()
    except UnicodeEncodeError as error:
        raise DocumentError("name", "holds a lone surrogate, which is not a character") from error


def verify_signature(
    keys: KeySet,
    name: str,
    version: str,
    integrity: str,
    *,
    keyid: str,
    signature: str,
    published: datetime | None = None,
) -> Evidence:
    """Check one entry of ``dist.signatures`` (``keyid`` and ``sig``, which is base64), and give the evidence.

    ``published`` is the moment of publishing, an aware time, if somebody whom the caller trusts states it; None if not.

    Raises:
        DocumentError: name, version or integrity is not such a text.
        VerificationError: ``unknown-key``, ``revoked-key``, ``outside-validity`` or ``bad-signature``.
        StoreError: this kedge, or this machine's cryptography, cannot check signatures of this kind.
    """
    message = signed_message(name, version, integrity)
    try:
        raw = base64.b64decode(signature, validate=True)
    except ValueError as error:
        refusal = Refusal(reason=Reason.BAD_SIGNATURE, file=keys.target, expected="base64")
        text = f"{keys.registry}: the signature of {name}@{version} is not base64"
        raise VerificationError(text, refusal=refusal) from error
    return keys.verify(message, keyid=keyid, signature=raw, usage=SIGNATURES, at=published)
