"""Lockfiles of npm, pnpm, Yarn and Bun, and plain lines: bytes in, packages out. No file is opened here.

The kind is told by the file's name, as the package managers do it: what a file looks like is the choice of whoever
wrote it. Yarn itself tells its two forms by what is in the file. A lockfile of a form that is not known here is
refused: it could name packages in a way that would be overlooked.
"""

from __future__ import annotations

import re
from enum import StrEnum

from kedge.documents import DocumentError
from kedge.registries.npm.locked import Lockfile
from kedge.registries.npm.lockfiles import berry, bun, classic, lines, packagelock, pnpm

NAMES = ("npm-shrinkwrap.json", "package-lock.json", "pnpm-lock.yaml", "yarn.lock", "bun.lock")
"""The file names that package managers write, in the order in which npm prefers its own two."""

read_lines = lines.read


class LockfileKind(StrEnum):
    """The package manager that reads a lockfile, which says how it is read."""

    NPM = "npm"
    PNPM = "pnpm"
    YARN = "yarn"
    BUN = "bun"

    @classmethod
    def of_name(cls, name: str) -> LockfileKind | None:
        """The kind of a file of this name; None if no package manager reads a file of this name."""
        return dict(zip(NAMES, (cls.NPM, cls.NPM, cls.PNPM, cls.YARN, cls.BUN), strict=True)).get(name)


_CONFLICT = re.compile(r"^(<{7}|\|{7}|>{7})( |$)|^={7}$", re.MULTILINE)


def read_lockfile(data: bytes, kind: LockfileKind) -> Lockfile:
    """Read a lockfile of a kind.

    Raises:
        DocumentError: it is no lockfile of this kind, or one that is damaged; the path leads to the fault.
    """
    if data.startswith((b"#!/usr/bin/env bun\nbun-lockfile", b"bun-lockfile")):
        raise DocumentError("", "is Bun's binary lockfile: write bun.lock with bun install --save-text-lockfile")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError("", f"is not UTF-8 (byte {error.start})") from error
    if not text.strip():
        raise DocumentError("", "is empty, expected a lockfile")
    conflict = _CONFLICT.search(text.replace("\r\n", "\n"))
    if conflict is not None:
        number = text.replace("\r\n", "\n").count("\n", 0, conflict.start()) + 1
        raise DocumentError(f"line {number}", "is a marker of a merge conflict: resolve it first")
    if kind is LockfileKind.NPM:
        return packagelock.read(text)
    if kind is LockfileKind.PNPM:
        return pnpm.read(text)
    if kind is LockfileKind.BUN:
        return bun.read(text)
    if re.search(r"^__metadata:", text, re.MULTILINE):
        if re.search(r"^# *yarn lockfile v1", text, re.MULTILINE):
            raise DocumentError("", "is a yarn.lock of Yarn 1 by its comment, and of Yarn 2 or later by __metadata")
        return berry.read(text)
    return classic.read(text)
