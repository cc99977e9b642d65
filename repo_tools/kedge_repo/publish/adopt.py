"""Taking up what is published: a publisher that starts from an older workspace goes on where the last one stopped.

A job in CI begins each time from what is in git; what the last one signed online is at the destination only. The
snapshot and the timestamp there are taken into the workspace if they verify under its root and name just what it holds.
What keyholders sign is never taken up: a workspace that lacks some of it is behind, and is told so.
"""

from __future__ import annotations

from tuf.api.metadata import Snapshot, Timestamp

from kedge.errors import InputError
from kedge.metadata import Parsed, parse, require_threshold
from kedge_repo.bins import BinStore, bin_delegations
from kedge_repo.payload import digest, file_name
from kedge_repo.publish.destination import TIMESTAMP_PATH, BehindError, Destination
from kedge_repo.signed import SignedMetadata
from kedge_repo.workspace import Workspace

__all__ = ["adopt"]


def adopt(workspace: Workspace, destination: Destination) -> bool:
    """Take up the snapshot and timestamp of ``destination`` if they are newer, or others of this version; whether so.

    Raises:
        VerificationError: they do not verify under the workspace's root.
        BehindError: they name newer versions of roles, or of bins, than the workspace holds.
        StoreError: the destination cannot be reached, or the workspace not be written.
    """
    held = destination.read(TIMESTAMP_PATH)
    with workspace.lock():
        signed = workspace.signed()
        ours = signed.timestamp
        if held is None or signed.root is None or (ours is not None and ours.data == held.data):
            return False
        timestamp = parse(held.data, Timestamp, file=destination.place(TIMESTAMP_PATH))
        if ours is not None and timestamp.signed.version < ours.signed.version:
            return False
        require_threshold(signed.root.signed, Timestamp.type, timestamp)
        snapshot = _snapshot(destination, timestamp, signed)
        _require_known(workspace, signed, snapshot, destination)
        workspace.adopt_snapshot(file_name(Snapshot.type, snapshot.signed.version), snapshot.data)
        workspace.write_timestamp(timestamp.data)
    return True


def _snapshot(destination: Destination, timestamp: Parsed[Timestamp], signed: SignedMetadata) -> Parsed[Snapshot]:
    named = timestamp.signed.snapshot_meta
    path = f"metadata/{file_name(Snapshot.type, named.version)}"
    held = destination.read(path)
    place = destination.place(path)
    if held is None or (named.hashes or {}).get("sha256") != digest(held.data):
        raise InputError(f"{place}: is not there, or not what the timestamp beside it names")
    snapshot = parse(held.data, Snapshot, file=place)
    if signed.root is not None:
        require_threshold(signed.root.signed, Snapshot.type, snapshot)
    return snapshot


def _require_known(
    workspace: Workspace, signed: SignedMetadata, snapshot: Parsed[Snapshot], destination: Destination
) -> None:
    known = {name: parsed.signed.version for name, parsed in signed.everything().items()}
    for role in bin_delegations(signed, workspace.policy()):
        index = BinStore(workspace=workspace, role=role).index()
        known |= dict(index.listed()) if index is not None else {}
    for name, listed in snapshot.signed.meta.items():
        role = name.removesuffix(".json")
        if listed.version > known.get(role, 0):
            place = destination.place(f"metadata/{file_name(Snapshot.type, snapshot.signed.version)}")
            raise BehindError(place, f"names version {listed.version} of {role}, and this workspace has less")
