"""An apt repository in a folder: packages by dpkg-deb, indexes and a Release of our own making, signatures by gpg."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from support.gnupg import GnuPG

__all__ = ["AptRepository", "release_text"]

INDEX = "main/binary-{architecture}/Packages"


def release_text(
    files: Mapping[str, bytes], *, date: datetime, suite: str = "stable", codename: str = "example", **more: str
) -> bytes:
    """The text of a Release that lists these files; ``more`` are further fields, dashes written as underscores."""
    fields = {
        "Origin": "Example",
        "Label": "Example",
        "Suite": suite,
        "Codename": codename,
        "Date": f"{date.astimezone(UTC):%a, %d %b %Y %H:%M:%S} UTC",
        "Components": "main",
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    lines = [f"{name}: {value}" for name, value in fields.items() if value]
    lines.append("SHA256:")
    lines += [f" {hashlib.sha256(data).hexdigest()} {len(data)} {path}" for path, data in files.items()]
    return "".join(f"{line}\n" for line in lines).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class AptRepository:
    """A suite below ``folder``, with the packages that were built into it."""

    folder: Path
    gpg: GnuPG
    architecture: str
    packages: dict[str, Path] = field(default_factory=dict)

    @property
    def suite(self) -> Path:
        return self.folder / "dists" / "example"

    def build(self, name: str, version: str) -> Path:
        """Build a package, and put it into the pool."""
        tree = self.folder / "build" / name
        (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
        control = f"Package: {name}\nVersion: {version}\nArchitecture: all\n"
        control += "Maintainer: A <a@example.invalid>\nDescription: made in a test\n"
        (tree / "DEBIAN" / "control").write_text(control)
        file = self.folder / "pool" / f"{name}_{version}_all.deb"
        file.parent.mkdir(exist_ok=True)
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, file], check=True, capture_output=True
        )
        self.packages[f"{control}Filename: pool/{file.name}"] = file
        return file

    def indexes(self) -> dict[str, bytes]:
        """The Packages index of the repository, plain, in gzip and in xz."""
        stanzas = []
        for text, file in self.packages.items():
            data = file.read_bytes()
            stanzas.append(f"{text}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n")
        plain = "\n".join(stanzas).encode()
        name = INDEX.format(architecture=self.architecture)
        return {name: plain, f"{name}.gz": gzip.compress(plain, mtime=0), f"{name}.xz": lzma.compress(plain)}

    def publish(self, *signers: str, date: datetime, at: str | None = None, **more: str) -> None:
        """Write indexes and an InRelease that these keys sign."""
        files = self.indexes()
        for path, data in files.items():
            (self.suite / path).parent.mkdir(parents=True, exist_ok=True)
            (self.suite / path).write_bytes(data)
        text = release_text(files, date=date, **more)
        self.serve(text, self.gpg.clear_sign(text, *signers, at=at))

    def serve(self, text: bytes, signed: bytes) -> None:
        """Serve a Release in its clear-signed form."""
        (self.suite / "InRelease").write_bytes(signed)
        (self.suite / "Release").write_bytes(text)

    def split(self, signers: Sequence[str]) -> None:
        """Serve Release and Release.gpg in place of InRelease."""
        text = (self.suite / "Release").read_bytes()
        (self.suite / "Release.gpg").write_bytes(self.gpg.detach(text, *signers))
        (self.suite / "InRelease").unlink()
