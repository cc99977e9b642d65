"""``package-lock.json`` and ``npm-shrinkwrap.json``, lockfile versions 1, 2 and 3.

Versions 2 and 3 list ``packages`` by their folder; version 2 repeats them in version 1's form under ``dependencies``
for old tools, which is not read. Version 1 is a tree of ``dependencies``. ``resolved`` decides nothing about which
registry is asked: that is the user's configuration.

Source: the npm documentation of package-lock.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from kedge.documents import DocumentError, Fields
from kedge.registries.npm.locked import (
    LockedPackage,
    Lockfile,
    Skip,
    check_name,
    check_version,
    merge,
    read_integrity,
)
from kedge.registries.npm.lockfiles.source import split_spec, told_apart

MAX_DEPTH = 200


def read(text: str) -> Lockfile:
    """Read the lockfile.

    Raises:
        DocumentError: it is damaged, or of another version.
    """
    fields = Fields(load(text))
    if "lockfileVersion" not in fields:
        fields.fail("lockfileVersion", "is missing: this is no package-lock.json, or one of npm 4 or older")
    version = fields.integer("lockfileVersion")
    if version not in (1, 2, 3):
        fields.fail("lockfileVersion", f"is {version}; 1, 2 and 3 are read")
    if version == 1:
        found = list(_tree(fields, 0)) if "dependencies" in fields else []
    else:
        found = [_entry(place, entry) for place, entry in fields.table("packages").items() if place]
    return Lockfile(kind=f"package-lock v{version}", packages=merge(found))


def load(text: str) -> Any:
    """Parse JSON whose names are all different. Numbers may be of any kind: package managers put what they like there.

    Raises:
        DocumentError: it is no JSON, or nested too deep.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        cut = " (is the file cut off?)" if error.pos >= len(text.rstrip()) - 1 or "Unterminated" in error.msg else ""
        raise DocumentError("", f"is not JSON: {error.msg.lower()} ({place}){cut}") from error
    except DocumentError:
        raise
    except ValueError as error:  # a number of more digits than Python reads
        raise DocumentError("", "holds a number that is too long") from error
    except RecursionError as error:
        raise DocumentError("", "is nested too deep") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise DocumentError("", f"holds the name {json.dumps(key)[:120]} twice in one object")
            seen.add(key)
    return table


def _entry(place: str, entry: Fields) -> LockedPackage:
    if "link" in entry and entry.boolean("link"):
        return LockedPackage(name=_folder_name(place), version="", where=(place,), skip=Skip.WORKSPACE)
    marker = "node_modules/"
    inside = place.rfind(marker)
    if inside < 0:
        name = entry.text("name") if "name" in entry else place
        return LockedPackage(name=name, version="", where=(place,), skip=Skip.WORKSPACE)
    name = entry.text("name") if "name" in entry else place[inside + len(marker) :]
    resolved = entry.optional("resolved", entry.text)
    skip = told_apart(resolved) if resolved is not None else None
    if skip is Skip.REMOTE:
        skip = None  # a registry's archive has a URL too: the registry is asked
    if "inBundle" in entry and entry.boolean("inBundle") and "integrity" not in entry:
        skip = Skip.BUNDLED
    return _package(entry, name, entry.text("version") if "version" in entry else "", place, resolved, skip)


def _tree(fields: Fields, depth: int, above: str = "") -> Iterator[LockedPackage]:
    if depth > MAX_DEPTH:
        raise DocumentError("", "is nested too deep")
    for name, entry in fields.table("dependencies").items():
        place = f"{above}node_modules/{name}"
        version, resolved = entry.text("version"), None
        if "resolved" in entry and "bundled" not in entry:
            resolved = entry.text("resolved")
        skip, real = told_apart(version), name
        if version.startswith("npm:"):
            real, version = split_spec(version.removeprefix("npm:"))
        if "bundled" in entry and entry.boolean("bundled") and "integrity" not in entry:
            skip = Skip.BUNDLED
        yield _package(entry, real, "" if told_apart(version) else version, place, resolved, skip)
        if "dependencies" in entry:
            yield from _tree(entry, depth + 1, f"{place}/")


def _package(
    entry: Fields, name: str, version: str, place: str, resolved: str | None, skip: Skip | None
) -> LockedPackage:
    if skip is not None:
        return LockedPackage(name=name, version=version, resolved=resolved, where=(place,), skip=skip)
    return LockedPackage(
        name=check_name(name, entry.at("name")),
        version=check_version(version, entry.at("version")) if version else entry.fail("version", "is missing"),
        digests=read_integrity(entry.text("integrity"), entry.at("integrity")) if "integrity" in entry else (),
        resolved=resolved,
        where=(place,),
    )


def _folder_name(place: str) -> str:
    return place.rpartition("node_modules/")[2] or place
