"""Lockfiles of npm, pnpm, Yarn and Bun, and plain lines: bytes in, packages out. No file is opened here.

The kind is told by the content, so that a file may bear any name. A lockfile of a version that is not known here is
refused: it could name packages in a way that would be overlooked.
"""

from __future__ import annotations

import re

from kedge.documents import DocumentError
from kedge.registries.npm.locked import Lockfile
from kedge.registries.npm.lockfiles import berry, bun, classic, lines, packagelock, pnpm

NAMES = ("npm-shrinkwrap.json", "package-lock.json", "pnpm-lock.yaml", "yarn.lock", "bun.lock")
"""The file names that package managers write, in the order in which npm prefers its own two."""

read_lines = lines.read


def read_lockfile(data: bytes) -> Lockfile:
    """Read a lockfile of any kind.

    Raises:
        DocumentError: it is no lockfile that is known here, or one that is damaged; the path leads to the fault.
        StoreError: the YAML reader for this kind is not installed.
    """
    if data.startswith((b"#!/usr/bin/env bun\nbun-lockfile", b"bun-lockfile")):
        raise DocumentError("", "is Bun's binary lockfile: write bun.lock with bun install --save-text-lockfile")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError("", f"is not UTF-8 (byte {error.start})") from error
    if not text.strip():
        raise DocumentError("", "is empty, expected a lockfile")
    if text.lstrip().startswith(("{", "//", "/*")):
        if re.search(r'"workspaces"\s*:', text) and '"node_modules/' not in text and bun.is_bun(text):
            return bun.read(text)
        return packagelock.read(text)
    if re.search(r"^__metadata:", text, re.MULTILINE):
        return berry.read(text)
    if re.search(r"^# yarn lockfile v1", text, re.MULTILINE):
        return classic.read(text)
    if re.search(r"^lockfileVersion:", text, re.MULTILINE):
        return pnpm.read(text)
    if re.search(r"^# yarn lockfile", text, re.MULTILINE):
        raise DocumentError("", "is a yarn.lock of an unknown version: v1 and berry are read")
    raise DocumentError("", "is no lockfile that is known here: npm, pnpm, Yarn or Bun")
