"""Targets as lines: ``path length sha256``, and ``custom`` as JSON after it where there is some.

A line of bytes is the form in which a target passes through the engine: a space stands in no target path and sorts
before every byte that may, so that lines sort as their paths do. Lines are checked in batches by regular expressions
that allow less than :func:`~kedge_repo.workspace.check_target_path`; what they do not match is checked one by one.

A folder's files as targets: their paths below it, hashed by several threads at once.

Hashing lets other threads run, so that threads are enough; files are read in pieces, so that size does not matter.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from kedge.documents import DocumentError, load_json
from kedge.errors import InputError
from kedge_repo.workspace import canonical_json, check_target_path

Batch: TypeAlias = list[tuple[bytes, bytes]]
"""Some checked targets: (line without its end, path)."""

REMOVED = b"-"
"""What stands in a line after the path of a target that is taken out."""

_CHUNK_BYTES = 1 << 20
_BATCH = 10_000
_MAX_LINE_BYTES = 1 << 16

_PART = rb"(?!\.{1,2}[/ ])[!$&'()+,\-.0-9;=@A-Z^_`a-z{}~]{1,180}"
_REST = rb" (?:0|[1-9]\d{0,14}) [0-9a-f]{64}"
_SHORT = re.compile(rb"^(([!$&'()+,\-./0-9;=@A-Z^_`a-z{}~]{1,180})" + _REST + rb")$", re.MULTILINE)
_ODD = (b"//", b"/.", b"/ ", b"\n/", b"\n.")
_PLAIN = re.compile(rb"^((?=[^ ]{1,1000} )((?:" + _PART + rb"/)*" + _PART + rb")" + _REST + rb")$", re.MULTILINE)
_LINE = re.compile(rb"([^ ]+)" + _REST + rb"( \{.*\})?", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class BinTarget:
    """One target: its path, its length in bytes, its SHA-256 in hexadecimal, and what stands beside it."""

    path: str
    length: int
    sha256: str
    custom: Mapping[str, Any] | None = None

    def line(self) -> bytes:
        """The target as a line without its end.

        Raises:
            InputError: a value is not one that a target can have; the text names the path.
        """
        custom = f" {canonical_json(dict(self.custom))}" if self.custom else ""
        line = f"{self.path} {self.length} {self.sha256}{custom}".encode()
        try:
            return _check(line)
        except DocumentError as error:
            raise InputError(f"target {self.path[:80]}: {error}") from error


def in_batches(targets: Iterable[BinTarget]) -> Iterator[Batch]:
    """Targets of a program's own, checked and ready for the engine.

    Raises:
        InputError: a target cannot be one.
    """
    rest = iter(targets)
    while some := list(islice(rest, _BATCH)):
        yield [(target.line(), target.path.encode()) for target in some]


def removals(paths: Iterable[str]) -> Iterator[Batch]:
    """Paths to take out.

    Raises:
        InputError: a path cannot be a target's.
    """
    rest = iter(paths)
    while some := list(islice(rest, _BATCH)):
        yield [_removal(path) for path in some]


def read_lines(stream: BinaryIO, *, file: str) -> Iterator[Batch]:
    """Targets from a stream of lines, a chunk at a time; ``file`` is its name in messages.

    Raises:
        InputError: a line is none; the text gives its number. Or the stream cannot be read.
    """
    number, rest = 1, b""
    while True:
        try:
            chunk = stream.read(_CHUNK_BYTES)
        except OSError as error:
            raise InputError(f"{file}: cannot be read: {(error.strerror or str(error)).lower()}") from error
        whole, end, rest = (rest + chunk).rpartition(b"\n")
        if not chunk:
            whole, end, rest = (rest, b"\n", b"") if rest else (whole, end, rest)
        if end:
            yield _checked(whole, file, number)
            number += whole.count(b"\n") + 1
        if not chunk:
            return
        if len(rest) > _MAX_LINE_BYTES:
            raise InputError(f"{file}: line {number}: is longer than {_MAX_LINE_BYTES} bytes")


def path_of(line: bytes) -> bytes:
    """The path in a line."""
    return line.partition(b" ")[0]


def _checked(lines: bytes, file: str, number: int) -> Batch:
    count = lines.count(b"\n") + 1
    # Nearly all paths are short, and without what makes a part of them empty, "." or "..": that is told at a glance.
    short = not lines.startswith((b"/", b".")) and not any(odd in lines for odd in _ODD)
    found: Batch = _SHORT.findall(lines) if short else []
    if len(found) != count:
        found = _PLAIN.findall(lines)
    if len(found) == count:
        return found
    batch: Batch = []
    for offset, line in enumerate(lines.split(b"\n")):
        try:
            batch.append((_check(line), path_of(line)))
        except DocumentError as error:
            raise InputError(
                f"{file}: line {number + offset}: {error}", hint="a line is a path, its length in bytes and its sha256"
            ) from error
    return batch


def _check(line: bytes) -> bytes:
    match = _LINE.fullmatch(line)
    if match is None:
        shown = line[:80].decode("utf-8", "backslashreplace")
        raise DocumentError("", f'must be PATH LENGTH SHA256, not "{shown}"')
    try:
        check_target_path(match[1].decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DocumentError("", "the target path is not UTF-8") from error
    if match[2] is not None:
        _check_custom(match[2][1:])
    return line


def _check_custom(data: bytes) -> None:
    value = load_json(data)
    text = json.dumps(value, ensure_ascii=False)
    if any(escape in text for escape in ("\\u", "\\b", "\\f", "\\n", "\\r", "\\t")):
        raise DocumentError("custom", "must hold no control characters")
    if canonical_json(value).encode() != data:
        raise DocumentError("custom", "must be canonical JSON: names in order, and no blanks between")


def _removal(path: str) -> tuple[bytes, bytes]:
    try:
        data = check_target_path(path).encode()
    except DocumentError as error:
        raise InputError(error.problem) from error
    return b"%b %b" % (data, REMOVED), data


_AHEAD = 64


def folder_targets(folder: Path, *, prefix: str = "", threads: int | None = None) -> Iterator[BinTarget]:
    """Every file below ``folder`` as a target at ``prefix`` and its path there, in order of folders and names.

    Names that begin with a dot are left out, and links are not followed.

    Raises:
        InputError: the folder or a file cannot be read.
    """
    threads = threads or min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[BinTarget]] = deque()
        for path in _files(folder):
            waiting.append(pool.submit(_target, path, f"{prefix}{path.relative_to(folder).as_posix()}"))
            if len(waiting) >= _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _files(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            yield Path(entry.path)


def _target(path: Path, name: str) -> BinTarget:
    try:
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            length = stream.tell()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    return BinTarget(path=name, length=length, sha256=sha256)
