"""``yarn.lock`` of Yarn 1, read as Yarn 1 reads it: blocks of indented lines below the patterns that they answer.

::

    "@scope/a@^1.0.0", "@scope/a@~1.2.0":
      version "1.2.3"
      resolved "https://…/a-1.2.3.tgz#<sha1>"
      integrity sha512-…

Without ``integrity`` (Yarn before 1.10) the SHA-1 behind ``resolved`` is what is locked. Quoted field names, colons
behind names and several fields on one line are what Yarn 1's own parser accepts. A name that stands twice is refused,
where Yarn takes the last one; so is what its parser gives up on, where Yarn tries YAML.

Source: Yarn 1.22 ``src/lockfile/parse.js``, ``src/package-request.js``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

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
from kedge.registries.npm.lockfiles.source import all_fields, odd, of_archive, split_spec, told_apart

MAX_DEPTH: Final = 8
_HEADER = re.compile(r"yarn lockfile v([0-9]+)")
_ODD = re.compile("[^\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_PLAIN = re.compile(r"[a-zA-Z/.-][^: \n,]*")
_LITERAL = re.compile("[0-9]+|true|false")
_OFFLINE = re.compile(r"[^/:#]+\.tgz(#.*)?")
_QUOTE_OR_ESCAPE = re.compile(r'["\\]')
_FIELDS = frozenset(
    {
        "name", "version", "uid", "resolved", "integrity", "registry", "dependencies", "optionalDependencies",
        "permissions", "prebuiltVariants",
    }
)  # fmt: skip


def read(text: str) -> Lockfile:
    """Read the lockfile.

    Raises:
        DocumentError: a line is not what Yarn 1 reads; its number says which.
    """
    parser = _Parser(text)
    top = parser.mapping(0)
    blocks: dict[int, tuple[list[str], Any]] = {}
    for key, (number, value) in top.items():
        blocks.setdefault(number, ([], value))[0].append(key)
    found = [package for number, (keys, value) in blocks.items() for package in _block(keys, value, number)]
    return Lockfile(kind="yarn.lock v1", packages=merge(found))


class _Parser:
    """Yarn's parser: tokens, and mappings by their indentation. Tokens are ``(kind, value, line)``."""

    def __init__(self, text: str) -> None:
        text = text.replace("\r\n", "\n")
        strange = _ODD.search(text)
        if strange is not None:
            number = text.count("\n", 0, strange.start()) + 1
            raise DocumentError(
                f"line {number}", f"holds the character U+{ord(strange[0]):04X}, which Yarn never writes"
            )
        self._tokens = _tokens(text)
        self._token = next(self._tokens)

    def _next(self) -> None:
        self._token = next(self._tokens)

    def _fail(self, problem: str) -> DocumentError:
        return DocumentError(f"line {self._token[2]}", problem)

    def mapping(self, indent: int) -> dict[str, Any]:
        """Read a mapping; the outermost has ``(id of the block, value)`` for each name."""
        if indent > MAX_DEPTH:
            raise self._fail("is nested too deep")
        table: dict[str, Any] = {}
        while self._is_inside(indent):
            kind, value, line = self._token
            if kind != "text" or not isinstance(value, str):
                raise self._fail("must begin with a name")
            was_nested = self._names(table, indent, line)
            if was_nested and indent and self._token[0] != "indent":
                break
        return table

    def _is_inside(self, indent: int) -> bool:
        """Go to the next name; whether it belongs to the mapping of this indentation."""
        while self._token[0] in ("newline", "indent"):
            kind, value, _ = self._token
            if kind == "newline":
                self._next()
                if not indent:
                    continue
                kind, value, _ = self._token
            if kind != "indent" or value != indent:
                if not indent:
                    raise self._fail("is indented, and belongs to nothing")
                return False
            self._next()
        return self._token[0] != "end"

    def _names(self, table: dict[str, Any], indent: int, line: int) -> bool:
        """Read names and their value into ``table``; whether the value is a mapping."""
        keys = [self._token[1]]
        self._next()
        while self._token[0] == "comma":
            self._next()
            if self._token[0] != "text" or not isinstance(self._token[1], str):
                raise self._fail("must have a name behind the comma")
            keys.append(self._token[1])
            self._next()
        colon = self._token[0] == "colon"
        if colon:
            self._next()
        if self._token[0] == "text":
            value: Any = self._token[1]
            self._next()
        elif colon:
            value = self.mapping(indent + 1)
        else:
            raise DocumentError(
                f"line {line}", 'must be ranges such as lodash@^4.17.0 that end in ":", or "name value"'
            )
        for key in keys:
            if key in table or key == "__proto__":
                raise DocumentError(f"line {line}", f"{key[:80]} stands there twice, or must not stand there")
            table[key] = (line, value) if not indent else value
        return isinstance(value, dict)


def _tokens(text: str) -> Iterator[tuple[str, Any, int]]:
    for number, line in enumerate(text.split("\n"), 1):
        at = len(line) - len(line.lstrip(" "))
        if at and at < len(line):
            if at % 2:
                raise DocumentError(f"line {number}", "is indented by an odd number of blanks")
            yield "indent", at // 2, number
        while at < len(line):
            if line[at] == " ":
                at += 1
                continue
            if line[at] == "#":
                _check_comment(line[at + 1 :])
                break
            kind, value, at = _word(line, at, number)
            yield kind, value, number
        yield "newline", None, number
    while True:
        yield "end", None, number


def _check_comment(text: str) -> None:
    header = _HEADER.fullmatch(text.strip())
    if header is not None and header[1] != "1":
        raise DocumentError("", "is a yarn.lock of an unknown version: v1 and berry are read")


def _word(line: str, at: int, number: int) -> tuple[str, Any, int]:
    """The token that begins at ``at``: its kind and value, and where it ends."""
    sign = line[at]
    if sign in ":,":
        return ("colon" if sign == ":" else "comma"), sign, at + 1
    if sign == '"':
        value, end = _quoted(line, at, number)
        return "text", value, end
    if match := _LITERAL.match(line, at):
        return "text", match[0] == "true" if match[0][0] in "tf" else 0, match.end()
    if match := _PLAIN.match(line, at):
        return "text", match[0], match.end()
    raise DocumentError(f"line {number}", "is not a line of a yarn.lock")


def _quoted(line: str, at: int, number: int) -> tuple[str, int]:
    end = at + 1
    while found := _QUOTE_OR_ESCAPE.search(line, end):
        end = found.end()
        if found[0] == '"':
            try:
                value = json.loads(line[at:end])
                value.encode()
            except ValueError as error:
                raise DocumentError(f"line {number}", "holds a text whose quotes are not right") from error
            return str(value), end
        end += 1
    raise DocumentError(f"line {number}", "holds a text whose quotes are not right")


def _block(keys: list[str], block: Any, number: int) -> Iterator[LockedPackage]:
    """What a block stands for: each of its patterns is judged, unless they agree."""
    place = f"line {number}"
    try:
        if not isinstance(block, dict):
            raise DocumentError(place, "is not a block: Yarn takes its value for another pattern")
        if "version" not in block:
            raise DocumentError(place, f"{keys[0][:80]} has no version (is the file cut off?)")
        all_fields(block, _FIELDS, place)
        for name in ("version", "resolved", "integrity", "name"):
            if name in block and not isinstance(block[name], str):
                raise DocumentError(place, f"{name} must be a text")
    except DocumentError as error:
        yield odd(split_spec(keys[0])[0], place, error)
        return
    for (name, skip), (source, aliases) in _meant(keys, block).items():
        try:
            yield _package(name, skip, source, block, place, tuple(sorted(aliases - {name})))
        except DocumentError as error:
            yield odd(name, place, error)


def _meant(keys: list[str], block: dict[str, Any]) -> dict[tuple[str, Skip | None], tuple[str, set[str]]]:
    """What a block's patterns name, each package and kind once: a source, and the names that it is installed as."""
    found: dict[tuple[str, Skip | None], tuple[str, set[str]]] = {}
    specs = [split_spec(key) for key in keys]
    # By ``resolutions`` a range is answered by an alias of the same name: they share the alias' block.
    real = {outer: split_spec(wanted.removeprefix("npm:"))[0] for outer, wanted in specs if wanted.startswith("npm:")}
    for outer, wanted in specs:
        skip = None if wanted.startswith("npm:") else told_apart(wanted)
        name = outer if skip is not None else real.get(outer, outer)
        found.setdefault((name, skip), (wanted, set()))[1].add(outer)
    stated = block.get("name", keys[0])
    if "name" in block and any(skip is None for _, skip in found) and (stated, None) not in found:
        found[stated, None] = ("", {name for name, _ in found})
    return found


def _package(
    name: str, skip: Skip | None, source: str, block: dict[str, Any], place: str, aliases: tuple[str, ...]
) -> LockedPackage:
    resolved = block.get("resolved")
    if skip in (Skip.LOCAL, Skip.WORKSPACE) and resolved is not None:
        skip = told_apart(resolved) or Skip.UNKNOWN
    elif skip is None and resolved is not None and _OFFLINE.fullmatch(resolved) is None:
        skip = of_archive(resolved)
    if skip is not None:
        return LockedPackage(
            name=name, version=block["version"], resolved=resolved or source, where=(place,), skip=skip, aliases=aliases
        )
    return LockedPackage(
        name=check_name(name, place),
        version=check_version(block["version"], place),
        digests=_digests(block, place),
        resolved=resolved,
        where=(place,),
        aliases=aliases,
    )


def _digests(block: dict[str, Any], place: str) -> tuple[Digest, ...]:
    if "integrity" in block:
        return read_integrity(block["integrity"], place)
    shasum = block.get("resolved", "").partition("#")[2]
    try:
        return (parse_shasum(shasum),) if shasum else ()
    except ValueError as error:
        raise DocumentError(place, f"resolved: the part after # {error}") from error
