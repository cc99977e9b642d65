"""A time-stamper (RFC 3161) that really signs: OpenSSL's, with keys and certificates made here."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from support.attested import key_usage

__all__ = ["TimeStamper"]


class TimeStamper:
    """Stamps with the present time. ``chain`` is its certificate and the root's (DER)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        root, own = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
        certificates = (_certificate("stamper", own, root), _certificate("root", root, root))
        self.chain = [each.public_bytes(Encoding.DER) for each in certificates]
        (folder / "own.pem").write_bytes(certificates[0].public_bytes(Encoding.PEM))
        private = own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "key.pem").write_bytes(private)
        (folder / "serial").write_text("01\n")
        (folder / "openssl.cnf").write_text(
            f"[tsa]\ndefault_tsa = own\n[own]\nserial = {folder}/serial\ncrypto_device = builtin\n"
            f"signer_cert = {folder}/own.pem\nsigner_key = {folder}/key.pem\nsigner_digest = sha256\n"
            "default_policy = 1.2.3.4\ndigests = sha256\ness_cert_id_alg = sha256\n"
        )

    def stamp(self, data: bytes) -> bytes:
        """The response to a request for these bytes."""
        asked, query, answer = (self._folder / name for name in ("data", "query", "answer"))
        asked.write_bytes(data)
        for line in (
            ["-query", "-data", asked, "-sha256", "-cert", "-out", query],
            ["-reply", "-config", self._folder / "openssl.cnf", "-queryfile", query, "-out", answer],
        ):
            subprocess.run(["openssl", "ts", *map(str, line)], check=True, capture_output=True)
        return answer.read_bytes()


def _certificate(name: str, key: EllipticCurvePrivateKey, by: EllipticCurvePrivateKey) -> x509.Certificate:
    is_root = key is by
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2090, 1, 1, tzinfo=UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
        .add_extension(key_usage(digital_signature=not is_root, certificates=is_root), critical=True)
    )
    if is_root:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    else:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
    return builder.sign(by, SHA256())
