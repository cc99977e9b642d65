"""The bootstrap floor: the oldest root from which a client of today still gets through.

Real clients walk, kedge's own workflow and python-tuf's ``Updater``. If one gets through from a version, it does from
every later one, for it passes them on its way; so the floor is searched by halving. What a client meets behind the
chain of roots (something has expired, the snapshot is another one) is a finding of its own and no floor: a client that
is refused there as it would be from the newest root has got through the chain.

No time is asked for in a chain of roots, so the floor is the same at any. Each client is therefore asked at a time that
it can judge by: kedge as of the audit's, python-tuf at the machine's present, for its clock cannot be set.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from tuf.api.metadata import Root

from kedge.clock import SystemClock
from kedge.errors import VerificationError
from kedge.metadata import count_signatures
from kedge_repo.audit.archive import Archive
from kedge_repo.publish.replay import read_with_kedge, read_with_python_tuf

__all__ = ["bootstrap_floors"]

Walk = Callable[[bytes], None]


def bootstrap_floors(archive: Archive, *, now: datetime) -> dict[str, int | None]:
    """The floor of each client, or None where it does not get through even from the newest root."""
    files = archive.files()
    walks: dict[str, Walk] = {
        "kedge": lambda root: read_with_kedge(files, root, (), now),
        "python-tuf": lambda root: read_with_python_tuf(files, root, (), SystemClock().now()),
    }
    return {name: _floor(archive, walk) for name, walk in walks.items()}


def _floor(archive: Archive, walk: Walk) -> int | None:
    versions = sorted(archive.roots)
    newest = archive.roots[versions[-1]].parsed if versions else None
    if newest is None or not count_signatures(newest.signed, Root.type, newest).met:
        return None
    behind = _refusal(newest.data, walk)
    low, high = 0, len(versions) - 1  # the first position from which it gets through lies between them
    while low < high:
        middle = (low + high) // 2
        parsed = archive.roots[versions[middle]].parsed
        if parsed is not None and _refusal(parsed.data, walk) == behind:
            high = middle
        else:
            low = middle + 1
    return versions[low]


def _refusal(root: bytes, walk: Walk) -> str | None:
    try:
        walk(root)
    except VerificationError as error:
        # One file is called "initial root" by who starts from it, and by its name by who comes upon it.
        return error.message.partition(": ")[2] or error.message
    return None
