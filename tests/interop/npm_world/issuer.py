"""Somebody who signs packages: a registry, or whoever plays one."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

__all__ = ["Issuer", "key_document"]


@dataclass(frozen=True, slots=True)
class Issuer:
    """One key, and when it may sign. A new one is made for each."""

    start: str = "1999-01-01T00:00:00.000Z"
    end: str | None = None
    private: EllipticCurvePrivateKey = field(default_factory=lambda: generate_private_key(SECP256R1()))

    @property
    def spki(self) -> bytes:
        return self.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def keyid(self) -> str:
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.spki).digest()).decode().rstrip("=")

    @property
    def entry(self) -> dict[str, Any]:
        """The key in a key document (a TUF target)."""
        window = {"start": self.start, **({"end": self.end} if self.end else {})}
        public = {
            "rawBytes": base64.b64encode(self.spki).decode(),
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            "validFor": window,
        }
        return {"keyId": self.keyid, "keyUsage": "npm:signatures", "publicKey": public}

    @property
    def endpoint_entry(self) -> dict[str, Any]:
        """The key as a registry's own keys endpoint shows it."""
        scheme = "ecdsa-sha2-nistp256"
        key = base64.b64encode(self.spki).decode()
        return {"expires": self.end, "keyid": self.keyid, "keytype": scheme, "scheme": scheme, "key": key}

    def sign(self, name: str, version: str, integrity: str) -> dict[str, str]:
        """One entry of ``dist.signatures``."""
        signature = self.private.sign(f"{name}@{version}:{integrity}".encode(), ECDSA(SHA256()))
        return {"keyid": self.keyid, "sig": base64.b64encode(signature).decode()}


def key_document(*issuers: Issuer) -> bytes:
    """The TUF target ``<host>/keys.json``."""
    return json.dumps({"keys": [issuer.entry for issuer in issuers]}).encode()
