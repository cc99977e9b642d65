"""``yarn.lock`` of Yarn 2 and later ("berry"), lockfile versions 4 to 9.

``resolution`` names the package as ``name@npm:version``. ``checksum`` is the digest of the zip file that Yarn makes out
of the archive, with a compression that is the user's choice: it says nothing about the bytes that the registry signs.
Such a package is bound by its archive's bytes only (``--tarballs``).

Source: read off the files that Yarn 4 writes; the Yarn documentation of checksums.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from kedge.documents import DocumentError, Fields
from kedge.registries.npm.locked import LockedPackage, Lockfile, Skip, check_name, check_version, merge
from kedge.registries.npm.lockfiles.source import split_spec, told_apart
from kedge.registries.npm.lockfiles.yamltext import load_all

VERSIONS = ("4", "5", "6", "7", "8", "9")
UNBOUND = "a yarn.lock of Yarn 2 or later holds the digest of Yarn's own zip file, not of what the registry signs"


def read(text: str) -> Lockfile:
    """Read the lockfile.

    Raises:
        DocumentError: it is damaged, or of another version.
        StoreError: the YAML reader is not installed.
    """
    documents = load_all(text)
    if len(documents) != 1:
        raise DocumentError("", f"must be one YAML document, not {len(documents)}")
    fields = Fields(documents[0])
    version = fields.table("__metadata").text("version")
    if version not in VERSIONS:
        fields.fail("__metadata", f"version is {version[:20]}; 4 to 9 are read")
    found = [_entry(place, entry) for place, entry in fields.items() if place != "__metadata"]
    return Lockfile(kind=f"yarn.lock berry v{version}", packages=merge(found))


def _entry(place: str, entry: Fields) -> LockedPackage:
    name, source = split_spec(entry.text("resolution"))
    version = entry.text("version")
    if source.startswith("patch:"):
        # patch:lodash@npm%3A4.17.21#…: the archive below the patch has an entry of its own.
        return LockedPackage(name=name, version=version, resolved=source, where=(place,), skip=Skip.LOCAL)
    if source.startswith("npm:"):
        return LockedPackage(
            name=check_name(name, entry.at("resolution")),
            version=check_version(re.sub(r"::.*$", "", source.removeprefix("npm:")), entry.at("resolution")),
            resolved=_archive(source),
            where=(place,),
            unbound=UNBOUND,
        )
    skip = told_apart(source)
    if skip is None:
        entry.fail("resolution", f"is {source[:60]!a}, which is not known here")
    return LockedPackage(name=name, version=version, resolved=source, where=(place,), skip=skip)


def _archive(source: str) -> str | None:
    match = re.search(r"::__archiveUrl=([^&]+)", source)
    return unquote(match[1]) if match else None
