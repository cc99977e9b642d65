"""Where the answers of a pub registry are taken from: a folder of them, or the registry or a mirror itself.

A folder holds one answer a package: ``<name>.json``, or ``api/packages/<name>`` as a mirror keeps it. What is taken is
judged elsewhere; here it is read, within limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from kedge.errors import FetchError, InputError
from kedge.registries.pub.listing import MAX_BYTES, NAME
from kedge.steps import Area, Fetch
from kedge.transport import Deadline, Mirror, open_mirror
from kedge_repo import disk

__all__ = ["Answers", "folder_answers", "read_names", "web_answers"]

Answers = Iterator[tuple[str, bytes | str]]
"""A package's name, and the answer about it; a text says why there is none."""

AHEAD = 16
SECONDS_EACH = 30.0


def folder_answers(folder: Path) -> Answers:
    """The answers in a folder, in the order of their names.

    Raises:
        InputError: the folder cannot be read, or holds none.
    """
    inner = folder / "api" / "packages"
    place = inner if inner.is_dir() else folder
    try:
        files = sorted(path for path in place.iterdir() if path.is_file() and _package(path))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    if not files:
        raise InputError(f"{folder}: holds no answer (NAME.json, or api/packages/NAME)")
    for path in files:
        yield _package(path), disk.read(path, what="answer", max_bytes=MAX_BYTES)


def web_answers(url: str, names: Sequence[str]) -> Answers:
    """The answers of a registry or a mirror, asked for side by side.

    Raises:
        InputError: the URL cannot be used.
    """
    with closing(open_mirror(Mirror(url=url, metadata="", targets=""))) as transport:
        deadline = Deadline(SECONDS_EACH * max(1, len(names)))
        requests = [Fetch(Area.TARGETS, f"api/packages/{name}", MAX_BYTES) for name in names]
        for index, name in enumerate(names):
            request = Fetch(
                Area.TARGETS, requests[index].path, MAX_BYTES, ahead=tuple(requests[index + 1 : index + AHEAD])
            )
            try:
                answer = transport.get(request, deadline)
            except FetchError as error:
                yield name, error.message
                continue
            yield name, answer if isinstance(answer, bytes) else f"{url}: has no package {name}"


def read_names(data: bytes, *, file: str) -> tuple[str, ...]:
    """Names of packages, one a line.

    Raises:
        InputError: a line is none; the text gives its number.
    """
    names: dict[str, None] = {}
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        name = line.strip()
        if not name:
            continue
        if re.fullmatch(NAME, name, re.ASCII) is None:
            raise InputError(f"{file}: line {number}: is no name of a package")
        names[name] = None
    if not names:
        raise InputError(f"{file}: names no package")
    return tuple(names)


def _package(path: Path) -> str:
    name = path.name.removesuffix(".json")
    return name if re.fullmatch(NAME, name, re.ASCII) else ""
