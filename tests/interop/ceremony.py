"""A repository as maintainers make it with kedge-repo: founded, signed by threshold, put online, published.

Everything goes through the library functions that the commands call. Keys are made at run time: Ed25519 and ECDSA P-256
in turn, so that foreign clients read both, unless other algorithms are named.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from securesystemslib.signer import Signer

from kedge_repo.bins.lines import BinTarget, in_batches
from kedge_repo.bins.update import update_bins
from kedge_repo.events.changes import Wish, change, merge_event
from kedge_repo.events.init import Charter, Delegate, found_repository
from kedge_repo.events.plan import add_target
from kedge_repo.events.plan_keys import add_key, rotate_key
from kedge_repo.events.plan_roles import plan_delegation, plan_role
from kedge_repo.events.signatures import sign_event
from kedge_repo.publish.online import sign_online
from kedge_repo.publish.publish import publish_workspace
from kedge_repo.signing.signers.keyfile import Algorithm, new_key
from kedge_repo.signing.signers.location import open_signer
from kedge_repo.workspace.catalogue import catalogue_entry
from kedge_repo.workspace.metadata import digest
from kedge_repo.workspace.policy import BinsPolicy, Content, DelegationPolicy
from kedge_repo.workspace.public_key import parse_public_key

__all__ = ["HOLDERS", "NPM", "Maintained"]

NPM = "registry.npmjs.org"
PASSPHRASE = b"made for a test"
HOLDERS = ("alice", "bob", "carol")


class Maintained:
    """A repository of three root keyholders (two must sign), an npm team and an online key, at ``folder``."""

    def __init__(self, folder: Path, *, now: datetime, algorithms: Mapping[str, Algorithm] | None = None) -> None:
        self._folder = folder
        self._now = now
        self._algorithms = algorithms or {}
        self.public = folder / "public"
        """The folder that is served."""
        self._signers: dict[str, Signer] = {}
        pems = {name: self._new_key(name) for name in (*HOLDERS, "npm-team", "ci")}
        charter = Charter(
            name="example",
            keyholders={name: pems[name] for name in HOLDERS},
            online={"ci": pems["ci"]},
            root_threshold=2,
            targets_threshold=2,
            delegate_keys={"npm-team": pems["npm-team"]},
            delegates=(Delegate(role=NPM, keyholders=("npm-team",)),),
            registries=(catalogue_entry(NPM),),
        )
        self.workspace, _ = found_repository(folder / "workspace", charter, now=now)
        self._finish("alice", "bob", "npm-team")

    @property
    def initial_root(self) -> bytes:
        """The first root, from which every client can start."""
        return (self.public / "metadata" / "1.root.json").read_bytes()

    def signer(self, name: str) -> Signer:
        """The present key of a keyholder."""
        return self._signers[name]

    def replace_target(self, path: str, data: bytes) -> None:
        """Give a target other bytes, signed by the npm team."""
        self._change(lambda view: add_target(view, path, data), "npm-team")

    def delegate_bins(self, role: str, *, bit_length: int) -> None:
        """Delegate ``role/*`` to hash bins that the online key signs, and whose targets the workspace publishes."""
        half_a_year, month = timedelta(days=182), timedelta(days=31)
        bins = BinsPolicy(
            name=role,
            keyholders=("ci",),
            threshold=1,
            expiry=half_a_year,
            signing=month,
            bit_length=bit_length,
            content=Content.WORKSPACE,
        )
        policy = DelegationPolicy(
            name=role,
            keyholders=HOLDERS,
            threshold=2,
            expiry=half_a_year,
            signing=month,
            paths=(f"{role}/*",),
            terminating=True,
            bins=bins,
        )
        self._change(lambda view: plan_delegation(view, policy), "alice", "bob")

    def put_in_bins(self, role: str, files: Mapping[str, bytes]) -> int:
        """Add or replace targets in the bins of ``role``; how many bins were signed is returned."""
        for path, data in files.items():
            self.workspace.write_target(path, data)
        targets = [BinTarget(path=path, length=len(data), sha256=digest(data)) for path, data in files.items()]
        made = update_bins(self.workspace, role, in_batches(targets), [self._signers["ci"]], now=self._now)
        self._put_online()
        return made.bins

    def rotate(self, holder: str, *others: str) -> None:
        """Give a root keyholder a new key; the old key, the new key and the others sign."""
        old = self._signers[holder]
        public = parse_public_key(self._new_key(holder, "-2"))
        self._change(lambda view: rotate_key(view, holder, public), holder, *others, extra=(old,))

    def guard_root(self, holders: Mapping[str, Algorithm], *, threshold: int) -> None:
        """Let more keyholders sign root, then raise its threshold; all of them sign."""
        self._algorithms = {**self._algorithms, **holders}
        for name in holders:
            public = parse_public_key(self._new_key(name))
            change(self.workspace, partial(add_key, keyholder=name, new=public, roles=("root",)), now=self._now)
        self._finish("alice", "bob")
        self._change(lambda view: plan_role(view, "root", threshold=threshold), *HOLDERS, *holders)

    def _change(self, wish: Wish, *holders: str, extra: tuple[Signer, ...] = ()) -> None:
        change(self.workspace, wish, now=self._now, reason="a test asked for it")
        for signer in extra:
            sign_event(self.workspace, signer)
        self._finish(*holders)

    def _finish(self, *holders: str) -> None:
        for holder in holders:
            sign_event(self.workspace, self._signers[holder])
        merge_event(self.workspace)
        self._put_online()

    def _put_online(self) -> None:
        sign_online(self.workspace, [self._signers["ci"]], now=self._now)
        publish_workspace(self.workspace, self.public, now=self._now)

    def _new_key(self, name: str, suffix: str = "") -> bytes:
        in_turn = Algorithm.ECDSA_P256 if len(self._signers) % 2 else Algorithm.ED25519
        algorithm = self._algorithms.get(name, in_turn)
        path = self._folder / f"{name}{suffix}.pem"
        public = new_key(path, algorithm, PASSPHRASE)
        self._signers[name] = open_signer(f"file:{path}", lambda _: PASSPHRASE)
        return public.read_bytes()
