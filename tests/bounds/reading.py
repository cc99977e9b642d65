"""Reads one input of a named shape in a process of its own, and tells what that cost: seconds of CPU, bytes of memory.

``python -m bounds.reading NAME SIZE`` prints the length of the input, the CPU time and the growth of the peak memory.
"""

from __future__ import annotations

import io
import json
import resource
import sys
import tarfile
import time
from collections.abc import Callable
from contextlib import suppress

from kedge.documents import DocumentError, load_json
from kedge.registries.go.sumfile import read_sums
from kedge.registries.hex.mixlock import read_lock
from kedge.registries.hex.verify import Tarball
from kedge.registries.npm.config import parse_npmrc
from kedge.registries.pypi.index import read_listing
from kedge.registries.pypi.lockfiles import read_lock as read_python_lock
from kedge.registries.pypi.requirements import read_requirements

Shape = tuple[Callable[[int], bytes], Callable[[bytes], object]]


def repeated(piece: bytes, before: bytes = b"", after: bytes = b"") -> Callable[[int], bytes]:
    """Inputs of about a size: ``piece`` again and again."""
    return lambda size: before + piece * (size // len(piece)) + after


def sparse(size: int) -> bytes:
    """A Hex tarball whose only member says that it is a hundred times as long as the archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=tarfile.GNU_FORMAT) as archive:
        member = tarfile.TarInfo("contents.tar.gz")
        member.size = size
        archive.addfile(member, io.BytesIO(bytes(size)))
    data = bytearray(out.getvalue())
    data[156:157] = tarfile.GNUTYPE_SPARSE
    data[386:398] = data[398:410] = b"%011o " % 0
    data[483:495] = b"%011o " % (size * 100)
    data[148:156] = b"%06o\0 " % (sum(data[:148]) + 8 * 0x20 + sum(data[156:512]))
    return bytes(data)


def npmrc(data: bytes) -> object:
    """Read an .npmrc."""
    return parse_npmrc(data.decode("latin-1"), is_users=False)


def requirements(data: bytes) -> object:
    """Read a requirements file."""
    return read_requirements(data)


def pylock(data: bytes) -> object:
    """Read a pylock.toml."""
    return read_python_lock("pylock.toml", data)


SHAPES: dict[str, Shape] = {
    "json-one-backslash": (repeated(b"[],", b'{"a":"\\n","b":[', b"1]}"), load_json),
    "json-empty-tables": (repeated(b"{},", b"[", b"1]"), load_json),
    "json-tiny-texts": (repeated(b'"ab",', b'["\\n",', b"1]"), load_json),
    "json-tiny-tables": (repeated(b'{"a":1},', b'["\\n",', b"1]"), load_json),
    "json-escapes": (repeated(b"\\n", b'["', b'"]'), load_json),
    "json-deep": (repeated(b"[", b'"\\n"'), load_json),
    "json-open-text": (repeated(b'"\\'), load_json),
    "npmrc-spaces": (repeated(b" ", b"a", b"b"), npmrc),
    "npmrc-variables": (repeated(b"${a", b"a="), npmrc),
    "npmrc-lines": (repeated(b" =\r\r\n "), npmrc),
    "requirements-spaces": (repeated(b" ", b"a", b"#"), requirements),
    "requirements-commas": (repeated(b" ,", b"a[", b"]=="), requirements),
    "requirements-marker": (repeated(b" ;", b"a==1"), requirements),
    "requirements-coding": (repeated(b"coding: ", b"#"), requirements),
    "requirements-continued": (repeated(b"a \\\n"), requirements),
    "requirements-hashes": (repeated(b" --hash=sha256:" + b"a" * 64, b"a==1"), requirements),
    "pylock-dots": (repeated(b".", b'lock-version = "1.0"\n[[packages]]\nname = "a', b'"'), pylock),
    "mix-open-text": (repeated(b'"\\', b"%{"), read_lock),
    "mix-escapes": (repeated(b"\\n", b'%{"a": {:hex, "', b'"}}'), read_lock),
    "mix-hashes": (repeated(b"#", b'%{"', b'": 1}'), read_lock),
    "mix-comments": (repeated(b"# \n"), read_lock),
    "mix-atoms": (repeated(b":a,", b'%{"a": {', b"}}"), read_lock),
    "hex-sparse": (sparse, Tarball.from_bytes),
    "go-spaces": (repeated(b" ", b"a"), read_sums),
    "go-lines": (repeated(b"a v1 h1:\n"), read_sums),
    "index-links": (repeated(b"<a ", b"<html>"), read_listing),
    "index-attributes": (repeated(b"<a href", b"<html>"), read_listing),
    "index-files": (repeated(b'{"filename":1},', b'{"files":[', b"1]}"), read_listing),
}


def main(name: str, size: int) -> None:
    """Read the input once, small, so that all is imported; then at its size."""
    make, read = SHAPES[name]
    with suppress(DocumentError):
        read(make(1000))
    data = make(size)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with suppress(DocumentError):
        read(data)
    taken = time.process_time() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    json.dump({"length": len(data), "cpu_s": taken, "memory": grown}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
