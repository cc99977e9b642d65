"""A Hex repository: signed resources and tarballs, made byte by byte, so that tests can make wrong ones as well."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

__all__ = [
    "HexRelease",
    "HexRepository",
    "erlang_package",
    "field",
    "fingerprint_of",
    "key_entry",
    "package",
    "rsa",
    "signed",
    "tarball",
]


@cache
def rsa(name: str, bits: int = 2048) -> RSAPrivateKey:
    """The RSA key of that name, of this run."""
    del name
    return generate_private_key(public_exponent=65537, key_size=bits)


def pem_of(name: str, bits: int = 2048) -> str:
    public = rsa(name, bits).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def fingerprint_of(name: str) -> str:
    """A keyid in the form of Hex's own."""
    return f"SHA256:{name}"


def key_entry(name: str, active_from: str, active_until: str | None = None, *, bits: int = 2048) -> dict[str, Any]:
    """An entry of a key document."""
    entry = {"id": fingerprint_of(name), "pem": pem_of(name, bits), "active_from": active_from}
    return {**entry, **({"active_until": active_until} if active_until else {})}


def field(number: int, value: int | bytes | str) -> bytes:
    """One field of a protobuf message."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


@dataclass(frozen=True, slots=True, kw_only=True)
class HexRelease:
    """One release as a repository lists it."""

    version: str
    outer: bytes | None
    inner: bytes
    retired: tuple[int, str] | None = None
    published_at: int | bytes | None = None

    @classmethod
    def of(cls, version: str, archive: bytes, **more: Any) -> HexRelease:
        return cls(
            version=version,
            outer=hashlib.sha256(archive).digest(),
            inner=bytes.fromhex(_inner(archive)),
            **more,
        )

    def to_bytes(self) -> bytes:
        parts = [field(1, self.version), field(2, self.inner)]
        if self.retired is not None:
            parts.append(field(4, field(1, self.retired[0]) + field(2, self.retired[1])))
        if self.outer is not None:
            parts.append(field(5, self.outer))
        if self.published_at is not None:
            parts.append(field(7, self.published_at))
        return b"".join(parts)


def package(name: str, releases: Sequence[HexRelease], *, repository: str = "hexpm") -> bytes:
    """The payload of a package."""
    listed = b"".join(field(1, release.to_bytes()) for release in releases)
    return listed + field(2, name) + field(3, repository)


def signed(payload: bytes, signer: str = "ours", *, bits: int = 2048) -> bytes:
    """A resource as it is served."""
    return gzip.compress(field(1, payload) + field(2, sign(payload, signer, bits=bits)), mtime=0)


def sign(payload: bytes, signer: str, *, bits: int = 2048) -> bytes:
    return rsa(signer, bits).sign(payload, PKCS1v15(), SHA512())


def tarball(content: str | bytes, *, metadata: bytes = b"", **members: bytes) -> bytes:
    """A package's tarball; ``content`` is its archive, or a text in place of one. ``members`` replace its files."""
    contents = content if isinstance(content, bytes) else gzip.compress(content.encode(), mtime=0)
    files = {"VERSION": b"3", "metadata.config": metadata, "contents.tar.gz": contents}
    digest = hashlib.sha256(b"".join(files.values())).hexdigest().upper()
    files = {**files, "CHECKSUM": digest.encode(), **{name.replace("__", "."): data for name, data in members.items()}}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def _inner(archive: bytes) -> str:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        content = opened.extractfile("CHECKSUM")
        assert content is not None
        return content.read().decode().lower()


def erlang_package(name: str, version: str) -> bytes:
    """The tarball of a package that Hex's own clients unpack and build."""
    files = {
        f"src/{name}.app.src": f'{{application, {name}, [{{vsn, "{version}"}}]}}.\n',
        f"src/{name}.erl": f'-module({name}).\n-export([version/0]).\nversion() -> <<"{version}">>.\n',
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:") as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    terms = {
        "name": f'<<"{name}">>',
        "version": f'<<"{version}">>',
        "app": f'<<"{name}">>',
        "description": '<<"made in a test">>',
        "licenses": "[]",
        "build_tools": '[<<"rebar3">>]',
        "requirements": "[]",
        "files": "[" + ",".join(f'<<"{path}">>' for path in files) + "]",
    }
    metadata = "".join(f'{{<<"{key}">>,{value}}}.\n' for key, value in terms.items())
    return tarball(gzip.compress(out.getvalue(), mtime=0), metadata=metadata.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class HexRepository:
    """What a repository or its mirror serves, in a folder."""

    folder: Path

    def serve(self, name: str, data: bytes, *, organisation: str | None = None) -> None:
        """Serve these bytes as the resource of a package."""
        where = self.folder / "repos" / organisation if organisation else self.folder
        (where / "packages").mkdir(parents=True, exist_ok=True)
        (where / "packages" / name).write_bytes(data)

    def release(self, name: str, version: str, signer: str, *, repository: str = "hexpm") -> HexRelease:
        """Publish a package of one release, with everything that Hex's own clients ask for."""
        archive = erlang_package(name, version)
        release = HexRelease.of(version, archive)
        (self.folder / "tarballs").mkdir(parents=True, exist_ok=True)
        (self.folder / "tarballs" / f"{name}-{version}.tar").write_bytes(archive)
        self.serve(name, signed(package(name, [release], repository=repository), signer))
        names = field(1, field(1, name)) + field(2, repository)
        versions = field(1, field(1, name) + field(2, version)) + field(2, repository)
        (self.folder / "names").write_bytes(signed(names, signer))
        (self.folder / "versions").write_bytes(signed(versions, signer))
        return release
