"""Lines ``name version integrity``, for whatever lists packages in a way of its own. ``#`` begins a comment line.

The integrity may hold several digests, apart by spaces. The same package on two lines counts once.
"""

from __future__ import annotations

from kedge.documents import DocumentError
from kedge.registries.npm.locked import (
    LockedPackage,
    Lockfile,
    check_name,
    check_version,
    merge,
    read_integrity,
)


def read(data: bytes) -> Lockfile:
    """Read the lines.

    Raises:
        DocumentError: a line is not of that form; its number says which.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError("", f"is not UTF-8 (byte {error.start})") from error
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split(maxsplit=2)
        if not words or words[0].startswith("#"):
            continue
        place = f"line {number}"
        if len(words) < 3:
            raise DocumentError(place, 'must be "name version integrity", such as "lodash 4.17.21 sha512-…"')
        name, version, integrity = words
        found.append(
            LockedPackage(
                name=check_name(name, place),
                version=check_version(version, place),
                digests=read_integrity(integrity, place),
                where=(place,),
            )
        )
    return Lockfile(kind="lines", packages=merge(found))
