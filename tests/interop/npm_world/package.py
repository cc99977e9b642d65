"""Packages: their tarballs, and what a registry says of them."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from interop.npm_world.issuer import Issuer

__all__ = ["Package", "packument", "sri", "tarball"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One version of a package, as a registry states it."""

    name: str
    version: str
    data: bytes
    integrity: str
    signatures: tuple[dict[str, str], ...] | None = None
    published: str | None = "2026-01-02T03:04:05.000Z"

    @classmethod
    def made(cls, name: str, version: str, *issuers: Issuer, files: Mapping[str, bytes] | None = None) -> Package:
        """A package with a tarball of its own, signed by ``issuers``."""
        data = tarball(name, version, files or {})
        return cls(name=name, version=version, data=data, integrity=sri(data)).signed(*issuers)

    def signed(self, *issuers: Issuer) -> Package:
        """The same, signed by these instead."""
        return replace(
            self, signatures=tuple(issuer.sign(self.name, self.version, self.integrity) for issuer in issuers)
        )

    @property
    def file(self) -> str:
        """The path of its tarball in the registry."""
        return f"{self.name}/-/{self.name.rpartition('/')[2]}-{self.version}.tgz"

    def manifest(self, base: str) -> dict[str, Any]:
        """What the registry at ``base`` says of it."""
        dist: dict[str, Any] = {"tarball": f"{base}/{self.file}", "integrity": self.integrity}
        dist["shasum"] = hashlib.sha1(self.data).hexdigest()
        if self.signatures is not None:
            dist["signatures"] = list(self.signatures)
        return {"name": self.name, "version": self.version, "dist": dist}


def packument(base: str, versions: Sequence[Package], *, tags: Mapping[str, str] | None = None) -> dict[str, bytes]:
    """All that a registry serves of one package's versions, by path."""
    name = versions[0].name
    document = {
        "name": name,
        "dist-tags": {"latest": versions[-1].version, **(tags or {})},
        "versions": {each.version: each.manifest(base) for each in versions},
        "time": {each.version: each.published for each in versions if each.published is not None},
    }
    served = {name: json.dumps(document).encode()}
    for each in versions:
        served[f"{name}/{each.version}"] = json.dumps(each.manifest(base)).encode()
        served[each.file] = each.data
    served[f"{name}/latest"] = served[f"{name}/{versions[-1].version}"]
    return served


def sri(data: bytes) -> str:
    """The integrity of some bytes, as npm writes it."""
    return "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()


def tarball(name: str, version: str, files: Mapping[str, bytes], *, outer: str = "package") -> bytes:
    """A package's archive; package.json is put first unless it is given."""
    manifest = json.dumps({"name": name, "version": version}).encode()
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, content in {"package.json": manifest, **files}.items():
            info = tarfile.TarInfo(f"{outer}/{path}")
            info.size, info.mode = len(content), 0o644
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(stream.getvalue(), mtime=0)
