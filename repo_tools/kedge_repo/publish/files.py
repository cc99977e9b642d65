"""The files of a published repository, by path, as one value.

Consistent snapshots: every file but ``timestamp.json`` has a version or a digest in its name and never changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuf.api.metadata import Targets

from kedge.errors import InputError
from kedge.metadata import Parsed
from kedge_repo.bins import BinStore, bin_delegations
from kedge_repo.bins.index import bin_file
from kedge_repo.payload import file_name
from kedge_repo.signed import SignedMetadata
from kedge_repo.workspace import Workspace

__all__ = ["TIMESTAMP_PATH", "PublishedFiles", "collect_files"]

TIMESTAMP_PATH = "metadata/timestamp.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFiles:
    """Everything that is published.

    ``immutable`` is in the order in which it may become visible: targets, then the metadata that names them, so that
    no client is led to a file that is not there. Roots and the timestamp come after all of it; which of the two goes
    first is decided where they are written.
    """

    immutable: Mapping[str, bytes]
    root_files: Mapping[str, bytes]
    timestamp: bytes
    timestamp_version: int
    targets: tuple[str, ...]

    @property
    def roots(self) -> tuple[bytes, ...]:
        """Every root, from the first."""
        return tuple(self.root_files.values())

    def everything(self) -> dict[str, bytes]:
        """All files by path."""
        return {**self.immutable, **self.root_files, TIMESTAMP_PATH: self.timestamp}


def collect_files(workspace: Workspace) -> PublishedFiles:
    """Read what the workspace publishes.

    Raises:
        InputError: something is missing, or a target's bytes are not those that were signed.
        VerificationError: the signed metadata does not verify.
    """
    signed = workspace.signed()
    signed.verify()
    if signed.targets is None or signed.snapshot is None or signed.timestamp is None:
        raise InputError("metadata/timestamp.json: is missing", hint="sign it with kedge-repo online")
    targets, paths = _targets(workspace, signed)
    bins = _bins(workspace, signed)
    roles: dict[str, Parsed[Any]] = {**signed.delegated, "targets": signed.targets, "snapshot": signed.snapshot}
    metadata = {f"metadata/{file_name(name, parsed.signed.version)}": parsed.data for name, parsed in roles.items()}
    return PublishedFiles(
        immutable={**targets, **bins, **metadata},
        root_files={f"metadata/{file_name('root', root.signed.version)}": root.data for root in signed.roots},
        timestamp=signed.timestamp.data,
        timestamp_version=signed.timestamp.signed.version,
        targets=paths,
    )


def _bins(workspace: Workspace, signed: SignedMetadata) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    listed = signed.snapshot.signed.meta if signed.snapshot is not None else {}
    for role in bin_delegations(signed, workspace.policy()):
        store = BinStore(workspace=workspace, role=role)
        index = store.index()
        for name, _ in index.listed() if index is not None else ():
            file = bin_file(listed[f"{name}.json"].version, name)
            found[f"metadata/{file}"] = store.data(file)
    return found


def _targets(workspace: Workspace, signed: SignedMetadata) -> tuple[dict[str, bytes], tuple[str, ...]]:
    found: dict[str, bytes] = {}
    paths: list[str] = []
    roles: list[Parsed[Targets]] = [*signed.delegated.values()]
    if signed.targets is not None:
        roles.append(signed.targets)
    for parsed in roles:
        for path, target in parsed.signed.targets.items():
            data = workspace.target(path)
            sha256 = hashlib.sha256(data).hexdigest()
            if target.hashes.get("sha256") != sha256 or target.length != len(data):
                raise InputError(f"targets/{path}: is not what {parsed.file} names: its sha256 is {sha256}")
            folder, _, name = path.rpartition("/")
            found["/".join(part for part in ("targets", folder, f"{sha256}.{name}") if part)] = data
            paths.append(path)
    return found, tuple(paths)
