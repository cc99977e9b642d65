"""``bun.lock``, versions 0, 1 and 2: JSON with comments and trailing commas.

``packages`` holds a list for each place: ``["name@version", registry, info, integrity]`` for a package of a registry;
``name@workspace:…``, ``@link:``, ``@file:``, ``@root:``, ``@github:…`` and ``@https://…`` are shorter. The list's first
item counts, not the place: that is where an alias shows its real name.

Source: the types for bun.lock in Bun's own declarations.
"""

from __future__ import annotations

import re
from typing import Any

from kedge.documents import DocumentError, Fields
from kedge.registries.npm.locked import (
    Digest,
    LockedPackage,
    Lockfile,
    check_name,
    check_version,
    merge,
    read_integrity,
)
from kedge.registries.npm.lockfiles.packagelock import load
from kedge.registries.npm.lockfiles.source import split_spec, told_apart

VERSIONS = (0, 1, 2)
REGISTRY_ITEMS = 4
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*|/\*.*?\*/|,(?=(?:\s|//[^\n]*|/\*.*?\*/)*[}\]])', re.DOTALL)


def is_bun(text: str) -> bool:
    """Whether this JSON is Bun's: its packages are lists."""
    return re.search(r'"packages"\s*:\s*\{\s*(\}|("(?:[^"\\]|\\.)*"\s*:\s*\[))', plain_json(text)) is not None


def read(text: str) -> Lockfile:
    """Read the lockfile.

    Raises:
        DocumentError: it is damaged, or of another version.
    """
    document = load(plain_json(text))
    fields = Fields(document)
    version = fields.integer("lockfileVersion")
    if version not in VERSIONS:
        fields.fail("lockfileVersion", f"is {version}; 0, 1 and 2 are read")
    packages = fields.table("packages")
    found = [_entry(name, document["packages"][name], packages.at(name)) for name in packages.names()]
    return Lockfile(kind=f"bun.lock v{version}", packages=merge(found))


def plain_json(text: str) -> str:
    """Take comments and trailing commas out; what stands inside quotes is left alone."""
    return _TOKEN.sub(lambda match: match[0] if match[0].startswith('"') else " " * (match[0] != ","), text)


def _entry(place: str, item: Any, path: str) -> LockedPackage:
    if not isinstance(item, list) or not item or not isinstance(item[0], str):
        raise DocumentError(path, 'must be a list that begins with a text such as "lodash@4.17.21"')
    name, version = split_spec(item[0])
    skip = told_apart(version)
    if skip is not None:
        return LockedPackage(name=name, version="", resolved=version, where=(place,), skip=skip)
    check_name(name, f"{path}[0]")
    check_version(version, f"{path}[0]")
    digests: tuple[Digest, ...] = ()
    if len(item) >= REGISTRY_ITEMS and item[3] != "":
        if not isinstance(item[3], str):
            raise DocumentError(f"{path}[3]", "must be a text such as sha512-…")
        digests = read_integrity(item[3], f"{path}[3]")
    resolved = item[1] if len(item) > 1 and isinstance(item[1], str) and item[1] else None
    return LockedPackage(name=name, version=version, digests=digests, resolved=resolved, where=(place,))
