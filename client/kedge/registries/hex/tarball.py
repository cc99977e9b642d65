"""A Hex package's tarball: its outer checksum, over the file, and its inner one, over what is in it.

The outer checksum is what counts: it covers every byte. The inner one is older, and does not cover the tar itself; it
is checked as well, since old lock files hold nothing else. Source: Hex's ``package_tarball`` specification, version
3.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import dataclass

from kedge.document import DocumentError

__all__ = ["MAX_TARBALL_BYTES", "Tarball"]

MAX_TARBALL_BYTES = 256 << 20
_MEMBERS = ("VERSION", "CHECKSUM", "metadata.config", "contents.tar.gz")
_COVERED = ("VERSION", "metadata.config", "contents.tar.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tarball:
    """The two checksums of a tarball, as hexadecimal digits."""

    outer: str
    inner: str

    @classmethod
    def from_bytes(cls, data: bytes) -> Tarball:
        """Read a tarball.

        Raises:
            DocumentError: it is none, or its own checksum is not that of its content.
        """
        members = _members(data)
        inner = hashlib.sha256(b"".join(members[name] for name in _COVERED)).hexdigest()
        stated = members["CHECKSUM"].decode("ascii", "replace").strip()
        if stated.lower() != inner:
            raise DocumentError("CHECKSUM", f"is {stated[:80]}, and the content's is {inner}")
        return cls(outer=hashlib.sha256(data).hexdigest(), inner=inner)


def _members(data: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                if member.name not in _MEMBERS or not member.isfile() or member.name in found:
                    raise DocumentError(member.name[:100], "is no file of a package, or stands there twice")
                content = archive.extractfile(member)
                found[member.name] = content.read() if content is not None else b""
    except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError) as error:
        if isinstance(error, DocumentError):
            raise
        raise DocumentError("", f"is no tar archive: {str(error).lower()}") from error
    for name in _MEMBERS:
        if name not in found:
            raise DocumentError(name, "is missing")
    return found
