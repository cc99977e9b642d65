"""A role's bins in the workspace: their files, their index, and who signs them.

::

    bins/<role>/index.json                   kedge_repo.bins.index
    bins/<role>/12.packages-00ff.json        signed bins: the version that the index names, and those before it until
                                             no snapshot of this workspace names them any more

The delegation stands in the role's own metadata, which its keyholders signed; how long a bin lasts, in the policy.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from securesystemslib.signer import Signer
from tuf.api.metadata import Delegations, SuccinctRoles, Targets

from kedge.document import blame_user
from kedge.errors import InputError, StoreError, ThresholdError
from kedge.metadata import parse
from kedge_repo import disk
from kedge_repo.bins.binfile import HeldBin, read_bin
from kedge_repo.bins.index import BinIndex
from kedge_repo.payload import canonical_json, digest
from kedge_repo.policy import BinsPolicy, Policy
from kedge_repo.publickey import fingerprint
from kedge_repo.signed import SignedMetadata
from kedge_repo.workspace import Workspace

__all__ = ["BinStore", "Delegation", "bin_delegations", "delegation_sha256", "signers_of"]

INDEX_FILE = "index.json"
_MAX_INDEX_BYTES = 16_000_000
_WRITERS = 2
_WAITING = 4
_AT_ONCE = 16
_SYNCED_ALONE = 64  # so many files are brought to the disk one by one; more of them all at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegation:
    """What a role says of its bins, and what the policy says of them."""

    role: str
    delegator: Targets
    succinct: SuccinctRoles
    policy: BinsPolicy

    @property
    def sha256(self) -> str:
        """The digest of the delegation: keys, threshold, prefix and number of bins."""
        return delegation_sha256(self.delegator)


def bin_delegations(signed: SignedMetadata, policy: Policy) -> dict[str, Delegation]:
    """The roles that delegate to bins, by name.

    Raises:
        InputError: the policy does not speak of the bins of one.
    """
    found: dict[str, Delegation] = {}
    for role, parsed in signed.delegated.items():
        succinct = parsed.signed.delegations.succinct_roles if parsed.signed.delegations is not None else None
        if succinct is None:
            continue
        described = policy.delegations.get(role)
        if described is None or described.bins is None:
            raise InputError(f"kedge-repo.toml: delegations.{role}.bins: is missing, but {role} delegates to bins")
        found[role] = Delegation(role=role, delegator=parsed.signed, succinct=succinct, policy=described.bins)
    return found


def delegation_sha256(delegator: Targets) -> str:
    """The digest of what ``delegator`` delegates and to which keys."""
    delegations: Delegations | None = delegator.delegations
    return digest(canonical_json(delegations.to_dict() if delegations is not None else {}).encode())


def signers_of(delegation: Delegation, signers: Sequence[Signer]) -> Mapping[str, Signer]:
    """Those of ``signers`` that may sign the bins, by keyid.

    Raises:
        ThresholdError: they do not reach the threshold.
    """
    keys = {fingerprint(delegation.delegator.get_key(keyid)): keyid for keyid in delegation.succinct.keyids}
    given = {fingerprint(signer.public_key): signer for signer in signers}
    usable = {keyid: given[mark] for mark, keyid in keys.items() if mark in given}
    if len(usable) < delegation.succinct.threshold:
        raise ThresholdError(
            f"bins of {delegation.role}: {delegation.role} version {delegation.delegator.version} asks for "
            f"{delegation.succinct.threshold} of the keys {', '.join(mark[:16] for mark in keys)}; "
            f"{len(usable)} of them were given",
            hint="name the keys of the bins with --key",
        )
    return usable


@dataclass(frozen=True, slots=True, kw_only=True)
class BinStore:
    """The bins of ``role`` in ``workspace``; whoever writes holds the workspace's lock."""

    workspace: Workspace
    role: str

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self.workspace.root / "bins" / self.role

    def index(self) -> BinIndex | None:
        """Which versions count; None before the first bin was signed.

        Raises:
            InputError: the file cannot be read, or is no index.
        """
        path = self.folder / INDEX_FILE
        if not path.exists():
            return None
        data = disk.read(path, what="index of bins", max_bytes=_MAX_INDEX_BYTES)
        with blame_user(f"bins/{self.role}/{INDEX_FILE}"):
            return BinIndex.from_bytes(data)

    def data(self, file: str) -> bytes:
        """The bytes of a bin's file.

        Raises:
            InputError: it cannot be read.
        """
        return disk.read(self.folder / file, what="bin")

    def bin(self, index: BinIndex, number: int, delegator: Targets) -> HeldBin:
        """A bin, verified.

        Raises:
            InputError: it cannot be read, or is not the version that the index names.
            VerificationError: it is not signed as ``delegator`` asks.
        """
        file = index.file(number)
        found = read_bin(self.data(file), name=index.name(number), file=f"bins/{self.role}/{file}", delegator=delegator)
        if found.version != index.versions[number]:
            raise InputError(f"bins/{self.role}/{file}: is version {found.version}, which its name does not say")
        return found

    def delegator_of(self, index: BinIndex) -> Targets:
        """The version of the role under whose delegation the bins of ``index`` are signed, the newest such.

        Raises:
            InputError: the workspace does not hold it.
        """
        history = self.workspace.history(self.role)
        for version in sorted(history, reverse=True):
            delegator = parse(disk.read(history[version]), Targets, file=history[version].name).signed
            if delegation_sha256(delegator) == index.delegation_sha256:
                return delegator
        raise InputError(
            f"bins/{self.role}/{INDEX_FILE}: delegation_sha256: no version of {self.role} in metadata/ delegates so"
        )

    def write(self, files: Iterable[tuple[str, bytes]]) -> int:
        """Put bins on the disk, under names that no index has named yet; how many there were is returned.

        Raises:
            StoreError: the disk refused.
        """
        count = 0
        waiting: deque[Future[None]] = deque()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with ThreadPoolExecutor(_WRITERS) as pool:  # the disk works while the next bin is made
                rest = iter(files)
                while some := list(islice(rest, _AT_ONCE)):
                    alone = count + len(some) <= _SYNCED_ALONE
                    waiting.append(pool.submit(_write_all, self.folder, some, sync=alone))
                    count += len(some)
                    if len(waiting) > _WAITING:
                        waiting.popleft().result()
                for written in waiting:
                    written.result()
            if count > _SYNCED_ALONE:
                os.sync()
        except OSError as error:
            raise StoreError(f"{self.folder}: cannot be written: {(error.strerror or str(error)).lower()}") from error
        return count

    def commit(self, index: BinIndex) -> None:
        """Let ``index`` count, whose files are on the disk.

        Raises:
            StoreError: the disk refused.
        """
        disk.replace(self.folder / INDEX_FILE, index.to_bytes())

    def drop_all_but(self, files: Iterable[str]) -> None:
        """Remove the bins that nothing names any more.

        Raises:
            StoreError: the disk refused.
        """
        kept = {INDEX_FILE, *files}
        try:
            for entry in os.scandir(self.folder):
                if entry.name not in kept and not entry.name.startswith("."):
                    Path(entry.path).unlink()
        except OSError as error:
            raise StoreError(f"{self.folder}: cannot be cleared: {(error.strerror or str(error)).lower()}") from error


def _write_all(folder: Path, files: list[tuple[str, bytes]], *, sync: bool) -> None:
    for file, data in files:
        _write(folder / file, data, sync=sync)


def _write(path: Path, data: bytes, *, sync: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
