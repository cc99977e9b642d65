"""The people of the demo: keyholders with key files of their own, and the maintainer who runs the workspace.

Each keyholder signs in a step of their own: one at the workspace, the others on machines of their own, from the request
file alone. The passphrases are made up on the spot and forgotten.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import Signer

from kedge_repo.catalogue import CatalogueEntry
from kedge_repo.collect import export_request, import_responses, sign_event
from kedge_repo.demo import facts
from kedge_repo.found import Charter, Delegate, found_repository
from kedge_repo.keyholder import FirstCeremony, TrustedRoot, sign_request, verify_request
from kedge_repo.maintain import change, merge_event
from kedge_repo.online import sign_online
from kedge_repo.plan import add_target
from kedge_repo.publish.directory import publish
from kedge_repo.publish.replay import READERS, Reader
from kedge_repo.request import Request, Response
from kedge_repo.signers import Algorithm, new_key, open_signer
from kedge_repo.workspace import Workspace

__all__ = ["Keyholder", "Maintainers", "make_keys"]

ROOT_HOLDERS = ("alice", "bob", "carol")
NPM_HOLDERS = ("npm-ana", "npm-ben")
ONLINE = "ci"


@dataclass(frozen=True, slots=True)
class Keyholder:
    """Somebody with an encrypted key file in a folder of their own."""

    name: str
    key: Path
    passphrase: bytes

    @property
    def public(self) -> bytes:
        """The public key, PEM: the only thing that is handed over."""
        return self.key.with_name(f"{self.key.name}.pub").read_bytes()

    def signer(self) -> Signer:
        """Open the key file."""
        return open_signer(f"file:{self.key}", lambda _what: self.passphrase)

    def answer(self, request: bytes, trusted_root: bytes | None) -> tuple[str, bytes]:
        """Sign a request file on a machine of one's own; gives the request code that was read, and the response file.

        Raises:
            VerificationError: the request does not follow from the root that this keyholder trusts.
        """
        first = FirstCeremony.NOTHING_IS_SIGNED_YET
        start = first if trusted_root is None else TrustedRoot(data=trusted_root, file="own root")
        verified = verify_request(Request.from_bytes(request), start)
        return verified.code, sign_request(verified, self.signer()).to_bytes()


def make_keys(folder: Path) -> dict[str, Keyholder]:
    """Make everybody's key: Ed25519, and ECDSA P-256 for bob and npm-ben."""
    people: dict[str, Keyholder] = {}
    for name in (*ROOT_HOLDERS, *NPM_HOLDERS, ONLINE):
        key, passphrase = folder / name / "key.pem", secrets.token_bytes(18).hex().encode()
        key.parent.mkdir(parents=True)
        algorithm = Algorithm.ECDSA_P256 if name in ("bob", "npm-ben") else Algorithm.ED25519
        new_key(key, algorithm, passphrase)
        people[name] = Keyholder(name, key, passphrase)
    return people


class Maintainers:
    """The workspace, and whoever signs for it."""

    def __init__(self, people: Mapping[str, Keyholder], folder: Path, published: Path) -> None:
        """Work in ``folder`` and publish to ``published``."""
        self.people = people
        self.published = published
        self._folder = folder
        self._workspace = Workspace(root=folder)

    def found(self, entry: CatalogueEntry, *, now: datetime) -> None:
        """Begin the repository: root and targets 2 of 3, npm's paths in the hands of npm's own keyholders."""
        charter = Charter(
            name="demo",
            keyholders={name: self.people[name].public for name in ROOT_HOLDERS},
            online={ONLINE: self.people[ONLINE].public},
            root_threshold=2,
            targets_threshold=2,
            delegate_keys={name: self.people[name].public for name in NPM_HOLDERS},
            delegates=(Delegate(role=facts.REGISTRY, keyholders=NPM_HOLDERS, threshold=2),),
            registries=(entry,),
        )
        self._workspace, _ = found_repository(self._folder, charter, now=now)

    def change_keys(self, document: bytes, reason: str, *, now: datetime) -> None:
        """Open a signing event that replaces npm's key document."""
        path = f"{facts.REGISTRY}/keys.json"
        change(self._workspace, lambda view: add_target(view, path, document), now=now, reason=reason)

    def sign_here(self, name: str) -> None:
        """Have a keyholder sign at the workspace."""
        sign_event(self._workspace, self.people[name].signer())

    def sign_elsewhere(self, name: str, trusted_root: bytes | None) -> str:
        """Have a keyholder sign from the request file alone; gives the request code that this keyholder reads aloud."""
        request = self.request()
        code, response = self.people[name].answer(request, trusted_root)
        import_responses(self._workspace, [(f"{name}.response.json", Response.from_bytes(response))])
        return code

    def request(self) -> bytes:
        """The request file of the open event."""
        return export_request(self._workspace).to_bytes()

    def merge(self) -> None:
        """Take the open event into the signed metadata.

        Raises:
            ThresholdError: signatures are missing.
        """
        merge_event(self._workspace)

    def publish(self, *, now: datetime, readers: Mapping[str, Reader] = READERS) -> int:
        """Sign snapshot and timestamp, and publish once ``readers`` accept it; gives the timestamp's version."""
        online = sign_online(self._workspace, [self.people[ONLINE].signer()], now=now)
        publish(self._workspace, self.published, now=now, readers=readers)
        return online.timestamp
