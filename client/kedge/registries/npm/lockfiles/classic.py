"""``yarn.lock`` version 1: blocks of indented lines below the ranges that they answer.

::

    "@scope/a@^1.0.0", "@scope/a@~1.2.0":
      version "1.2.3"
      resolved "https://…/a-1.2.3.tgz#<sha1>"
      integrity sha512-…

Without ``integrity`` (Yarn before 1.10) the SHA-1 behind ``resolved`` is what is locked.

Source: read off the files that Yarn 1.22 writes; there is no specification.
"""

from __future__ import annotations

import json
import re

from kedge.documents import DocumentError
from kedge.registries.npm.locked import (
    Digest,
    LockedPackage,
    Lockfile,
    Skip,
    check_name,
    check_version,
    merge,
    parse_shasum,
    read_integrity,
)
from kedge.registries.npm.lockfiles.source import split_spec, told_apart

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_KEY = rf"(?:{_QUOTED}|[^\s\",:]+(?::[^\s\",]+)*)"
_HEAD = re.compile(rf"({_KEY}(?:, {_KEY})*):")
_FIELD = re.compile(rf"  (version|resolved|integrity):? ({_QUOTED}|\S.*)")

Block = dict[str, str]


def read(text: str) -> Lockfile:
    """Read the lockfile.

    Raises:
        DocumentError: a line is not of this form; its number says which.
    """
    blocks: dict[tuple[str, ...], tuple[int, Block]] = {}
    block: Block | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if not line.startswith(" "):
            block = {}
            keys = _keys(line, number)
            if keys in blocks:
                raise DocumentError(f"line {number}", f"{keys[0]} stands there twice")
            blocks[keys] = number, block
        elif block is None:
            raise DocumentError(f"line {number}", "is indented, and belongs to nothing")
        elif match := _FIELD.fullmatch(line):
            if match[1] in block:
                raise DocumentError(f"line {number}", f"{match[1]} stands there twice")
            block[match[1]] = _unquoted(match[2], number)
        elif re.match(r"    |  \S+:$|  [^\s]+ \S", line) is None:
            raise DocumentError(f"line {number}", "is not a line of a yarn.lock")
    return Lockfile(
        kind="yarn.lock v1", packages=merge([_entry(keys, number, found) for keys, (number, found) in blocks.items()])
    )


def _keys(line: str, number: int) -> tuple[str, ...]:
    match = _HEAD.fullmatch(line)
    if match is None:
        raise DocumentError(f"line {number}", 'must be ranges such as lodash@^4.17.0, and end in ":"')
    return tuple(_unquoted(key, number) for key in re.findall(_KEY, match[1]))


def _unquoted(text: str, number: int) -> str:
    if not text.startswith('"'):
        return text
    try:
        value = json.loads(text)
    except ValueError as error:
        raise DocumentError(f"line {number}", "holds a text whose quotes are not right") from error
    if not isinstance(value, str):
        raise DocumentError(f"line {number}", "must hold a text")
    return value


def _entry(keys: tuple[str, ...], number: int, block: Block) -> LockedPackage:
    place = f"line {number}"
    name, wanted = split_spec(keys[0])
    if "version" not in block:
        raise DocumentError(place, f"{name} has no version (is the file cut off?)")
    resolved = block.get("resolved")
    skip = told_apart(wanted) or (Skip.GIT if resolved is not None and told_apart(resolved) is Skip.GIT else None)
    if wanted.startswith("npm:"):
        name = split_spec(wanted.removeprefix("npm:"))[0]
    if skip is not None:
        return LockedPackage(name=name, version=block["version"], resolved=resolved, where=(place,), skip=skip)
    return LockedPackage(
        name=check_name(name, place),
        version=check_version(block["version"], place),
        digests=_digests(block, place),
        resolved=resolved,
        where=(place,),
    )


def _digests(block: Block, place: str) -> tuple[Digest, ...]:
    if "integrity" in block:
        return read_integrity(block["integrity"], place)
    shasum = block.get("resolved", "").partition("#")[2]
    try:
        return (parse_shasum(shasum),) if shasum else ()
    except ValueError as error:
        raise DocumentError(place, f"resolved: the part after # {error}") from error
