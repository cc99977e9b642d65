"""``pnpm-lock.yaml``, lockfile versions 6 and 9.

``packages`` is keyed ``/name@version(peers)`` in version 6 and ``name@version`` in version 9, with
``resolution.integrity`` below. A file may hold several documents (pnpm writes what it needs itself into one of its
own); each is read.

Source: pnpm's lockfile types and specification pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

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
from kedge.registries.npm.lockfiles.yamltext import Node, load_all

VERSIONS = ("6.0", "6.1", "9.0")


def read(text: str) -> Lockfile:
    """Read the lockfile.

    Raises:
        DocumentError: it is damaged, or of another version.
        StoreError: the YAML reader is not installed.
    """
    documents = [document for document in load_all(text) if document != ""]
    if not documents:
        raise DocumentError("", "is empty, expected a pnpm-lock.yaml")
    found: list[LockedPackage] = []
    version = ""
    for document in documents:
        fields = Fields(document)
        version = fields.text("lockfileVersion")
        if version not in VERSIONS:
            fields.fail("lockfileVersion", f"is {version[:20]}; 6.0, 6.1 and 9.0 are read")
        if fields.names() == ("lockfileVersion",):
            fields.fail("importers", "is missing (is the file cut off?)")
        found += _packages(fields, document)
    return Lockfile(kind=f"pnpm-lock v{version}", packages=merge(found))


def _packages(fields: Fields, document: Node) -> Iterator[LockedPackage]:
    if "packages" not in fields or (isinstance(document, dict) and document["packages"] == ""):
        return
    if fields.text("lockfileVersion") == "9.0" and "snapshots" not in fields:
        fields.fail("snapshots", "is missing (is the file cut off?)")
    for place, entry in fields.table("packages").items():
        yield _entry(place, entry)


def _entry(place: str, entry: Fields) -> LockedPackage:
    resolution = entry.table("resolution")
    key = re.sub(r"\(.*\)$", "", place, flags=re.DOTALL)
    name, version = split_spec(key.removeprefix("/"))
    skip = _skip(resolution, version, place)
    if skip is not None:
        if "name" in entry:
            name = entry.text("name")
        return LockedPackage(
            name=name or place, version=_stated(entry), resolved=_tarball(resolution), where=(place,), skip=skip
        )
    return LockedPackage(
        name=check_name(name, entry.path),
        version=check_version(version, entry.path),
        digests=read_integrity(resolution.text("integrity"), resolution.at("integrity"))
        if "integrity" in resolution
        else (),
        resolved=_tarball(resolution),
        where=(place,),
    )


def _skip(resolution: Fields, version: str, place: str) -> Skip | None:
    kinds = {"directory": Skip.LOCAL, "git": Skip.GIT}
    kind = resolution.optional("type", resolution.text)
    if kind is not None:
        return kinds.get(kind) or resolution.fail("type", f"is {kind[:40]!r}, which is not known here")
    skip = told_apart(version)
    if skip is None and not place.startswith("/") and re.match(r"(github|gitlab|bitbucket)\.(com|org)/", place):
        return Skip.GIT
    if skip is None and place.startswith("file:"):
        return Skip.LOCAL
    return skip


def _tarball(resolution: Fields) -> str | None:
    return resolution.optional("tarball", resolution.text)


def _stated(entry: Fields) -> str:
    return entry.text("version") if "version" in entry else ""
