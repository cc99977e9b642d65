"""Files that the user named: read whole, and no further than what a file of their kind may be."""

from __future__ import annotations

from pathlib import Path

from kedge.errors import InputError

__all__ = ["read_file"]


def read_file(file: Path, max_bytes: int, *, what: str | None = None, hint: str | None = None) -> bytes:
    """Read a file; ``what`` it is meant to be is said where it is too long for that, ``hint`` where it is not there.

    Raises:
        InputError: it cannot be read, or is longer than ``max_bytes``.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{file}: cannot be read: {reason.lower()}", hint=hint) from error
    if len(data) > max_bytes:
        more = f", which no {what} is" if what is not None else ""
        raise InputError(f"{file}: is longer than {max_bytes >> 20} MiB{more}")
    return data
