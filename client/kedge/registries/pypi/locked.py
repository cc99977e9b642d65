"""A distribution file that is meant, as a value.

A digest without a file's name is meant as well: any of them may be what gets installed. What names no digest cannot be
bound to anything; it is said and never passed over.

Source: PEP 427 and 625 (file names).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kedge.documents import DocumentError
from kedge.registries.sigstore import normalized

VERSION = r"[A-Za-z0-9][A-Za-z0-9._+!-]*"
ARCHIVE = re.compile(r"\.(?:whl|zip|egg|t[abglx]z[a-z0-9]{0,4}|tar(?:\.[a-z0-9]{1,8})?)$", re.IGNORECASE)
"""How the name of an archive ends that an installer takes from a path."""

MAX_FILES = 100_000


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an entry comes from, if it is not an index: a kind of the user's exceptions, and the address or folder.

    The kind ``include`` is another requirements file, which has to be named too.
    """

    kind: str
    source: str

    @property
    def is_of_project(self) -> bool:
        """Whether it is a folder of the project itself; an archive there is still somebody else's."""
        steps = self.source.split("/")
        is_inside = (
            re.fullmatch(r"[A-Za-z0-9._@ /-]+", self.source) is not None and ".." not in steps and steps[0] != ""
        )
        return self.kind == "local" and is_inside and ARCHIVE.search(self.source) is None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedFile:
    """One file that is meant. ``filename`` is None where only its digest is known; ``unbound`` says why it is none."""

    project: str
    version: str = ""
    filename: str | None = None
    sha256: str | None = None
    unbound: str | None = None
    origin: Origin | None = None

    @property
    def name(self) -> str:
        """What it is called in messages."""
        if self.filename is not None:
            return self.filename
        spec = f"{self.project}=={self.version}" if self.version else self.project
        return f"{spec} sha256:{self.sha256[:12]}" if self.sha256 is not None else spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What a file's name says: the normalized project, the version, and the rest that tells builds apart."""

    project: str
    version: str
    rest: str


def parse_filename(filename: str) -> Named:
    """Read the name of a wheel or of a source distribution.

    Raises:
        ValueError: it is neither.
    """
    if re.fullmatch(r"[A-Za-z0-9._+!-]{1,300}", filename) is None:
        raise ValueError("is not the name of a wheel or of a source distribution")
    if filename.endswith(".whl"):
        parts = filename.removesuffix(".whl").split("-")
        if len(parts) in (5, 6) and all(parts):
            return Named(project=normalized(parts[0]), version=parts[1], rest="-".join(parts[2:]) + ".whl")
    for suffix in (".tar.gz", ".zip"):
        name, dash, version = filename.removesuffix(suffix).rpartition("-")
        if filename.endswith(suffix) and dash and name and re.fullmatch(VERSION, version):
            return Named(project=normalized(name), version=version, rest=suffix)
    raise ValueError("is not the name of a wheel or of a source distribution")


def bounded(found: list[LockedFile]) -> tuple[LockedFile, ...]:
    """Count the same file once.

    Raises:
        DocumentError: there are more than anybody installs.
    """
    if len(found) > MAX_FILES:
        raise DocumentError("", f"names {len(found)} files, at most {MAX_FILES} are read")
    return tuple(dict.fromkeys(found))
