"""``yarn.lock`` of Yarn 2 and later ("berry"), lockfile version 4 and every later one of the same form.

``resolution`` names the package as ``name@npm:version``. ``checksum`` is the digest of the zip file that Yarn makes out
of the archive, with a compression that is the user's choice: it says nothing about the bytes that the registry signs.
Such a package is bound by its archive's bytes only (``--tarballs``).

Source: Yarn's ``Project.setupResolutions`` and ``stringifySyml``; the Yarn documentation of checksums.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from typing import Any
from urllib.parse import unquote

from kedge.documents import DocumentError, Fields
from kedge.registries.npm.locked import LockedPackage, Lockfile, Skip, check_name, check_version, merge
from kedge.registries.npm.lockfiles.source import all_fields, is_inside, odd, split_spec, told_apart
from kedge.yaml_subset import load_yaml

OLDEST = 4
UNBOUND = "a yarn.lock of Yarn 2 or later holds the digest of Yarn's own zip file, not of what the registry signs"
_FIELDS = frozenset(
    {
        "version", "resolution", "dependencies", "optionalDependencies", "peerDependencies", "dependenciesMeta",
        "peerDependenciesMeta", "bin", "checksum", "conditions", "languageName", "linkType",
    }
)  # fmt: skip


def read(text: str) -> Lockfile:
    """Read the lockfile.

    Raises:
        DocumentError: it is damaged, or of another version.
    """
    documents = load_yaml(text, as_texts=True)
    if len(documents) != 1:
        raise DocumentError("", f"must be one YAML document, not {len(documents)}")
    table = documents[0].value
    fields = Fields(table)
    head = fields.table("__metadata")
    version = head.text("version", pattern="[0-9]{1,4}", expected="a whole number")
    if int(version) < OLDEST:
        head.fail("version", f"is {version}; {OLDEST} and later are read")
    all_fields(table["__metadata"], frozenset({"version", "cacheKey"}), "__metadata")
    known = {str(entry.get("resolution")).partition("::")[0] for entry in table.values() if isinstance(entry, dict)}
    found = [_entry(place, value, known) for place, value in table.items() if place != "__metadata"]
    if all(package.skip is Skip.WORKSPACE for package in found):
        for place, entry in fields.items():
            wanted = entry.table("dependencies") if "dependencies" in entry else Fields({})
            if not all(wanted.text(name).startswith("workspace:") for name in wanted.names()):
                fields.fail(place, "has dependencies, and no package is locked (is the file cut off?)")
    return Lockfile(kind=f"yarn.lock berry v{version}", packages=merge(found))


def _entry(place: str, value: Any, known: AbstractSet[str]) -> LockedPackage:
    name = split_spec(place)[0]
    try:
        entry = Fields(value, place)
        all_fields(value, _FIELDS, place)
        name, source = split_spec(entry.text("resolution"))
        others = {split_spec(each.strip(" "))[0] for each in place.split(",")} - {name}
        return _of(name, source, entry, known, tuple(sorted(others)))
    except DocumentError as error:
        return odd(name, place, error)


def _of(name: str, source: str, entry: Fields, known: AbstractSet[str], aliases: tuple[str, ...]) -> LockedPackage:
    version, place = entry.text("version"), entry.path
    path = entry.at("resolution")
    if source.startswith("patch:"):
        # patch:lodash@npm%3A4.17.21#…: the archive below the patch has an entry of its own.
        inner = unquote(source.removeprefix("patch:").partition("#")[0])
        if inner.partition("::")[0] not in known:
            raise DocumentError(path, f"patches {inner[:80]!a}, which has no entry")
        return LockedPackage(name=name, version=version, resolved=source, where=(place,), skip=Skip.LOCAL)
    if source.startswith("npm:"):
        return LockedPackage(
            name=check_name(name, path),
            version=check_version(source.removeprefix("npm:").partition("::")[0], path),
            resolved=_archive(source),
            where=(place,),
            unbound=UNBOUND,
            aliases=aliases,
        )
    skip = told_apart(source)
    if skip is Skip.WORKSPACE and not is_inside(source.removeprefix("workspace:")):
        skip = Skip.OUTSIDE
    if skip is Skip.REMOTE and "#commit=" in source:
        skip = Skip.GIT
    if skip is None:
        raise DocumentError(path, f"is {source[:60]!a}, which is not known here")
    return LockedPackage(name=name, version=version, resolved=source, where=(place,), skip=skip)


def _archive(source: str) -> str | None:
    match = re.search(r"::__archiveUrl=([^&]+)", source)
    return unquote(match[1]) if match else None
