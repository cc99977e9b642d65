"""The hash bins of a role, and their targets, as files that are published."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kedge.errors import InputError
from kedge_repo.bins import BinStore, Delegation, bin_delegations
from kedge_repo.bins.binfile import read_bin
from kedge_repo.bins.index import bin_file
from kedge_repo.bins.lines import path_of
from kedge_repo.policy import Content
from kedge_repo.signed import SignedMetadata
from kedge_repo.workspace import Workspace

__all__ = ["PublishedBins", "collect_bins", "target_place"]


def target_place(path: str, sha256: str) -> str:
    """Where the bytes of a target are published: ``targets/packages/<sha256>.args.tgz``."""
    folder, _, name = path.rpartition("/")
    return "/".join(part for part in ("targets", folder, f"{sha256}.{name}") if part)


def collect_bins(workspace: Workspace, signed: SignedMetadata) -> tuple[PublishedBins, ...]:
    """The bins that the snapshot of ``signed`` names.

    Raises:
        InputError: it does not name all of them, or the policy does not speak of them.
    """
    meta = signed.snapshot.signed.meta if signed.snapshot is not None else {}
    found: list[PublishedBins] = []
    for role, delegation in bin_delegations(signed, workspace.policy()).items():
        names = list(delegation.succinct.get_roles())
        missing = next((name for name in names if f"{name}.json" not in meta), None)
        if missing is not None:
            raise InputError(
                f"the newest snapshot does not name the bin {missing}", hint="sign a new one with kedge-repo online"
            )
        store = BinStore(workspace=workspace, role=role)
        versions = {name: meta[f"{name}.json"].version for name in names}
        found.append(PublishedBins(store=store, delegation=delegation, versions=versions))
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedBins:
    """The bins of one role in the ``versions`` that the snapshot names."""

    store: BinStore
    delegation: Delegation
    versions: Mapping[str, int]

    def paths(self) -> Iterator[str]:
        """The path of each bin."""
        return (f"metadata/{bin_file(version, name)}" for name, version in self.versions.items())

    def read(self, path: str) -> bytes | None:
        """The bytes of a bin, or None where the path is none of these.

        Raises:
            InputError: it cannot be read.
        """
        file = path.removeprefix("metadata/")
        version, _, rest = file.partition(".")
        name = rest.removesuffix(".json")
        if str(self.versions.get(name)) != version or path != f"metadata/{bin_file(int(version), name)}":
            return None
        return self.store.data(file)

    def changed(self, there: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
        """Path and bytes of each bin that is not ``there`` in this version, verified.

        Raises:
            InputError: one cannot be read.
            VerificationError: one is not signed as its delegation asks.
        """
        for name, version in self._changed(there):
            data, _ = self._verified(name, version)
            yield f"metadata/{bin_file(version, name)}", data

    def changed_targets(self, there: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
        """Path and bytes of the targets in those bins, where it is we who publish them.

        Raises:
            InputError: a target cannot be read, or is not what was signed.
            VerificationError: a bin is not signed as its delegation asks.
        """
        if self.delegation.policy.content is Content.ELSEWHERE:
            return
        for name, version in self._changed(there):
            for line in self._verified(name, version)[1]:
                path, length, sha256 = line.decode().split(" ")[:3]
                data = self.store.workspace.target(path)
                if hashlib.sha256(data).hexdigest() != sha256 or len(data) != int(length):
                    raise InputError(f"targets/{path}: is not what {bin_file(version, name)} names")
                yield target_place(path, sha256), data

    def some_paths(self) -> Iterator[str]:
        """Target paths, one of each bin that holds some."""
        for name, version in self.versions.items():
            lines = self._verified(name, version)[1]
            if lines:
                yield path_of(lines[0]).decode()

    def _changed(self, there: Mapping[str, int]) -> Iterator[tuple[str, int]]:
        return ((name, version) for name, version in self.versions.items() if there.get(name) != version)

    def _verified(self, name: str, version: int) -> tuple[bytes, list[bytes]]:
        file = bin_file(version, name)
        data = self.store.data(file)
        held = read_bin(data, name=name, file=file, delegator=self.delegation.delegator)
        if held.version != version:
            raise InputError(f"bins/{self.store.role}/{file}: is version {held.version}, which its name does not say")
        return data, held.lines
