"""Attestations for tests: npm's real ones of sigstore@1.0.0, and a Sigstore instance of our own that signs anything.

::

    instance = SigstoreInstance()
    bundle = instance.attest(statement("pkg:npm/a@1.0.0", sha512), repository="https://github.com/o/r")
    keys = Sigstore().parse(instance.trusted_root(), …)

The instance is a whole one: an authority with an intermediate, a certificate log, and a transparency log of one entry a
bundle. Its private keys live as long as the test.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

__all__ = [
    "SIGSTORE_1_0_0",
    "RealAttestations",
    "SigstoreInstance",
    "index_of",
    "key_usage",
    "provenance",
    "publish_statement",
    "statement",
]

SIGSTORE_1_0_0 = "sha512-e+qfbn/zf1+rCza/BhIA//Awmf0v1pa5HQS8Xk8iXrn9bgytytVLqYD0P7NSqZ6IELTgq+tcDvLPkQjNHyWLNg=="
"""The integrity of the real sigstore@1.0.0, which the lockfile of whoever installs it holds."""

PUBLISH = "https://github.com/npm/attestation/tree/main/specs/publish/v0.1"
SLSA = "https://slsa.dev/provenance/v1"
GITHUB = "https://token.actions.githubusercontent.com"
AT = datetime(2025, 6, 1, 12, tzinfo=UTC)
_YEAR = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class RealAttestations:
    """The documents of the folder with the shared vectors."""

    vectors: Path

    @property
    def trusted_root(self) -> bytes:
        return (self.vectors / "sigstore" / "trusted_root.json").read_bytes()

    @property
    def npm_keys(self) -> bytes:
        return (self.vectors / "npm" / "tuf-target-registry.npmjs.org-keys.json").read_bytes()

    def served(self, version: str = "1.0.0") -> bytes:
        """What npm answers to ``GET /-/npm/v1/attestations/sigstore@VERSION``."""
        return (self.vectors / "npm" / f"attestations-sigstore@{version}.json").read_bytes()

    @property
    def pypi_provenance(self) -> bytes:
        """What PyPI serves as the provenance of pypi_attestations-0.0.19.tar.gz."""
        return (self.vectors / "pypi" / "pypi_attestations-0.0.19.tar.gz.provenance").read_bytes()

    def pypi_bundle(self) -> dict[str, Any]:
        """The attestation in it, in the form of a bundle."""
        attestation = json.loads(self.pypi_provenance)["attestation_bundles"][0]["attestations"][0]
        material, envelope = attestation["verification_material"], attestation["envelope"]
        return {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "certificate": {"rawBytes": material["certificate"]},
                "tlogEntries": material["transparency_entries"],
            },
            "dsseEnvelope": {
                "payloadType": "application/vnd.in-toto+json",
                "payload": envelope["statement"],
                "signatures": [{"sig": envelope["signature"]}],
            },
        }

    def signature(self) -> dict[str, str]:
        """The real registry signature of sigstore@1.0.0, by the key that npm retired in 2025."""
        vectors = json.loads((self.vectors / "npm" / "registry-signature-vectors.json").read_bytes())
        found = next(each for each in vectors if (each["name"], each["version"]) == ("sigstore", "1.0.0"))
        return {"keyid": found["keyid"], "sig": found["sig"]}


def statement(subject: str, predicate_type: str, predicate: Any, **digests: str) -> dict[str, Any]:
    """An in-toto statement about one subject with these digests, in hexadecimal digits."""
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": subject, "digest": digests}],
        "predicateType": predicate_type,
        "predicate": predicate,
    }


def publish_statement(name: str, version: str, sha512: str) -> dict[str, Any]:
    """What an npm registry says of publishing."""
    said = {"name": name, "version": version, "registry": "https://registry.example"}
    return statement(f"pkg:npm/{name.replace('@', '%40')}@{version}", PUBLISH, said, sha512=sha512)


def provenance(
    name: str, version: str, sha512: str, *, repository: str, commit: str, runner: str = "github-hosted"
) -> dict[str, Any]:
    """What npm's client says of a build, inside the build."""
    said = {
        "buildDefinition": {
            "externalParameters": {"workflow": {"ref": "refs/tags/v1", "repository": repository, "path": "w.yml"}},
            "resolvedDependencies": [{"uri": f"git+{repository}@refs/tags/v1", "digest": {"gitCommit": commit}}],
        },
        "runDetails": {"builder": {"id": f"https://github.com/actions/runner/{runner}"}},
    }
    return statement(f"pkg:npm/{name.replace('@', '%40')}@{version}", SLSA, said, sha512=sha512)


@dataclass(frozen=True, slots=True)
class Files:
    """What a server serves."""

    files: dict[str, bytes]


def index_of(project: str, version: str, sha256: str, instance: SigstoreInstance) -> Files:
    """A PyPI index with one source distribution of a project, published by a workflow of ``o/PROJECT``."""
    filename, repository = f"{project}-{version}.tar.gz", f"o/{project}"
    said = statement(filename, "https://docs.pypi.org/attestations/publish/v1", None, sha256=sha256)
    bundle = instance.attest(said, repository=f"https://github.com/{repository}")
    material, envelope = bundle["verificationMaterial"], bundle["dsseEnvelope"]
    attestation = {
        "version": 1,
        "verification_material": {
            "certificate": material["certificate"]["rawBytes"],
            "transparency_entries": material["tlogEntries"],
        },
        "envelope": {"statement": envelope["payload"], "signature": envelope["signatures"][0]["sig"]},
    }
    publisher = {"kind": "GitHub", "repository": repository, "workflow": "release.yml", "environment": None}
    served = {"version": 1, "attestation_bundles": [{"publisher": publisher, "attestations": [attestation]}]}
    page = f'<a href="../../files/{filename}#sha256={sha256}">{filename}</a>'
    return Files(
        {
            f"simple/{project}/": page.encode(),
            f"integrity/{project}/{version}/{filename}/provenance": json.dumps(served).encode(),
        }
    )


class SigstoreInstance:
    """An authority, a certificate log and a transparency log, with a trusted root that names them."""

    def __init__(self, host: str = "sigstore.example") -> None:
        self.host = host
        self.log, self.certificate_log = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
        self.second_log = Ed25519PrivateKey.generate()
        self._root_key, self._issuer_key = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
        self._root = _authority("root", "root", self._root_key, self._root_key, path_length=1)
        self._issuer = _authority("issuer", "root", self._issuer_key, self._root_key, path_length=0)

    def trusted_root(self, *timestampers: Sequence[bytes]) -> bytes:
        """The instance's trusted root; ``timestampers`` are the certificates (DER) of time-stampers."""
        chain = [{"rawBytes": _text(each.public_bytes(Encoding.DER))} for each in (self._issuer, self._root)]
        window = {"start": "2020-01-01T00:00:00Z"}
        document = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [
                _log(f"https://rekor.{self.host}", self.log, window),
                _log(f"https://log2.{self.host}", self.second_log, window),
            ],
            "certificateAuthorities": [
                {
                    "subject": {"organization": self.host, "commonName": "root"},
                    "uri": f"https://fulcio.{self.host}",
                    "certChain": {"certificates": chain},
                    "validFor": window,
                }
            ],
            "ctlogs": [_log(f"https://ctfe.{self.host}", self.certificate_log, window)],
            "timestampAuthorities": [
                {
                    "subject": {"organization": self.host, "commonName": "stamper"},
                    "uri": f"https://timestamp.{self.host}",
                    "certChain": {"certificates": [{"rawBytes": _text(each)} for each in certificates]},
                    "validFor": window,
                }
                for certificates in timestampers
            ],
        }
        return json.dumps(document).encode()

    def attest(
        self,
        said: dict[str, Any],
        *,
        repository: str = "https://github.com/o/r",
        commit: str = "0" * 40,
        workflow: str = ".github/workflows/release.yml",
        ref: str = "refs/tags/v1",
        issuer: str = GITHUB,
        runner: str = "github-hosted",
        at: datetime = AT,
    ) -> dict[str, Any]:
        """A bundle of version 0.3 over a statement, by a build of this repository and commit."""
        key = generate_private_key(SECP256R1())
        uri = f"{repository}/{workflow}@{ref}"
        claims = {"8": issuer, "11": runner, "12": repository, "13": commit, "14": ref, "18": uri}
        certificate = self._certificate(key, x509.UniformResourceIdentifier(uri), claims, at)
        material = {"certificate": {"rawBytes": _text(certificate.public_bytes(Encoding.DER))}}
        return self._bundle(said, key, material, certificate.public_bytes(Encoding.PEM), at)

    def attest_with_timestamp(self, said: dict[str, Any], stamp: Callable[[bytes], bytes]) -> dict[str, Any]:
        """A bundle of the second generation of logs: no promise and no time of the log, but a signed timestamp."""
        key, uri = (
            generate_private_key(SECP256R1()),
            "https://github.com/o/r/.github/workflows/release.yml@refs/tags/v1",
        )
        claims = {"8": GITHUB, "12": "https://github.com/o/r", "13": "0" * 40, "14": "refs/tags/v1", "18": uri}
        now = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
        certificate = self._certificate(key, x509.UniformResourceIdentifier(uri), claims, now)
        der = _text(certificate.public_bytes(Encoding.DER))
        payload, kind = json.dumps(said).encode(), b"application/vnd.in-toto+json"
        message = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
        signature = key.sign(message, ECDSA(SHA256()))
        verifier = {"keyDetails": "PKIX_ECDSA_P256_SHA_256", "x509Certificate": {"rawBytes": der}}
        record = {
            "data": {"algorithm": "SHA2_256", "digest": _text(hashlib.sha256(message).digest())},
            "signature": {"content": _text(signature), "verifier": verifier},
        }
        body = {"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": {"hashedRekordV002": record}}
        leaf = json.dumps(body, separators=(",", ":")).encode()
        entry = {
            "logIndex": "0",
            "logId": {"keyId": _text(hashlib.sha256(_public(self.second_log)).digest())},
            "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"},
            "integratedTime": "0",
            "inclusionProof": self._proof(leaf, f"log2.{self.host}", self.second_log, self.second_log.sign),
            "canonicalizedBody": _text(leaf),
        }
        stamped = {"rfc3161Timestamps": [{"signedTimestamp": _text(stamp(signature))}]}
        material = {"certificate": {"rawBytes": der}, "tlogEntries": [entry], "timestampVerificationData": stamped}
        return {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": material,
            "dsseEnvelope": {
                "payloadType": kind.decode(),
                "payload": _text(payload),
                "signatures": [{"sig": _text(signature)}],
            },
        }

    def attest_by_key(self, said: dict[str, Any], keyid: str, key: EllipticCurvePrivateKey, at: datetime = AT) -> Any:
        """A bundle over a statement that a key signs, as a registry's publish attestations are."""
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return self._bundle(said, key, {"publicKey": {"hint": keyid}}, pem, at, keyid)

    def _bundle(
        self,
        said: dict[str, Any],
        key: EllipticCurvePrivateKey,
        material: dict[str, Any],
        verifier: bytes,
        at: datetime,
        keyid: str | None = None,
    ) -> dict[str, Any]:
        payload, kind = json.dumps(said).encode(), b"application/vnd.in-toto+json"
        signature = key.sign(b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload), ECDSA(SHA256()))
        body = {
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": {"algorithm": "sha256", "value": "0" * 64},
                "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
                "signatures": [{"signature": _text(signature), "verifier": _text(verifier)}],
            },
        }
        named = {"keyid": keyid} if keyid is not None else {}
        entry = self._entry(json.dumps(body, separators=(",", ":")).encode(), at)
        return {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {**material, "tlogEntries": [entry]},
            "dsseEnvelope": {
                "payloadType": kind.decode(),
                "payload": _text(payload),
                "signatures": [{"sig": _text(signature), **named}],
            },
        }

    def _entry(self, body: bytes, at: datetime) -> dict[str, Any]:
        """The one entry of a log: its root hash is that of the leaf."""
        log_id, seconds = hashlib.sha256(_public(self.log)).digest(), int(at.timestamp())
        promised = {"body": _text(body), "integratedTime": seconds, "logID": log_id.hex(), "logIndex": 0}
        promise = self.log.sign(json.dumps(promised, separators=(",", ":")).encode(), ECDSA(SHA256()))
        return {
            "logIndex": "0",
            "logId": {"keyId": _text(log_id)},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(seconds),
            "inclusionPromise": {"signedEntryTimestamp": _text(promise)},
            "inclusionProof": self._proof(
                body, f"rekor.{self.host}", self.log, lambda note: self.log.sign(note, ECDSA(SHA256()))
            ),
            "canonicalizedBody": _text(body),
        }

    def _proof(
        self, body: bytes, name: str, key: EllipticCurvePrivateKey | Ed25519PrivateKey, sign: Callable[[bytes], bytes]
    ) -> dict[str, Any]:
        """The proof of the one entry of a log, with the log's statement of its tree."""
        root, log_id = hashlib.sha256(b"\x00" + body).digest(), hashlib.sha256(_public(key)).digest()
        note = f"{name} - 1\n1\n{_text(root)}\n"
        line = _text(log_id[:4] + sign(note.encode()))
        return {
            "logIndex": "0",
            "rootHash": _text(root),
            "treeSize": "1",
            "hashes": [],
            "checkpoint": {"envelope": f"{note}\n— {name} {line}\n"},
        }

    def _certificate(
        self, key: EllipticCurvePrivateKey, name: x509.GeneralName, claims: dict[str, str], at: datetime
    ) -> x509.Certificate:
        """A signing certificate of ten minutes, with what the certificate log signed inside."""
        issuer = x509.SubjectKeyIdentifier.from_public_key(self._issuer_key.public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(at)
            .not_valid_after(at + timedelta(minutes=10))
            .add_extension(key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
            .add_extension(x509.SubjectAlternativeName([name]), critical=True)
        )
        for number, text in claims.items():
            oid = ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{number}")
            value = b"\x0c" + _der_length(len(text)) + text.encode()
            builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
        before = builder.sign(self._issuer_key, SHA256()).tbs_certificate_bytes
        milliseconds = int(at.timestamp() * 1000).to_bytes(8, "big")
        spki = hashlib.sha256(_public(self._issuer_key)).digest()
        message = (
            b"\x00\x00" + milliseconds + b"\x00\x01" + spki + len(before).to_bytes(3, "big") + before + b"\x00\x00"
        )
        signature = self.certificate_log.sign(message, ECDSA(SHA256()))
        log_id = hashlib.sha256(_public(self.certificate_log)).digest()
        promise = b"\x00" + log_id + milliseconds + b"\x00\x00\x04\x03" + len(signature).to_bytes(2, "big") + signature
        listed = len(promise).to_bytes(2, "big") + promise
        inner = len(listed).to_bytes(2, "big") + listed
        oid = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
        extension = x509.UnrecognizedExtension(oid, b"\x04" + _der_length(len(inner)) + inner)
        return builder.add_extension(extension, critical=False).sign(self._issuer_key, SHA256())


def _authority(
    name: str, issuer: str, key: EllipticCurvePrivateKey, by: EllipticCurvePrivateKey, *, path_length: int
) -> x509.Certificate:
    keyid = x509.SubjectKeyIdentifier.from_public_key(by.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(AT - 5 * _YEAR)
        .not_valid_after(AT + 5 * _YEAR)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(key_usage(certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(keyid), critical=False)
        .sign(by, SHA256())
    )


def key_usage(*, digital_signature: bool = False, certificates: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _log(url: str, key: EllipticCurvePrivateKey | Ed25519PrivateKey, window: dict[str, str]) -> dict[str, Any]:
    return {
        "baseUrl": url,
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": _text(_public(key)),
            "keyDetails": "PKIX_ED25519" if isinstance(key, Ed25519PrivateKey) else "PKIX_ECDSA_P256_SHA_256",
            "validFor": window,
        },
        "logId": {"keyId": _text(hashlib.sha256(_public(key)).digest())},
    }


def _public(key: EllipticCurvePrivateKey | Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _der_length(size: int) -> bytes:
    if size < 0x80:
        return bytes((size,))
    return b"\x82" + size.to_bytes(2, "big") if size > 0xFF else b"\x81" + bytes((size,))
