"""What a lockfile says, whoever wrote it: packages by name, version and digest, and what is no package of a registry.

Every entry of a lockfile becomes one :class:`LockedPackage`, so that nothing that was locked is left uncounted. An
entry that no registry signature can speak for carries the reason why.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum

from kedge.document import DocumentError
from kedge.registries.npm.integrity import Digest, parse_sri

__all__ = ["LockedPackage", "Lockfile", "Skip", "check_name", "check_version", "merge", "read_integrity"]

_NAME = re.compile(
    r"(@[^\x00-\x20\x7f-\x9f@:/\\.][^\x00-\x20\x7f-\x9f@:/\\]*/)?[^\x00-\x20\x7f-\x9f@:/\\.][^\x00-\x20\x7f-\x9f@:/\\]*"
)
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]*")
MAX_NAME = 214


class Skip(StrEnum):
    """Why no registry signature can speak for an entry, or is not asked to.

    ``REMOTE`` is the one that is a fault all the same: an archive from the network that no registry signed.
    """

    LOCAL = "local"
    GIT = "git"
    WORKSPACE = "workspace"
    BUNDLED = "bundled"
    RULE = "rule"
    REMOTE = "remote"


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedPackage:
    """One entry. ``digests`` is empty where the lockfile holds none; ``where`` are its places in the lockfile.

    ``version`` is empty where ``skip`` is set and the lockfile names none. ``unbound`` says why its digests, if any,
    do not stand for the bytes that the registry signs.
    """

    name: str
    version: str
    digests: tuple[Digest, ...] = ()
    resolved: str | None = None
    where: tuple[str, ...] = ()
    skip: Skip | None = None
    unbound: str | None = None

    @property
    def spec(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}" if self.version else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Lockfile:
    """A lockfile that was read: its kind in words, and its packages in order."""

    kind: str
    packages: tuple[LockedPackage, ...]


def check_name(name: str, path: str) -> str:
    """Give the name back if it can be a package's (``lodash``, ``@scope/name``) and part of a URL.

    Raises:
        DocumentError: it cannot.
    """
    if len(name) > MAX_NAME or _NAME.fullmatch(name) is None or not _is_text(name):
        raise DocumentError(path, f"must be a package name such as lodash or @scope/name, not {name[:80]!a}")
    return name


def check_version(version: str, path: str) -> str:
    """Give the version back if it can be one.

    Raises:
        DocumentError: it cannot.
    """
    if len(version) > 256 or _VERSION.fullmatch(version) is None:
        raise DocumentError(path, f"must be a version such as 1.0.0, not {version[:80]!a}")
    return version


def read_integrity(text: str, path: str) -> tuple[Digest, ...]:
    """Read a lockfile's integrity value.

    Raises:
        DocumentError: it is none.
    """
    try:
        return parse_sri(text)
    except ValueError as error:
        raise DocumentError(path, str(error)) from error


def merge(packages: list[LockedPackage]) -> tuple[LockedPackage, ...]:
    """Count what stands in several places of a lockfile once, with all its places; other digests stay apart."""
    found: dict[object, list[LockedPackage]] = {}
    for package in packages:
        key = (package.name, package.version, package.digests, package.skip, package.unbound)
        found.setdefault(key, []).append(package)
    return tuple(
        replace(same[0], where=tuple(dict.fromkeys(place for package in same for place in package.where)))
        if len(same) > 1
        else same[0]
        for same in found.values()
    )


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
