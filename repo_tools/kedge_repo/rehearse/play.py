"""The rehearsal itself: what was before, what the thief does, the recovery, and what every client saw at each step.

Two clients are there from the beginning and remember what they saw, kedge's and python-tuf's; two come new after the
recovery, with nothing but the first root. Each act says what is to be expected of them, and whether it came so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import CryptoSigner, Key
from tuf.api.metadata import Root, Snapshot, Timestamp

from kedge.errors import ThresholdError
from kedge_repo.policy import Policy
from kedge_repo.recover import Harm, Recovery, RoleHarm, plan_recovery, recovery_plan
from kedge_repo.rehearse.stage import Stage, TargetCopy, forge_root, push_ahead
from kedge_repo.rehearse.witnesses import KedgeWitness, PythonTufWitness, Sight, Witness
from kedge_repo.standing import signed_view

__all__ = ["Act", "Rehearsal", "rehearse"]


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


def rehearse(folder: Path, policy_text: str, targets: Iterable[TargetCopy], harm: Harm, *, now: datetime) -> Rehearsal:
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
