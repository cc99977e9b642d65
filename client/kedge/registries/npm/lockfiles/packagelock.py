"""``package-lock.json`` and ``npm-shrinkwrap.json``, lockfile versions 1, 2 and 3.

Versions 2 and 3 list ``packages`` by their folder; version 2 repeats them in version 1's form under ``dependencies``
for old tools. Version 1 is a tree of ``dependencies``. Each version of npm reads another one of the two, so that both
are read, and must agree. ``resolved`` decides nothing about which registry is asked: that is the user's configuration.

Source: the npm documentation of package-lock.json; Arborist's ``load-virtual.js``, ``node.js`` and ``reify.js``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
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
from kedge.registries.npm.lockfiles.source import is_inside, odd, of_archive, split_spec, told_apart

MAX_DEPTH = 200
_REQUIRES = ("dependencies", "devDependencies", "optionalDependencies")


def read(text: str) -> Lockfile:
    """Read the lockfile.

    Raises:
        DocumentError: it is damaged, or of another version.
    """
    document = load(text)
    fields = Fields(document)
    if "lockfileVersion" not in fields:
        fields.fail("lockfileVersion", "is missing: this is no package-lock.json, or one of npm 4 or older")
    version = fields.integer("lockfileVersion")
    if version not in (1, 2, 3):
        fields.fail("lockfileVersion", f"is {version}; 1, 2 and 3 are read")
    if version == 1 and "packages" in fields:
        fields.fail("packages", "stands in a lockfile of version 1: npm 7 and later read it, older ones do not")
    if version == 3 and "dependencies" in fields:
        fields.fail("dependencies", "stands in a lockfile of version 3, which has packages only")
    tree = list(_tree(fields, 0)) if version < 3 and "dependencies" in fields else []
    if version == 1:
        return Lockfile(kind="package-lock v1", packages=merge(tree))
    packages, bundled = fields.table("packages"), _bundled(document["packages"])
    found = [_entry(place, entry, bundled) for place, entry in packages.items(but=_is_no_table) if place]
    found += [
        odd("", place, DocumentError(packages.at(place), "must be a table"))
        for place, entry in document["packages"].items()
        if _is_no_table(entry)
    ]
    if all(package.skip is Skip.WORKSPACE for package in found):
        _check_empty(document["packages"], packages)
    return Lockfile(kind=f"package-lock v{version}", packages=merge([*found, *_disagreeing(found, tree)]))


def _check_empty(entries: Mapping[str, Any], packages: Fields) -> None:
    """Check that no dependency is missing where no package is locked."""
    installed = {place.rpartition("node_modules/")[2] for place in entries if "node_modules/" in place}
    for place, entry in entries.items():
        for group in _REQUIRES:
            wanted = entry.get(group) if isinstance(entry, dict) else None
            if isinstance(wanted, dict) and not installed.issuperset(wanted):
                packages.fail(place or '""', "has dependencies, and no package is locked (is the file cut off?)")


def _is_no_table(value: Any) -> bool:
    return not isinstance(value, dict)


def _disagreeing(found: list[LockedPackage], tree: list[LockedPackage]) -> Iterator[LockedPackage]:
    """The second tree's entries, which old versions of npm install, and a fault where they are not the first's."""
    by_place = {package.where[0]: package for package in found}
    for package in tree:
        other = by_place.get(package.where[0])
        if other is not None and other.skip is not None and other.skip.is_own and package.skip is Skip.LOCAL:
            continue  # a link, written in the other form
        yield package
        if other is None or other.skip is not None or package.skip is not None:
            continue
        if (other.name, other.version, other.digests) != (package.name, package.version, package.digests):
            detail = (
                "dependencies and packages do not lock the same content here: versions of npm read one or the other"
            )
            yield replace(package, skip=Skip.UNKNOWN, unbound=detail, digests=())


def _bundled(packages: Mapping[str, Any]) -> set[str]:
    """The places whose content is in the archive of another package, as npm finds them (``getBundler``)."""
    inner: dict[str, list[str]] = {}
    for place in packages:
        inner.setdefault(place.rpartition("/node_modules/")[0], []).append(place)
    found: set[str] = set()
    for place, entry in packages.items():
        names = entry.get("bundleDependencies") if isinstance(entry, dict) and "node_modules/" in place else None
        waiting = [f"{place}/node_modules/{name}" for name in names] if isinstance(names, list) else []
        while waiting:
            each = waiting.pop()
            if each in found or not isinstance(packages.get(each), dict):
                continue
            found.add(each)
            waiting += inner.get(each, ())
            for group in ("dependencies", "optionalDependencies", "peerDependencies"):
                wanted = packages[each].get(group)
                for name in wanted if isinstance(wanted, dict) else ():
                    waiting += _answering(name, each, place, packages)
    return found


def _answering(name: str, place: str, bundler: str, packages: Mapping[str, Any]) -> Iterator[str]:
    """The place of a dependency, looked for from ``place`` upwards, as far as the bundler."""
    while place.startswith(bundler):
        wanted = f"{place}/node_modules/{name}"
        if wanted in packages:
            yield wanted
            return
        if place == bundler:
            return
        place = place.rpartition("/node_modules/")[0]


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


def _entry(place: str, entry: Fields, bundled: set[str]) -> LockedPackage:
    name = ""
    try:
        name, is_inner = _name_of(place)
        link = entry.boolean("link") if "link" in entry else False
        if link or not is_inner:
            folder = entry.text("resolved") if link else place
            kind = Skip.WORKSPACE if is_inside(folder) else Skip.OUTSIDE
            stated = entry.text("name") if not is_inner and "name" in entry else name
            return LockedPackage(name=stated, version="", resolved=folder, where=(place,), skip=kind)
        real = entry.text("name") if "name" in entry else name
        resolved = _resolved(entry)
        skip: Skip | None = of_archive(resolved) if resolved is not None else None
        marked = "inBundle" in entry and entry.boolean("inBundle")
        if marked and resolved is None and "integrity" not in entry and place in bundled:
            skip = Skip.BUNDLED
        version = entry.text("version") if "version" in entry else ""
        aliases = (name,) if real != name else ()
        return _package(entry, real, version, place, resolved, skip, aliases)
    except DocumentError as error:
        return odd(name, place, error)


def _name_of(place: str) -> tuple[str, bool]:
    """The name of the folder at a place, and whether it is one of ``node_modules``.

    Raises:
        DocumentError: npm would read the place in another way.
    """
    parts = place.split("/")
    if "node_modules" not in place:
        return place, False
    at = parts.index("node_modules") if "node_modules" in parts else len(parts)
    name = ""
    while at < len(parts):
        size = 3 if parts[at + 1 : at + 2] and parts[at + 1].startswith("@") else 2
        name = "/".join(parts[at + 1 : at + size])
        if parts[at] != "node_modules":
            break
        check_name(name, place)
        at += size
    if at != len(parts) or not name or any(part in ("", ".", "..") for part in parts):
        raise DocumentError(place, "is not a folder such as node_modules/lodash")
    return name, True


def _resolved(entry: Fields) -> str | None:
    """``resolved``; npm 5 writes ``false`` where there is none. What npm writes nowhere may mean anything."""
    hidden = next((name for name in entry.names() if name.startswith("_")), None)
    if hidden is not None:
        entry.fail(hidden, "is a field that npm takes for the package's source, and never writes")
    if "resolved" not in entry:
        return None
    try:
        return entry.text("resolved")
    except DocumentError:
        if entry.boolean("resolved"):
            raise
        return None


def _tree(fields: Fields, depth: int, above: str = "") -> Iterator[LockedPackage]:
    if depth > MAX_DEPTH:
        raise DocumentError("", "is nested too deep")
    dependencies = fields.table("dependencies")
    for name in dependencies.names():
        place = f"{above}node_modules/{name}"
        try:
            entry = dependencies.table(name)
        except DocumentError as error:
            yield odd(name, place, error)
            continue
        yield _node(name, entry, place, depth)
        if "dependencies" in entry:
            yield from _tree(entry, depth + 1, f"{place}/")


def _node(name: str, entry: Fields, place: str, depth: int) -> LockedPackage:
    try:
        check_name(name, place)
        version, resolved = entry.text("version"), _resolved(entry)
        skip, real = told_apart(version), name
        if skip is None and resolved is not None:
            skip = of_archive(resolved)
        if version.startswith("npm:"):
            real, version = split_spec(version.removeprefix("npm:"))
        if "bundled" in entry and entry.boolean("bundled") and resolved is None and "integrity" not in entry and depth:
            skip = skip or Skip.BUNDLED
        source = version if told_apart(version) else resolved
        aliases = (name,) if real != name else ()
        return _package(entry, real, "" if told_apart(version) else version, place, source, skip, aliases)
    except DocumentError as error:
        return odd(name, place, error)


def _package(
    entry: Fields,
    name: str,
    version: str,
    place: str,
    resolved: str | None,
    skip: Skip | None,
    aliases: tuple[str, ...],
) -> LockedPackage:
    if skip is not None:
        return LockedPackage(name=name, version=version, resolved=resolved, where=(place,), skip=skip, aliases=aliases)
    return LockedPackage(
        name=check_name(name, entry.at("name")),
        version=check_version(version, entry.at("version")) if version else entry.fail("version", "is missing"),
        digests=read_integrity(entry.text("integrity"), entry.at("integrity")) if "integrity" in entry else (),
        resolved=resolved,
        where=(place,),
        aliases=aliases,
    )
