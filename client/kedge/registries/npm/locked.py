"""What a lockfile says, whoever wrote it: packages by name, version and digest, and what is no package of a registry.

Every entry of a lockfile becomes one :class:`LockedPackage`, so that nothing that was locked is left uncounted. An
entry that no registry signature can speak for carries the reason why.

Digests as npm writes them: Subresource Integrity (``sha512-…``), and the older hexadecimal ``shasum``.

A lockfile's value may hold several digests. The strongest algorithm counts, as in SRI; where it stands there twice
with different values, the lockfile allows two contents, and nothing can be bound to it.

Source: W3C Subresource Integrity §3.2, §3.3.

Packages' archives on disk: where ``--tarballs DIR`` holds the one of a package, and what its digests are.

Found are: what ``npm pack`` writes (``scope-name-1.0.0.tgz``), Yarn's offline mirror (``@scope-name-1.0.0.tgz``), a
copy of a registry (``@scope/name/-/name-1.0.0.tgz``), and npm's cache, whose files are named by their digest.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from kedge.documents import DocumentError
from kedge.errors import InputError, StoreError

STRENGTH = {"sha1": 1, "sha256": 2, "sha384": 3, "sha512": 4}
_SIZES = {name: hashlib.new(name, usedforsecurity=False).digest_size for name in STRENGTH}
_TOKEN = re.compile(r"(sha1|sha256|sha384|sha512)-([A-Za-z0-9+/]+={0,2})(\?[!-~]*)?")


@dataclass(frozen=True)
class Digest:
    """One digest of one content. Two are equal if algorithm and bytes are."""

    algorithm: str
    value: bytes

    @cached_property
    def sri(self) -> str:
        """The digest as npm signs it: ``sha512-…`` with padded base64."""
        return f"{self.algorithm}-{base64.b64encode(self.value).decode('ascii')}"

    def matches(self, data: bytes) -> bool:
        """Whether these bytes have this digest."""
        return hashlib.new(self.algorithm, data, usedforsecurity=False).digest() == self.value


def parse_sri(text: str) -> tuple[Digest, ...]:
    """Read an integrity value: digests apart by white space, in their order, each once.

    Raises:
        ValueError: one of them is no digest of an algorithm that npm uses, or has another length.
    """
    digests: dict[Digest, None] = {}
    for token in text.split():
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise ValueError(f"must be a digest such as sha512-…, not {_shown(token)}")
        try:
            value = base64.b64decode(match[2], validate=True)
        except binascii.Error as error:
            raise ValueError(f"must hold base64, not {_shown(token)}") from error
        if len(value) != _SIZES[match[1]]:
            raise ValueError(f"must be a {match[1]} digest of {_SIZES[match[1]]} bytes, not of {len(value)}")
        digests[Digest(match[1], value)] = None
    if not digests:
        raise ValueError("must not be empty")
    return tuple(digests)


def parse_shasum(text: str) -> Digest:
    """Read a ``shasum``: SHA-1 in hexadecimal digits.

    Raises:
        ValueError: it is not that.
    """
    if re.fullmatch(r"[0-9a-fA-F]{40}", text) is None:
        raise ValueError(f"must be 40 hexadecimal digits, not {_shown(text)}")
    return Digest("sha1", bytes.fromhex(text))


def strongest(digests: tuple[Digest, ...]) -> tuple[Digest, ...]:
    """The digests of the strongest algorithm among them; empty if there are none."""
    best = max((STRENGTH[digest.algorithm] for digest in digests), default=0)
    return tuple(digest for digest in digests if STRENGTH[digest.algorithm] == best)


def digest_of(data: bytes, algorithm: str = "sha512") -> Digest:
    """The digest of some bytes."""
    return Digest(algorithm, hashlib.new(algorithm, data, usedforsecurity=False).digest())


def _shown(text: str) -> str:
    return ascii(text[:60])


_NAME = re.compile(
    r"(@[^\x00-\x20\x7f-\x9f@:/\\.][^\x00-\x20\x7f-\x9f@:/\\]*/)?[^\x00-\x20\x7f-\x9f@:/\\.][^\x00-\x20\x7f-\x9f@:/\\]*"
)
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+-]*")
MAX_NAME = 214


class Skip(StrEnum):
    """Why no registry signature can vouch for an entry.

    What belongs to the project (``WORKSPACE``, ``LOCAL``), or is inside of the archive of the package that bundles it,
    needs none. Everything else is a failure, unless the user's own policy allows it.
    """

    LOCAL = "local"
    GIT = "git"
    WORKSPACE = "workspace"
    BUNDLED = "bundled"
    REMOTE = "remote"
    OUTSIDE = "outside"
    UNKNOWN = "unknown"

    @property
    def is_own(self) -> bool:
        """Whether it belongs to the project, or to the archive of another package."""
        return self in (Skip.LOCAL, Skip.WORKSPACE, Skip.BUNDLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedPackage:
    """One entry. ``digests`` is empty where the lockfile holds none; ``where`` are its places in the lockfile.

    ``version`` is empty where ``skip`` is set and the lockfile names none. ``unbound`` says why its digests, if any,
    do not stand for the bytes that the registry signs. ``aliases`` are other packages' names that it is installed as.
    """

    name: str
    version: str
    digests: tuple[Digest, ...] = ()
    resolved: str | None = None
    where: tuple[str, ...] = ()
    skip: Skip | None = None
    unbound: str | None = None
    aliases: tuple[str, ...] = ()

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
        source = package.resolved if package.skip is not None else None
        key = (package.name, package.version, package.digests, package.skip, package.unbound, source)
        found.setdefault(key, []).append(package)
    return tuple(
        replace(
            same[0],
            where=tuple(dict.fromkeys(place for package in same for place in package.where)),
            aliases=tuple(dict.fromkeys(name for package in same for name in package.aliases)),
        )
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


_CHUNK_BYTES = 1 << 20


class Archives:
    """The archives below one folder, listed once."""

    def __init__(self, folder: Path) -> None:
        """List the folder.

        Raises:
            InputError: there is no such folder.
        """
        if not folder.is_dir():
            raise InputError(f"{folder}: there is no such folder of archives")
        self._by_name: dict[str, list[Path]] = {}
        self._contents: list[Path] = []
        for here, folders, files in os.walk(folder):
            if Path(here).name == "content-v2":
                self._contents.append(Path(here))
                folders.clear()
            for name in files:
                if name.endswith((".tgz", ".tar.gz")):
                    self._by_name.setdefault(name, []).append(Path(here) / name)

    def find(self, package: LockedPackage) -> list[Path]:
        """Where a package's archive may be: several places if its name does not tell it from another package's."""
        scope, _, plain = package.name.rpartition("/")
        stem = f"{plain}-{package.version}"
        flat = {f"{scope[1:]}-{stem}", f"{scope}-{stem}"} if scope else {stem}
        found: list[Path] = []
        for ending in (".tgz", ".tar.gz"):
            for name in sorted(flat):
                found += [path for path in self._by_name.get(name + ending, ()) if scope or not _scope(path)]
            if scope:
                found += [path for path in self._by_name.get(stem + ending, ()) if _scope(path) == scope]
        return [*found, *self._by_digest(package)]

    def _by_digest(self, package: LockedPackage) -> Iterator[Path]:
        for digest in package.digests:
            digits = digest.value.hex()
            for folder in self._contents:
                path = folder / digest.algorithm / digits[:2] / digits[2:4] / digits[4:]
                if path.is_file():
                    yield path


def digests(path: Path, algorithms: Iterable[str]) -> dict[str, Digest]:
    """Digest a file by several algorithms, reading it once.

    Raises:
        StoreError: it cannot be read.
    """
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                for each in hashes.values():
                    each.update(chunk)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    return {name: Digest(name, each.digest()) for name, each in hashes.items()}


def _scope(path: Path) -> str | None:
    """The scope that the folders above a file name: ``@scope/``, ``@scope/name/`` or ``@scope/name/-/``."""
    return next((folder.name for folder in list(path.parents)[:3] if folder.name.startswith("@")), None)
