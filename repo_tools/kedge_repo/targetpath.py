"""Target paths that mean one thing everywhere: to a disk, in a URL, and in the patterns of a delegation."""

from __future__ import annotations

import re

from kedge.document import DocumentError

__all__ = ["check_target_path"]

MAX_BYTES = 1000
MAX_PART_BYTES = 180  # with "<sha256>." before it, a file name on every disk

_UNFIT = re.compile(r"[\x00-\x20\x7f\\?#%*:\"<>|\[\]]")


def check_target_path(path: str) -> str:
    """Return ``path`` if it can be a target's path: relative, with ``/``, and plain enough for every server.

    Raises:
        DocumentError: it cannot; the path of the error is empty.
    """
    parts = path.split("/")
    if not path or len(path.encode("utf-8", "replace")) > MAX_BYTES:
        raise DocumentError("", f"a target path has 1 to {MAX_BYTES} bytes")
    if any(part in {"", ".", ".."} or len(part.encode("utf-8", "replace")) > MAX_PART_BYTES for part in parts):
        raise DocumentError("", f'the target path "{path[:80]}" must be relative, without empty, "." or ".." parts')
    if _UNFIT.search(path) or not path.isprintable():
        raise DocumentError(
            "", f"the target path {path[:80]!r} holds a character that servers or disks read differently"
        )
    return path
