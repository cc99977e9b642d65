"""``pnpm-lock.yaml``, lockfile versions 5, 6 and 9.

``packages`` is keyed ``/name/version_peers`` in version 5, ``/name@version(peers)`` in version 6 and ``name@version``
in version 9, with ``resolution`` below, which says what pnpm fetches. A file may hold several documents (pnpm writes
what it needs itself into one of its own); each is read.

Source: pnpm's lockfile types, and ``pkgSnapshotToResolution``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kedge.documents import DocumentError, Fields
from kedge.registries.npm.locked import LockedPackage, Lockfile, Skip, check_name, check_version, merge, read_integrity
from kedge.registries.npm.lockfiles.source import all_fields, is_git_host, is_inside, odd, split_spec, told_apart
from kedge.yaml_subset import load_yaml

_VERSION = re.compile(r"5\.[0-9]|6\.[01]|9\.0")
_DEPENDENCIES = ("dependencies", "devDependencies", "optionalDependencies")
_FIELDS = frozenset(
    {
        "lockfileVersion", "settings", "catalogs", "overrides", "packageExtensionsChecksum", "pnpmfileChecksum",
        "ignoredOptionalDependencies", "patchedDependencies", "importers", "packages", "snapshots", "time",
        "specifiers", "dependenciesMeta", "neverBuiltDependencies", "onlyBuiltDependencies", "registry",
        "publishDirectory",
        *_DEPENDENCIES,
    }
)  # fmt: skip
_REGISTRY_FIELDS = frozenset({"integrity", "tarball"})


def read(text: str) -> Lockfile:
    """Read the lockfile.

    Raises:
        DocumentError: it is damaged, or of another version.
    """
    found: list[LockedPackage] = []
    version = ""
    for document in load_yaml(text):
        fields = Fields(document.value)
        stated = document.value.get("lockfileVersion")
        version = str(stated) if isinstance(stated, str | float) else fields.text("lockfileVersion")
        if _VERSION.fullmatch(version) is None:
            fields.fail("lockfileVersion", f"is {version[:20]}; 5, 6 and 9 are read")
        all_fields(document.value, _FIELDS, "")
        if fields.names() == ("lockfileVersion",):
            fields.fail("importers", "is missing (is the file cut off?)")
        found += _packages(fields, document.value, version)
    return Lockfile(kind=f"pnpm-lock v{version}", packages=merge(found))


def _packages(fields: Fields, document: Mapping[str, Any], version: str) -> Iterator[LockedPackage]:
    aliases: dict[str, set[str]] = {}
    inner = document.get("snapshots" if version == "9.0" else "packages")
    for table in inner.values() if isinstance(inner, dict) else ():
        for name, wanted in _dependencies(table):
            aliases.setdefault(_key(wanted), set()).add(name)
    yield from _linked(fields, document, aliases)
    if document.get("packages") is None:
        if not all(key.startswith("link:") for key in aliases):
            fields.fail("packages", "is missing, though there are dependencies (is the file cut off?)")
        return
    if version == "9.0" and "snapshots" not in fields:
        fields.fail("snapshots", "is missing (is the file cut off?)")
    packages = fields.table("packages")
    for place, value in document["packages"].items():
        if isinstance(value, dict):
            yield from _entry(place, packages.table(place), version, aliases)
        else:
            yield odd("", place, DocumentError(packages.at(place), "must be a table"))


def _linked(fields: Fields, document: Mapping[str, Any], aliases: dict[str, set[str]]) -> Iterator[LockedPackage]:
    """The folders that importers link to; what else they need goes into ``aliases``."""
    for folder, table in _importers(fields, document):
        for name, wanted in _dependencies(table):
            aliases.setdefault(_key(wanted), set()).add(name)
            if wanted.startswith("link:"):
                skip = Skip.WORKSPACE if is_inside(wanted, folder) else Skip.OUTSIDE
                yield LockedPackage(name=name, version="", resolved=wanted, where=(folder,), skip=skip)


def _importers(fields: Fields, document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if "importers" in fields:
        fields.table("importers")
        yield from document["importers"].items()
    else:
        yield ".", document


def _dependencies(table: Any) -> Iterator[tuple[str, str]]:
    """Each dependency of an importer or a package: the name that it is installed as, and what it is."""
    for group in _DEPENDENCIES:
        members = table.get(group) if isinstance(table, dict) else None
        for name, value in (members if isinstance(members, dict) else {}).items():
            wanted = value.get("version") if isinstance(value, dict) else value
            if isinstance(wanted, str):
                yield name, wanted


def _key(text: str) -> str:
    """The key of a package without its peers: ``/a@1.0.0(b@2.0.0)`` is ``/a@1.0.0``."""
    return text.partition("(")[0]


def _entry(place: str, entry: Fields, version: str, aliases: Mapping[str, set[str]]) -> Iterator[LockedPackage]:
    name = ""
    try:
        key = _key(place).removeprefix("/")
        name, wanted = _split_5(key) if version.startswith("5") else split_spec(key)
        resolution = entry.table("resolution")
        if resolution.optional("type", resolution.text) == "variations":
            yield from _variants(name, wanted, place, resolution)
            return
        skip, source = _source(resolution, place, wanted)
        if skip is not None:
            if "name" in entry:
                name = entry.text("name")
            stated = entry.text("version") if "version" in entry else ""
            yield LockedPackage(
                name=name or place, version=stated, resolved=source, where=(place,), skip=skip,
            )  # fmt: skip
            return
        unknown = set(resolution.names()) - _REGISTRY_FIELDS
        if unknown:
            resolution.fail(min(unknown), "is not known here")
        if "name" in entry and entry.text("name") != name:
            entry.fail("name", f"is not {name}, as the entry's key says")
        others = {*aliases.get(_key(place), ()), *aliases.get(key, ())} - {name}
        yield LockedPackage(
            name=check_name(name, entry.path),
            version=check_version(wanted, entry.path),
            digests=read_integrity(resolution.text("integrity"), resolution.at("integrity"))
            if "integrity" in resolution
            else (),
            resolved=source,
            where=(place,),
            aliases=tuple(sorted(others)),
        )
    except DocumentError as error:
        yield odd(name, place, error)


def _split_5(key: str) -> tuple[str, str]:
    """Split ``@scope/name/1.0.0_peers``."""
    name, _, rest = key.rpartition("/")
    if "_" in name or (name.count("/") and not name.startswith("@")):
        match = re.fullmatch(r"((?:@[^/]+/)?[^/@]+)/([^/_]+)_.*", key)
        name, rest = (match[1], match[2]) if match else ("", "")
    return name, rest.partition("_")[0]


def _source(resolution: Fields, place: str, wanted: str) -> tuple[Skip | None, str | None]:
    """Why this is no package of a registry, if it is none, and where it comes from; as pnpm decides it."""
    kind = resolution.optional("type", resolution.text)
    if kind == "directory":
        folder = resolution.text("directory")
        return (Skip.LOCAL if is_inside(folder) else Skip.OUTSIDE), f"file:{folder}"
    if kind == "git":
        return Skip.GIT, resolution.text("repo")
    if kind == "binary":
        return Skip.REMOTE, resolution.text("url")
    if kind is not None:
        resolution.fail("type", f"is {kind[:40]!a}, which is not known here")
    tarball = resolution.optional("tarball", resolution.text)
    if "gitHosted" in resolution and resolution.boolean("gitHosted"):
        return Skip.GIT, tarball or wanted
    if tarball is not None:
        skip = told_apart(tarball)
        if skip is Skip.REMOTE and told_apart(wanted) is None and wanted and place.startswith(("/", _name_of(place))):
            return None, tarball  # a registry's archive has a URL too; its digest is checked
        return (skip or Skip.UNKNOWN), tarball
    skip = told_apart(wanted)
    if skip is None and not place.startswith("/") and is_git_host(f"https://{place}"):
        skip = Skip.GIT
    if skip is None and place.startswith("file:"):
        return told_apart(place), place
    return skip, wanted if skip is not None else None


def _name_of(place: str) -> str:
    name = split_spec(place)[0]
    return name if name.count("/") == name.startswith("@") else "\0"


def _variants(name: str, version: str, place: str, resolution: Fields) -> Iterator[LockedPackage]:
    """Archives of one runtime for several machines, which no registry of packages signs: one entry for each folder."""
    folders = dict.fromkeys(
        f"{each.table('resolution').text('url').rpartition('/')[0]}/" for each in resolution.tables("variants")
    )
    if not folders:
        resolution.fail("variants", "must not be empty")
    for folder in folders:
        yield LockedPackage(
            name=name,
            version=version.rpartition(":")[2],
            resolved=folder,
            where=(place,),
            skip=Skip.REMOTE,
        )
