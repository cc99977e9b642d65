"""What a destination holds already, by its own word: the snapshot that its timestamp names.

Its word only spares work. A publisher writes all files of a snapshot before the timestamp that names it, so that what
the snapshot lists need not be asked for one by one; ``kedge-repo publish verify`` is what checks a destination.
"""

from __future__ import annotations

from collections.abc import Mapping

from tuf.api.metadata import Snapshot, Timestamp

from kedge.errors import VerificationError
from kedge.metadata import parse
from kedge_repo.payload import file_name
from kedge_repo.publish.destination import Destination, Held

__all__ = ["listed_at"]


def listed_at(destination: Destination, timestamp: Held | None) -> Mapping[str, int]:
    """The version of each role at ``destination``, by role name; empty where that cannot be told."""
    if timestamp is None:
        return {}
    try:
        named = parse(timestamp.data, Timestamp, file="timestamp.json").signed.snapshot_meta.version
        file = file_name(Snapshot.type, named)
        held = destination.read(f"metadata/{file}")
        if held is None:
            return {}
        snapshot = parse(held.data, Snapshot, file=file).signed
    except VerificationError:
        return {}
    return {name.removesuffix(".json"): entry.version for name, entry in snapshot.meta.items()}
