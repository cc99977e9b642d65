"""A repository with fresh keys, made through the tool's own functions, a step a line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from securesystemslib.signer import CryptoSigner

from kedge_repo.events.changes import Change, Merged, change, merge_event
from kedge_repo.events.init import Charter, Delegate, found_repository
from kedge_repo.events.plan import Plan, View
from kedge_repo.events.signatures import Imported, sign_event
from kedge_repo.publish.online import Online, sign_online
from kedge_repo.workspace.catalogue import catalogue_entry
from kedge_repo.workspace.public_key import to_pem
from kedge_repo.workspace.workspace import Workspace

__all__ = ["NPM", "PEOPLE", "Ceremony", "contents"]

NPM = "registry.npmjs.org"
PEOPLE = ("alice", "bob", "carol", "npm-team", "ci")


@dataclass
class Ceremony:
    """A workspace below ``folder``: root and targets 2 of 3, npm's paths delegated to npm-team, ci online."""

    folder: Path
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    signers: dict[str, CryptoSigner] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in PEOPLE:
            self.signers[name] = CryptoSigner.generate_ecdsa() if name == "bob" else CryptoSigner.generate_ed25519()

    @property
    def workspace(self) -> Workspace:
        return Workspace(root=self.folder / "workspace")

    def pem(self, name: str) -> bytes:
        return to_pem(self.signers[name].public_key)

    def charter(self) -> Charter:
        return Charter(
            name="example",
            keyholders={name: self.pem(name) for name in ("alice", "bob", "carol")},
            online={"ci": self.pem("ci")},
            root_threshold=2,
            targets_threshold=2,
            delegate_keys={"npm-team": self.pem("npm-team")},
            delegates=(Delegate(role=NPM, keyholders=("npm-team",)),),
            registries=(catalogue_entry(NPM),),
            destination="../public",
        )

    def found(self) -> Ceremony:
        """Begin the repository; the first ceremony is open."""
        found_repository(self.workspace.root, self.charter(), now=self.now)
        return self

    def sign(self, *names: str) -> Imported:
        """Each of ``names`` signs the open event in turn."""
        return [sign_event(self.workspace, self.signers[name]) for name in names][-1]

    def merge(self) -> Merged:
        return merge_event(self.workspace)

    def online(self) -> Online:
        return sign_online(self.workspace, [self.signers["ci"]], now=self.now)

    def ready(self) -> Ceremony:
        """Begin, sign, merge and sign online: ready to be published."""
        self.found().sign("alice", "bob", "npm-team")
        self.merge()
        self.online()
        return self

    def change(self, wish: Callable[[View], Plan], *, drop_signatures: bool = False) -> Change:
        return change(self.workspace, wish, now=self.now, drop_signatures=drop_signatures)


def contents(folder: Path) -> Mapping[str, bytes]:
    """Every file below ``folder`` but locks, to see that nothing changed."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock")
    }
