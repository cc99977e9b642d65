"""Packages' archives on disk: where ``--tarballs DIR`` holds the one of a package, and what its digests are.

Found are: what ``npm pack`` writes (``scope-name-1.0.0.tgz``), Yarn's offline mirror (``@scope-name-1.0.0.tgz``), a
copy of a registry (``@scope/name/-/name-1.0.0.tgz``), and npm's cache, whose files are named by their digest.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from kedge.errors import InputError, StoreError
from kedge.registries.npm.integrity import Digest
from kedge.registries.npm.locked import LockedPackage

__all__ = ["Archives", "digests"]

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
