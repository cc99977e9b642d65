"""The copy that is rehearsed on: the same policy and targets, with a throw-away key for every keyholder.

Nothing of it is of the real repository but its policy and what it publishes; no real key is asked for, and what is made
here stays in one folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from kedge_repo import disk
from kedge_repo.collect import sign_event
from kedge_repo.event import Base, Event
from kedge_repo.eventfiles import save_event
from kedge_repo.maintain import Wish, change, merge_event
from kedge_repo.online import online_keyholders, sign_online
from kedge_repo.plan import View, add_target, initial
from kedge_repo.policy import Policy
from kedge_repo.publickey import fingerprint, to_pem
from kedge_repo.publish.directory import publish
from kedge_repo.signed import SignedMetadata
from kedge_repo.standing import stand
from kedge_repo.workspace import POLICY_FILE, Workspace

__all__ = ["Stage", "TargetCopy", "forge_root", "push_ahead"]

FAR_AHEAD = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetCopy:
    """One target of the real repository."""

    path: str
    data: bytes
    custom: Mapping[str, Any] | None


@dataclass(slots=True)
class Stage:
    """The copy below ``folder``. ``signers`` holds the throw-away keys by keyholder."""

    folder: Path
    policy_text: str
    policy: Policy
    now: datetime
    signers: dict[str, CryptoSigner] = field(default_factory=dict)

    @property
    def workspace(self) -> Workspace:
        """The copy's workspace."""
        return Workspace(root=self.folder / "workspace")

    @property
    def public(self) -> Path:
        """Where the copy publishes to."""
        return self.folder / "public"

    def begin(self, targets: Iterable[TargetCopy]) -> None:
        """Found the copy, sign it whole, and publish it.

        Raises:
            InputError: the policy describes no repository that can begin.
        """
        self.signers = {name: CryptoSigner.generate_ed25519() for name in self.policy.keyholders}
        keys = {name: signer.public_key for name, signer in self.signers.items()}
        view = View(signed=SignedMetadata(), policy=self.policy, policy_text=self.policy_text, keys=keys, now=self.now)
        plan = initial(view)
        for target in targets:
            plan = plan.then(add_target(view.with_plan(plan), target.path, target.data, target.custom))
        event = Event(name="rehearsal", reason="rehearsal", opened=self.now, base=Base.of(SignedMetadata()))
        for name, key in keys.items():
            disk.replace(self.workspace.root / self.policy.keyholders[name].public, to_pem(key))
        save_event(self.workspace, event.apply(plan, SignedMetadata()))
        disk.replace(self.workspace.root / POLICY_FILE, self.policy_text.encode())
        self.sign(self.signers.values())
        merge_event(self.workspace)
        self.online([])
        publish(self.workspace, self.public, now=self.now)

    def open(self, wish: Wish, reason: str) -> None:
        """Open an event that makes a change."""
        change(self.workspace, wish, now=self.now, reason=reason)

    def sign(self, signers: Iterable[CryptoSigner]) -> None:
        """Let everybody of ``signers`` who has a say sign the open event."""
        standing = stand(self.workspace)
        event = standing.open_event()
        groups = [group for payload in event.payloads for group in event.groups(payload, standing.signed)]
        entitled = {fingerprint(key) for group in groups for key in group.keys.values()}
        for signer in signers:
            if fingerprint(signer.public_key) in entitled:
                sign_event(self.workspace, signer)

    def merge_and_publish(self, also: Iterable[CryptoSigner]) -> bool:
        """Merge, sign online (by ``also`` as well), publish; gives whether clients in between were refused.

        Raises:
            ThresholdError: signatures are missing.
        """
        merge_event(self.workspace)
        self.online(also)
        return any(published.gap for published in publish(self.workspace, self.public, now=self.now))

    def online(self, also: Iterable[CryptoSigner]) -> None:
        """Sign snapshot and timestamp."""
        names = online_keyholders(self.workspace)
        sign_online(self.workspace, [*(self.signers[name] for name in names), *also], now=self.now)

    def mirror(self, name: str) -> Path:
        """A copy of what is published, to be lied in."""
        folder = self.folder / name
        shutil.copytree(self.public, folder)
        return folder


def push_ahead(public: Path, thieves: Mapping[str, Iterable[CryptoSigner]]) -> None:
    """Sign a timestamp, and a snapshot where the thief can, with versions far ahead, and put them into ``public``."""
    folder = public / "metadata"
    timestamp: Metadata[Timestamp] = Metadata.from_file(str(folder / "timestamp.json"))
    meta = timestamp.signed.snapshot_meta
    if thieves.get(Snapshot.type):
        snapshot: Metadata[Snapshot] = Metadata.from_file(str(folder / f"{meta.version}.snapshot.json"))
        snapshot.signed.version += FAR_AHEAD
        _sign_again(snapshot, thieves[Snapshot.type])
        (folder / f"{snapshot.signed.version}.snapshot.json").write_bytes(snapshot.to_bytes())
        meta.version, meta.length, meta.hashes = snapshot.signed.version, None, None
    timestamp.signed.version += FAR_AHEAD
    _sign_again(timestamp, thieves.get(Timestamp.type, ()))
    (folder / "timestamp.json").write_bytes(timestamp.to_bytes())


def forge_root(public: Path, thieves: Iterable[CryptoSigner]) -> None:
    """Sign a next root that hands everything to a key of the thief's, and with that key everything below it."""
    folder, own = public / "metadata", CryptoSigner.generate_ed25519()
    newest = max(int(path.name.partition(".")[0]) for path in folder.glob("*.root.json"))
    root: Metadata[Root] = Metadata.from_file(str(folder / f"{newest}.root.json"))
    root.signed.version += 1
    for name, role in root.signed.roles.items():
        role.keyids, role.threshold = [], 1
        root.signed.add_key(own.public_key, name)
    _sign_again(root, [*thieves, own])
    (folder / f"{newest + 1}.root.json").write_bytes(root.to_bytes())
    timestamp: Metadata[Timestamp] = Metadata.from_file(str(folder / "timestamp.json"))
    meta = timestamp.signed.snapshot_meta
    snapshot: Metadata[Snapshot] = Metadata.from_file(str(folder / f"{meta.version}.snapshot.json"))
    listed = snapshot.signed.meta["targets.json"]
    targets: Metadata[Targets] = Metadata.from_file(str(folder / f"{listed.version}.targets.json"))
    targets.signed.version += 1
    snapshot.signed.meta["targets.json"] = MetaFile(version=targets.signed.version)
    snapshot.signed.version += 1
    timestamp.signed.snapshot_meta = MetaFile(version=snapshot.signed.version)
    timestamp.signed.version += 1
    for metadata in (targets, snapshot, timestamp):
        _sign_again(metadata, [own])
    (folder / f"{targets.signed.version}.targets.json").write_bytes(targets.to_bytes())
    (folder / f"{snapshot.signed.version}.snapshot.json").write_bytes(snapshot.to_bytes())
    (folder / "timestamp.json").write_bytes(timestamp.to_bytes())


def _sign_again(metadata: Metadata[Any], signers: Iterable[CryptoSigner]) -> None:
    metadata.signatures.clear()
    for signer in _distinct(signers):
        metadata.sign(signer, append=True)


def _distinct(signers: Iterable[CryptoSigner]) -> Iterator[CryptoSigner]:
    seen: set[str] = set()
    for signer in signers:
        if signer.public_key.keyid not in seen:
            seen.add(signer.public_key.keyid)
            yield signer
