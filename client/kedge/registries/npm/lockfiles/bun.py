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
    Skip,
    check_name,
    check_version,
    merge,
    read_integrity,
)
from kedge.registries.npm.lockfiles.packagelock import load
from kedge.registries.npm.lockfiles.source import all_fields, is_inside, odd, split_spec, told_apart

VERSIONS = (0, 1, 2)
REGISTRY_ITEMS = 4
_FIELDS = frozenset(
    {
        "lockfileVersion", "configVersion", "workspaces", "packages", "overrides", "patchedDependencies", "catalog",
        "catalogs", "trustedDependencies",
    }
)  # fmt: skip
_SIGN = re.compile(r'["/,]')
_QUOTE_OR_ESCAPE = re.compile(r'["\\]')
_BLANKS = re.compile(r"\s*")


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
    all_fields(document, _FIELDS, "")
    packages = fields.table("packages")
    found = [_entry(name, document["packages"][name], packages.at(name)) for name in packages.names()]
    if not found and any(_requires(entry) for _, entry in fields.table("workspaces").items()):
        fields.fail("packages", "is empty, though a workspace has dependencies (is the file cut off?)")
    return Lockfile(kind=f"bun.lock v{version}", packages=merge(found))


def plain_json(text: str) -> str:
    """Put blanks in the place of comments and trailing commas; what stands inside quotes is left alone.

    Raises:
        DocumentError: a comment does not end.
    """
    parts: list[str] = []
    done = at = 0
    comma = -1  # where a comma is among the parts, with nothing but blanks and comments behind it
    while found := _SIGN.search(text, at):
        begin, at = found.span()
        if text[done:begin].strip():
            if text[done:begin].lstrip()[0] in "]}" and comma >= 0:
                parts[comma] = " "
            comma = -1
        parts.append(text[done:begin])
        if found[0] == '"':
            comma, at = -1, _end_of_text(text, at)
            parts.append(text[begin:at])
        elif found[0] == ",":
            comma = len(parts)
            parts.append(",")
        elif text.startswith(("//", "/*"), begin):
            ending = "\n" if text[at] == "/" else "*/"
            end = text.find(ending, at + 1)
            if end < 0 and ending == "*/":
                raise DocumentError("", "holds a comment that does not end (is the file cut off?)")
            at = len(text) if end < 0 else end + len(ending)
            parts.append(" ")
        else:
            parts.append("/")
        done = at
    if text[done:].lstrip()[:1] in ("]", "}") and comma >= 0:
        parts[comma] = " "
    return "".join(parts) + text[done:]


def _end_of_text(text: str, at: int) -> int:
    while found := _QUOTE_OR_ESCAPE.search(text, at):
        if found[0] == '"':
            return found.end()
        at = found.end() + 1
    return len(text)


def _requires(workspace: Fields) -> bool:
    return any(name in workspace for name in ("dependencies", "devDependencies", "optionalDependencies"))


def _entry(place: str, item: Any, path: str) -> LockedPackage:
    name = ""
    try:
        if not isinstance(item, list) or not item or not isinstance(item[0], str):
            raise DocumentError(path, 'must be a list that begins with a text such as "lodash@4.17.21"')
        name, version = split_spec(item[0])
        skip = told_apart(version)
        if skip is Skip.WORKSPACE and not is_inside(version.removeprefix("workspace:")):
            skip = Skip.OUTSIDE
        if skip is not None:
            return LockedPackage(name=name, version="", resolved=version, where=(place,), skip=skip)
        check_name(name, f"{path}[0]")
        check_version(version, f"{path}[0]")
        digests: tuple[Digest, ...] = ()
        if len(item) > REGISTRY_ITEMS:
            raise DocumentError(path, f"must have {REGISTRY_ITEMS} items")
        if len(item) == REGISTRY_ITEMS and item[3] != "":
            if not isinstance(item[3], str):
                raise DocumentError(f"{path}[3]", "must be a text such as sha512-…")
            digests = read_integrity(item[3], f"{path}[3]")
        resolved = item[1] if len(item) > 1 and isinstance(item[1], str) and item[1] else None
        if resolved is not None and told_apart(resolved) is not Skip.REMOTE:
            raise DocumentError(f"{path}[1]", f"must be the address of a registry, not {resolved[:80]!a}")
        outer = _installed_as(place)
        aliases = (outer,) if outer != name else ()
        return LockedPackage(
            name=name, version=version, digests=digests, resolved=resolved, where=(place,), aliases=aliases
        )
    except DocumentError as error:
        return odd(name, place, error)


def _installed_as(place: str) -> str:
    """The last package's name of a place such as ``a/@scope/b``."""
    parts = place.split("/")
    return "/".join(parts[-2:]) if len(parts) > 1 and parts[-2].startswith("@") else parts[-1]
