"""What is fuzzed of apt, OpenPGP and Hex: the parsers, and the documents that fuzzing starts from."""

from __future__ import annotations

import base64
import gzip
import json
import lzma
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from kedge.documents import DocumentError
from kedge.registries.apt.release import Index, Release, unpack
from kedge.registries.hex.mixlock import read_lock
from kedge.registries.hex.registry import Hex
from kedge.registries.hex.resource import Package, Signed
from kedge.registries.hex.verify import Tarball
from kedge.registries.pgp.certificate import read_keyring, without_subkeys, write_keyring
from kedge.registries.pgp.packets import SIGNATURE, armor
from kedge.registries.pgp.verify import Standing, read_gpgv, read_signature, read_sqv, split
from support.aptrepo import release_text
from support.hexrepo import HexRelease, field, package, tarball

__all__ = ["SEEDS", "TARGETS"]

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CATALOGUE = Path(__file__).resolve().parents[2] / "metadata" / "registries"
SIGNATURE_PACKET = b"\x88\x06\x04\x00\x16\x08\x00\x00"
STANZA = "Package: {name}\nVersion: 1\nArchitecture: all\nFilename: pool/{name}_1_all.deb\nSize: 3\nSHA256: {digest}\n"
PACKAGES = {"one": "2" * 64, "two": "3" * 64}
STANZAS = "\n".join(STANZA.format(name=name, digest=digest) for name, digest in PACKAGES.items()).encode()
STATUS = f"""[GNUPG:] NEWSIG
[GNUPG:] GOODSIG 0123456789ABCDEF x
[GNUPG:] VALIDSIG {"A" * 40} 2026-01-01 1 0 4 0 1 8 00
""".encode()


def _keyring(data: bytes) -> None:
    certificates = read_keyring(data)
    if read_keyring(write_keyring(certificates)) != certificates:
        raise AssertionError("what is written down is not what was read")
    for certificate in certificates:
        (rest,) = read_keyring(without_subkeys(certificate.material, certificate.subkeys))
        if rest.subkeys or rest.fingerprint != certificate.fingerprint:
            raise AssertionError("more or less than the subkeys was taken out")


def _clear_signed(data: bytes) -> None:
    parts = split(data)
    begins = b"-----BEGIN PGP SIGNATURE-----" in parts.text.split(b"\n")
    if begins and b"- -----BEGIN PGP SIGNATURE-----" not in data:  # escaped, or it would have been the end of the text
        raise AssertionError("the text goes on beyond the signature")


def _index(data: bytes) -> None:
    index = Index("Packages", unpack(data, max_bytes=1 << 20))
    for digest in ("2" * 64, "3" * 64):
        found = index.by_digest({"SHA256": digest})
        if found is not None and found.digests["SHA256"] != digest:
            raise DocumentError("Packages", "names two digests, of which the last counts for nobody")
    index.by_file("one_1_all.deb")


def _status(data: bytes) -> None:
    text = data.decode(errors="replace")
    for signature in (*read_gpgv(text), *read_sqv(text, text)):
        if signature.standing is Standing.GOOD and not signature.primary:
            raise AssertionError("a good signature by nobody")


def _resource(data: bytes) -> None:
    Package.from_payload(Signed.from_bytes(gzip.compress(data, mtime=0)).payload)


TARGETS: dict[str, Callable[[bytes], object]] = {
    "keyring": _keyring,
    "detached": read_signature,
    "clear-signed": _clear_signed,
    "release": Release.from_text,
    "packages-index": _index,
    "gpgv-status": _status,
    "hex-keys": lambda data: Hex().parse(data, registry="hex/hexpm", custom=None, now=NOW),
    "hex-gzip": Signed.from_bytes,
    "hex-resource": _resource,
    "hex-tarball": Tarball.from_bytes,
    "mix-lock": read_lock,
}
"""Each parser by the name of its corpus."""


@cache
def _debian() -> bytes:
    entry = json.loads((CATALOGUE / "apt" / "debian.json").read_bytes())
    return read_keyring(base64.b64decode(entry["base64"]))[3].material


def _hexpm() -> bytes:
    return json.dumps(json.loads((CATALOGUE / "hex" / "hexpm.json").read_bytes())["document"]).encode()


def _frame() -> bytes:
    head = b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nSuite: x\n- -dashed\n"
    return head + armor(SIGNATURE_PACKET, SIGNATURE).encode()


def _message() -> bytes:
    payload = package("one", [HexRelease.of("1.0.0", tarball("x"), retired=(2, "why"), published_at=1)])
    return field(1, payload) + field(2, b"signature")


SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "keyring": lambda: [_debian(), armor(_debian()).encode()],
    "detached": lambda: [SIGNATURE_PACKET, armor(SIGNATURE_PACKET, SIGNATURE).encode()],
    "clear-signed": lambda: [_frame()],
    "release": lambda: [
        release_text({"main/binary-all/Packages": b""}, date=NOW, Valid_Until="1 Jan 2027 00:00:00 UTC")
    ],
    "packages-index": lambda: [STANZAS, gzip.compress(STANZAS, mtime=0), lzma.compress(STANZAS)],
    "gpgv-status": lambda: [STATUS],
    "hex-keys": lambda: [_hexpm()],
    "hex-gzip": lambda: [gzip.compress(_message(), mtime=0)],
    "hex-resource": lambda: [_message()],
    "hex-tarball": lambda: [tarball("x")],
    "mix-lock": lambda: [b'%{\n  "one": {:hex, :one, "1.0.0", "' + b"a" * 64 + b'", [:mix], [a: 1], "hexpm"},\n}\n'],
}
"""Where fuzzing each of them starts."""
