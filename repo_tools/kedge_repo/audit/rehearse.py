"""The copy that is rehearsed on: the same policy and targets, with a throw-away key for every keyholder.

Nothing of it is of the real repository but its policy and what it publishes; no real key is asked for, and what is made
here stays in one folder.

The clients that watch a rehearsal: kedge's own and python-tuf's, each with a state of its own on disk.

The rehearsal itself: what was before, what the thief does, the recovery, and what every client saw at each step.

Two clients are there from the beginning and remember what they saw, kedge's and python-tuf's; two come new after the
recovery, with nothing but the first root. Each act says what is to be expected of them, and whether it came so.

A recovery, rehearsed: on a copy of the repository with throw-away keys, against real clients.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from securesystemslib.signer import CryptoSigner, Key
from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp
from tuf.ngclient import Updater

from kedge.client import Anchor, TrustClient
from kedge.errors import KedgeError, ThresholdError
from kedge.transport import Mirror
from kedge_repo.audit.recover import Harm, Recovery, RoleHarm, plan_recovery, recovery_plan
from kedge_repo.events import (
    Base,
    Event,
    View,
    Wish,
    add_target,
    change,
    merge_event,
    plan_initial,
    save_event,
    sign_event,
    signed_view,
    stand,
)
from kedge_repo.publish import (
    MEMORY_BASE,
    FolderDestination,
    MemoryFetcher,
    Overlay,
    online_keyholders,
    publish_workspace,
    sign_online,
)
from kedge_repo.workspace import POLICY_FILE, Policy, SignedMetadata, Workspace, fingerprint, replace_file, to_pem

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
        plan = plan_initial(view)
        for target in targets:
            plan = plan.then(add_target(view.with_plan(plan), target.path, target.data, target.custom))
        event = Event(name="rehearsal", reason="rehearsal", opened=self.now, base=Base.of(SignedMetadata()))
        for name, key in keys.items():
            replace_file(self.workspace.root / self.policy.keyholders[name].public, to_pem(key))
        save_event(self.workspace, event.apply(plan, SignedMetadata()))
        replace_file(self.workspace.root / POLICY_FILE, self.policy_text.encode())
        self.sign(self.signers.values())
        merge_event(self.workspace)
        self.online([])
        publish_workspace(self.workspace, self.public, now=self.now)

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
        return any(published.gap for published in publish_workspace(self.workspace, self.public, now=self.now))

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What one client saw: the versions that it accepted, or why it refused."""

    client: str
    accepted: bool
    saw: str


class Witness(Protocol):
    """A client that remembers."""

    def look(self, public: Path) -> Sight:
        """Refresh from the folder ``public``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _At:
    moment: datetime

    def now(self) -> datetime:
        return self.moment


@dataclass(frozen=True, slots=True, kw_only=True)
class KedgeWitness:
    """kedge's own client, by the time ``now``."""

    name: str
    state: Path
    initial_root: bytes
    now: datetime

    def look(self, public: Path) -> Sight:
        """Refresh from the folder ``public``."""
        anchor = Anchor(name="rehearsal", initial_root=self.initial_root, mirrors=(Mirror(url=str(public)),))
        try:
            with TrustClient(anchor, state=self.state, clock=_At(moment=self.now)) as client:
                trust = client.refresh()
        except KedgeError as error:
            return Sight(client=self.name, accepted=False, saw=error.message.replace(f" (served by {public})", ""))
        return _seen(self.name, trust.root.version, trust.timestamp.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonTufWitness:
    """python-tuf's client, by its own clock."""

    name: str
    state: Path
    initial_root: bytes

    def look(self, public: Path) -> Sight:
        """Refresh from the folder ``public``."""
        self.state.mkdir(parents=True, exist_ok=True)
        try:
            updater = Updater(
                str(self.state),
                f"{MEMORY_BASE}metadata/",
                fetcher=MemoryFetcher(Overlay(FolderDestination(folder=public), {})),
                bootstrap=self.initial_root,
            )
            updater.refresh()
        except (RepositoryError, DownloadError) as error:
            return Sight(client=self.name, accepted=False, saw=str(error))
        root: Metadata[Root] = Metadata.from_file(str(self.state / "root.json"))
        timestamp: Metadata[Timestamp] = Metadata.from_file(str(self.state / "timestamp.json"))
        return _seen(self.name, root.signed.version, timestamp.signed.version)


def _seen(client: str, root: int, timestamp: int) -> Sight:
    return Sight(client=client, accepted=True, saw=f"root version {root}, timestamp version {timestamp}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One act: what happened, what every client saw, and whether that was to be expected."""

    what: str
    sights: tuple[Sight, ...]
    as_expected: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """All acts. ``as_expected`` is what a rehearsal is for: then the real thing will come so."""

    acts: tuple[Act, ...]

    @property
    def as_expected(self) -> bool:
        """Whether every act came as it was to be expected."""
        return all(act.as_expected for act in self.acts)


def rehearse_recovery(
    folder: Path, policy_text: str, targets: Iterable[TargetCopy], harm: Harm, *, now: datetime
) -> Rehearsal:
    """Rehearse the recovery from ``harm`` below ``folder``, which must be empty.

    Raises:
        InputError: the policy describes no repository that can begin, or the harm names nobody in it.
        StoreError: the folder cannot be written.
    """
    play = _Play(Stage(folder, policy_text, Policy.from_text(policy_text), now), harm)
    play.stage.begin(targets)
    play.before()
    play.theft()
    play.recovery()
    return Rehearsal(acts=tuple(play.acts))


@dataclass(slots=True)
class _Play:
    stage: Stage
    harm: Harm
    acts: list[Act] = field(default_factory=list)
    old: list[Witness] = field(default_factory=list)
    stolen: dict[str, CryptoSigner] = field(default_factory=dict)
    victims: list[Witness] = field(default_factory=list)
    pushed: bool = False

    def before(self) -> None:
        self.old = self._clients("since before")
        self._act("before: two clients know the repository", self.old, self.stage.public, accepted=True)

    def theft(self) -> None:
        self.stolen = {name: self.stage.signers[name] for name in self.harm.stolen}
        roles = {role.role: role for role in self._recovery({}).roles}
        if not self.stolen:
            return
        if roles[Timestamp.type].thief_can:
            self._push_ahead(roles)
        if roles[Root.type].thieves:
            self._forge_root(roles[Root.type])

    def recovery(self) -> None:
        fresh = {name: CryptoSigner.generate_ed25519() for name in self._recovery({}).wanted}
        keys: dict[str, Key] = {name: signer.public_key for name, signer in fresh.items()}
        recovery = self._recovery(keys)
        former = dict(self.stage.signers)
        self.stage.open(lambda view: recovery_plan(view, recovery.rotated, recovery.dropped, keys), self.harm.reason)
        able = [former[name] for name in former if name not in self.harm.lost]
        self.stage.sign([*able, *fresh.values()])
        self.stage.signers.update(fresh)
        try:
            gap = self.stage.merge_and_publish([former[name] for name in self.harm.stolen - self.harm.lost])
        except ThresholdError as error:
            expected = not all(need.enough for need in recovery.needs)
            self.acts.append(Act(what=f"the event cannot be merged: {error.message}", sights=(), as_expected=expected))
            return
        said = "; clients in between were refused and tried again" if gap else ""
        what = f"the recovery is signed by who is left, merged and published{said}"
        self._act(what, self.old, self.stage.public, accepted=True)
        if self.victims:
            what = "who saw the thief's root is lost: your own is refused, and a new anchor is needed"
            self._act(what, self.victims, self.stage.public, accepted=False)
        self._act("two clients come new, from the first root", self._clients("new"), self.stage.public, accepted=True)
        self._thief_again()

    def _push_ahead(self, roles: dict[str, RoleHarm]) -> None:
        mirror = self.stage.mirror("pushed-ahead")
        thieves = {name: [self.stolen[who] for who in roles[name].thieves] for name in (Snapshot.type, Timestamp.type)}
        if not roles[Snapshot.type].thief_can:
            thieves[Snapshot.type] = []
        push_ahead(mirror, thieves)
        self.pushed = True
        self._act("the thief signs versions far ahead, which clients must take", self.old, mirror, accepted=True)
        what = "your own state is refused by who saw the thief's, as a rollback"
        self._act(what, self.old, self.stage.public, accepted=False)

    def _forge_root(self, root: RoleHarm) -> None:
        mirror = self.stage.mirror("forged-root")
        forge_root(mirror, [self.stolen[who] for who in root.thieves])
        if root.thief_can:
            self.victims = self._clients("the thief's")
            what = "the thief signs a root alone, and everything below it: who sees that first takes it"
            self._act(what, self.victims, mirror, accepted=True)
            return
        have = f"{len(root.thieves)} of {root.threshold}"
        self._act(f"the thief forges a root with {have} keys", self._clients("victim"), mirror, accepted=False)

    def _thief_again(self) -> None:
        """After the recovery, what the stolen online key signs is refused."""
        if not self.pushed:
            return
        mirror = self.stage.mirror("thief-again")
        push_ahead(mirror, {Timestamp.type: list(self.stolen.values())})
        what = "the stolen key signs once more, and nobody takes it"
        self._act(what, self._clients("newest"), mirror, accepted=False)

    def _recovery(self, keys: dict[str, Key]) -> Recovery:
        return plan_recovery(signed_view(self.stage.workspace, self.stage.now), self.harm, keys)

    def _clients(self, name: str) -> list[Witness]:
        root = (self.stage.public / "metadata" / "1.root.json").read_bytes()
        states, label = self.stage.folder / "clients", name.replace(" ", "-").replace("'", "")
        return [
            KedgeWitness(name=f"kedge, {name}", state=states / f"{label}-kedge", initial_root=root, now=self.stage.now),
            PythonTufWitness(name=f"python-tuf, {name}", state=states / f"{label}-python-tuf", initial_root=root),
        ]

    def _act(self, what: str, clients: list[Witness], public: Path, *, accepted: bool) -> None:
        sights = tuple(client.look(public) for client in clients)
        as_expected = all(sight.accepted is accepted for sight in sights)
        self.acts.append(Act(what=what, sights=sights, as_expected=as_expected))
