"""Lines sorted into bins, in memory that does not grow with their number.

What a buffer holds is written out as a *run* whenever it is full: all bins in order, one after the other. A bin's lines
are then its parts of all runs together. A run is written in one go and read a bin at a time, so that ten million lines
cost the disk what they weigh twice.
"""

from __future__ import annotations

import hashlib
import operator
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from kedge.errors import StoreError
from kedge_repo.bins.lines import Batch

__all__ = ["BUFFERED_LINES", "Buckets", "bin_number", "bucketed"]

BUFFERED_LINES = 400_000


@contextmanager
def bucketed(
    batches: Iterable[Batch], bit_length: int, *, folder: Path, buffered_lines: int = BUFFERED_LINES
) -> Iterator[Buckets]:
    """Sort all of ``batches`` into bins; runs are temporary files in ``folder`` that nobody else sees.

    Raises:
        StoreError: the disk refused.
    """
    with ExitStack() as files:
        buckets = Buckets(bit_length=bit_length, buffer=[[] for _ in range(1 << bit_length)])
        buffered = 0
        for batch in batches:
            _fill(buckets.buffer, batch, bit_length)
            buffered += len(batch)
            if buffered >= buffered_lines:
                buckets.runs.append(_run(buckets.buffer, folder, files))
                buffered = 0
        yield buckets


def bin_number(path: bytes, bit_length: int) -> int:
    """Which bin a target path belongs to, as TAP 15 says: the leftmost bits of its SHA-256."""
    return int.from_bytes(hashlib.sha256(path).digest()[:4]) >> (32 - bit_length)


@dataclass(frozen=True, slots=True, kw_only=True)
class Buckets:
    """Lines by bin; valid inside :func:`bucketed`."""

    bit_length: int
    buffer: list[list[bytes]]
    runs: list[_Run] = field(default_factory=list)

    def touched(self) -> Iterator[int]:
        """The numbers of the bins that lines fell into, in order."""
        for number in range(1 << self.bit_length):
            if self.buffer[number] or any(run.ends[number] > run.start(number) for run in self.runs):
                yield number

    def lines(self, number: int) -> list[bytes]:
        """The lines of a bin, in the order of their paths, equal ones once."""
        found = list(self.buffer[number])
        for run in self.runs:
            found += run.lines(number)
        found.sort()
        return sorted(set(found)) if any(map(operator.eq, found, found[1:])) else found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    file: BinaryIO
    ends: list[int]

    def start(self, number: int) -> int:
        return self.ends[number - 1] if number else 0

    def lines(self, number: int) -> list[bytes]:
        start = self.start(number)
        return os.pread(self.file.fileno(), self.ends[number] - start, start).splitlines()


def _fill(buffer: list[list[bytes]], batch: Batch, bit_length: int) -> None:
    shift, sha256, from_bytes = 32 - bit_length, hashlib.sha256, int.from_bytes
    for line, path in batch:
        buffer[from_bytes(sha256(path).digest()[:4]) >> shift].append(line)


def _run(buffer: list[list[bytes]], folder: Path, files: ExitStack) -> _Run:
    try:
        file = files.enter_context(tempfile.TemporaryFile(dir=folder))  # noqa: SIM115 the stack closes it
        return _written(file, buffer)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {(error.strerror or str(error)).lower()}") from error


def _written(file: BinaryIO, buffer: list[list[bytes]]) -> _Run:
    """Write the buffer out and empty it."""
    ends: list[int] = []
    end = 0
    for lines in buffer:
        if lines:
            lines.append(b"")
            end += file.write(b"\n".join(lines))
            lines.clear()
        ends.append(end)
    file.flush()
    return _Run(file=file, ends=ends)
