"""npm packages for tests: keys made at run time, a registry's files, and lockfiles that name what is in them.

::

    npm = PackageRegistry()
    npm.publish("lodash", "4.17.21", keys=[new])
    with HostileServer(npm) as server: ...
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

__all__ = ["PackageRegistry", "SigningKey", "integrity_of", "key_document", "lockfile", "shasum_of"]


class SigningKey:
    """A registry's P-256 key."""

    def __init__(self, keyid: str, *, start: str | None = None, end: str | None = None) -> None:
        self.keyid = keyid
        self.start = start
        self.end = end
        self._private: EllipticCurvePrivateKey = generate_private_key(SECP256R1())

    @property
    def private(self) -> EllipticCurvePrivateKey:
        """The private key."""
        return self._private

    @property
    def material(self) -> str:
        """The public key, base64 of its SPKI."""
        spki = self._private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(spki).decode()

    def entry(self, usage: str = "npm:signatures") -> dict[str, Any]:
        """The key as a key document lists it."""
        window = {name: value for name, value in (("start", self.start), ("end", self.end)) if value is not None}
        public = {"rawBytes": self.material, "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": window}
        return {"keyId": self.keyid, "keyUsage": usage, "publicKey": public}

    def sign(self, name: str, version: str, integrity: str) -> dict[str, str]:
        """An entry of ``dist.signatures``."""
        signature = self._private.sign(f"{name}@{version}:{integrity}".encode(), ECDSA(SHA256()))
        return {"keyid": self.keyid, "sig": base64.b64encode(signature).decode()}


def key_document(*keys: SigningKey) -> bytes:
    """A key document that lists these keys."""
    return json.dumps({"keys": [key.entry() for key in keys]}).encode()


def archive_of(name: str, version: str) -> bytes:
    """What stands for a package's archive: other bytes for each version."""
    return f"the archive of {name} {version}".encode()


def integrity_of(data: bytes) -> str:
    """The SRI value of some bytes."""
    return f"sha512-{base64.b64encode(hashlib.sha512(data).digest()).decode()}"


def shasum_of(data: bytes) -> str:
    """The shasum of some bytes."""
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


@dataclass
class PackageRegistry:
    """A registry that is honest until a test changes ``packuments``. ``base`` is the path that it lives under,
    ``documents`` are further answers by their path."""

    packuments: dict[str, dict[str, Any]] = field(default_factory=dict)
    base: str = ""
    documents: dict[str, bytes] = field(default_factory=dict)

    @property
    def files(self) -> Mapping[str, bytes]:
        """What it serves: path to bytes."""
        packuments = {name: json.dumps(packument).encode() for name, packument in self.packuments.items()}
        return {self.base + name: data for name, data in (packuments | self.documents).items()}

    def publish(
        self,
        name: str,
        version: str,
        *,
        keys: Sequence[SigningKey] = (),
        published: str | None = "2025-06-01T00:00:00.000Z",
        content: bytes | None = None,
    ) -> dict[str, Any]:
        """Publish a version signed by these keys, and give its ``dist``, which may be changed."""
        data = archive_of(name, version) if content is None else content
        integrity = integrity_of(data)
        dist: dict[str, Any] = {
            "integrity": integrity,
            "shasum": shasum_of(data),
            "tarball": f"https://registry.example/{name}/-/{name.rpartition('/')[2]}-{version}.tgz",
            "signatures": [key.sign(name, version, integrity) for key in keys],
        }
        packument = self.packuments.setdefault(name, {"name": name, "dist-tags": {}, "versions": {}, "time": {}})
        packument["versions"][version] = {"name": name, "version": version, "dist": dist}
        packument["dist-tags"]["latest"] = version
        if published is not None:
            packument["time"][version] = published
        return dist

    def dist(self, name: str, version: str) -> dict[str, Any]:
        """What it states about one version, to be changed."""
        dist: dict[str, Any] = self.packuments[name]["versions"][version]["dist"]
        return dist

    def attest(self, name: str, version: str, *attestations: dict[str, Any], claimed: bool = True) -> None:
        """Serve these bundles as the attestations of a version, and claim them in its packument."""
        entries = [{"predicateType": _predicate_type(bundle), "bundle": bundle} for bundle in attestations]
        path = f"-/npm/v1/attestations/{name}@{version}"
        self.documents[path] = json.dumps({"attestations": entries}).encode()
        if claimed:
            built = any("slsa" in entry["predicateType"] for entry in entries)
            provenance = {"provenance": {"predicateType": "https://slsa.dev/provenance/v1"}} if built else {}
            self.dist(name, version)["attestations"] = {"url": f"https://registry.example/{path}", **provenance}

    def copy(self) -> PackageRegistry:
        """Another registry with the same packages."""
        return PackageRegistry(copy.deepcopy(self.packuments), self.base, dict(self.documents))


def _predicate_type(bundle: dict[str, Any]) -> str:
    payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    return str(payload["predicateType"])


def lockfile(*packages: tuple[str, str], **integrities: str) -> bytes:
    """A package-lock.json of version 3 with the digests of :func:`archive_of`, or with another for a name."""
    entries: dict[str, Any] = {"": {"name": "project", "version": "1.0.0"}}
    for index, (name, version) in enumerate(packages):
        place = (
            f"node_modules/{name}" if index == 0 or name != packages[0][0] else f"node_modules/x/node_modules/{name}"
        )
        entries[place] = {
            "version": version,
            "resolved": f"https://registry.example/{name}/-/{name.rpartition('/')[2]}-{version}.tgz",
            "integrity": integrities.get(name, integrity_of(archive_of(name, version))),
        }
    return json.dumps({"name": "project", "lockfileVersion": 3, "packages": entries}, indent=2).encode()
