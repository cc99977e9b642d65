"""A TUF repository in memory, honest until told otherwise: every lie is a line.

``RepositorySimulator`` holds the payloads of all roles, the keys that sign them, and ``files``: what a web server of
that repository would serve, path to bytes. The ideas:

- Its *honest* methods (:meth:`~RepositorySimulator.add_target`, :meth:`~RepositorySimulator.delegate`,
  :meth:`~RepositorySimulator.publish`, :meth:`~RepositorySimulator.rotate`) keep everything consistent.
- A *lie of a role* is a payload that its own keys sign: ``with repo.edit("snapshot") as snapshot: …`` hands out the
  next version to be spoilt, signs it, and publishes what follows from it. A lie by other keys is
  ``repo.sign("timestamp", signers=[stolen])``.
- A *lie of the mirror* needs no key: ``repo.replace(path, data)``, ``repo.restore(older)``, or ``files`` itself.
- ``with repo.lying(): …`` takes everything back at its end. A later :meth:`~RepositorySimulator.publish` heals what
  lies left behind in snapshot and timestamp, with versions above all that was ever signed.

Times are relative to ``now``, which may be moved. Keys are fresh Ed25519 keys. Layout: ``metadata/`` and ``targets/``
with consistent snapshots, unless the root says otherwise.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner, Key, Signer
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

__all__ = ["LIFETIMES", "RepositorySimulator", "Saved", "new_signers"]

T = TypeVar("T", bound=Signed)

TOP_LEVEL = ("root", "timestamp", "snapshot", "targets")

LIFETIMES = {
    "root": timedelta(days=365),
    "timestamp": timedelta(days=1),
    "snapshot": timedelta(days=7),
    "targets": timedelta(days=90),
}
"""How long what is signed is valid. Delegated roles live as long as ``targets``."""


def new_signers(count: int = 1) -> list[Signer]:
    """Make fresh Ed25519 keys."""
    return [CryptoSigner.generate_ed25519() for _ in range(count)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A moment of a repository, for :meth:`RepositorySimulator.restore`."""

    files: dict[str, bytes]
    payloads: dict[str, Signed]
    signers: dict[str, list[Signer]]
    root_signers: list[Signer]
    signed: dict[str, bytes]
    highest: dict[str, int]
    changed: set[str]
    now: datetime


class RepositorySimulator:
    """An honest repository, published once, with nothing in it.

    ``root`` is (threshold, number of keys) of the root role; the other roles have one key each until rotated.
    """

    def __init__(self, *, now: datetime, root: tuple[int, int] = (1, 1), meta_hashes: bool = True) -> None:
        self.now = now
        self.meta_hashes = meta_hashes
        """Whether timestamp and snapshot name hash and length of what they list (both are optional in TUF)."""
        self.lifetimes = dict(LIFETIMES)
        self.files: dict[str, bytes] = {}
        """What is served: path to bytes."""
        self.payloads: dict[str, Signed] = {
            "root": Root(consistent_snapshot=True),
            "timestamp": Timestamp(),
            "snapshot": Snapshot(),
            "targets": Targets(),
        }
        self.signers = {role: new_signers(root[1] if role == "root" else 1) for role in TOP_LEVEL}
        """The keys that sign each role when nothing else is said."""
        self._root_signers: list[Signer] = []
        self._signed: dict[str, bytes] = {}
        self._highest: dict[str, int] = {}
        self._changed: set[str] = set()
        for role in TOP_LEVEL:
            self._authorise(role, root[0] if role == "root" else 1)
        with self.edit("root"):
            pass
        self.initial_root = self.files["metadata/1.root.json"]
        with self.edit("targets"):
            pass

    # What stands in it

    @property
    def root(self) -> Root:
        """The payload of the newest root."""
        return _typed(self.payloads["root"], Root)

    @property
    def timestamp(self) -> Timestamp:
        """The payload of the timestamp."""
        return _typed(self.payloads["timestamp"], Timestamp)

    @property
    def snapshot(self) -> Snapshot:
        """The payload of the snapshot."""
        return _typed(self.payloads["snapshot"], Snapshot)

    def targets(self, role: str = "targets") -> Targets:
        """The payload of a targets role, the top-level one or a delegated one."""
        return _typed(self.payloads[role], Targets)

    def path_of(self, role: str, version: int | None = None) -> str:
        """The path under which a role's metadata is served (its newest version, if none is named)."""
        name = quote(role, safe="")
        if role == "timestamp" or (role != "root" and not self.root.consistent_snapshot):
            return f"metadata/{name}.json"
        return f"metadata/{self.payloads[role].version if version is None else version}.{name}.json"

    def path_of_target(self, path: str, data: bytes) -> str:
        """The path under which a target's bytes are served."""
        folder, _, name = path.rpartition("/")
        if self.root.consistent_snapshot:
            name = f"{hashlib.sha256(data).hexdigest()}.{name}"
        return "/".join(part for part in ("targets", folder, name) if part)

    # What an honest repository does

    def add_target(
        self, path: str, data: bytes, *, role: str = "targets", custom: dict[str, Any] | None = None
    ) -> None:
        """Add a target, or replace it. Its role names it from the next :meth:`publish` on."""
        target = TargetFile.from_data(path, data, ["sha256"])
        if custom is not None:
            target.unrecognized_fields["custom"] = custom
        self.targets(role).targets[path] = target
        self.files[self.path_of_target(path, data)] = data
        self._changed.add(role)

    def delegate(
        self,
        role: str,
        *,
        paths: Sequence[str] | None = None,
        hash_prefixes: Sequence[str] | None = None,
        threshold: int = 1,
        keys: int = 1,
        terminating: bool = False,
        parent: str = "targets",
    ) -> None:
        """Let ``parent`` delegate ``paths`` (or prefixes of path hashes) to ``role``, made here if it is new."""
        if role not in self.payloads:
            self.payloads[role] = Targets()
            self.signers[role] = new_signers(keys)
        delegations = self._delegations(parent)
        if delegations.roles is None:
            delegations.roles = {}
        keyids = [signer.public_key.keyid for signer in self.signers[role]]
        delegations.roles[role] = DelegatedRole(
            name=role,
            keyids=keyids,
            threshold=threshold,
            terminating=terminating,
            paths=None if paths is None else list(paths),
            path_hash_prefixes=None if hash_prefixes is None else list(hash_prefixes),
        )
        delegations.keys.update({signer.public_key.keyid: signer.public_key for signer in self.signers[role]})
        self._changed |= {parent, role}

    def delegate_bins(self, *, bit_length: int, prefix: str = "bins", parent: str = "targets") -> None:
        """Let ``parent`` delegate everything to ``2 ** bit_length`` succinct hash bins, all signed by one key."""
        signers = new_signers()
        key = signers[0].public_key
        bins = SuccinctRoles(keyids=[key.keyid], threshold=1, bit_length=bit_length, name_prefix=prefix)
        self.targets(parent).delegations = Delegations(keys={key.keyid: key}, succinct_roles=bins)
        for role in bins.get_roles():
            self.payloads[role] = Targets()
            self.signers[role] = signers
            self._changed.add(role)
        self._changed.add(parent)

    def bin_of(self, path: str, parent: str = "targets") -> str:
        """The bin that a target path falls into."""
        bins = self._delegations(parent).succinct_roles
        assert bins is not None, "this role does not delegate to bins"
        return bins.get_role_for_target(path)

    def publish(self) -> None:
        """Sign what was changed, then the next snapshot, then the next timestamp."""
        for role in sorted(self._changed):
            self._bump(role)
            self.sign(role)
        self._changed.clear()
        self._follow("targets")

    def rotate(self, role: str, *, keys: int = 1, threshold: int = 1, republish: bool = True) -> None:
        """Give a top-level role fresh keys in the next root, and sign the role with them.

        ``republish=False`` leaves the role as the old keys signed it.
        """
        for signer in self.signers[role]:
            self.root.revoke_key(signer.public_key.keyid, role)
        self.signers[role] = new_signers(keys)
        self._authorise(role, threshold)
        with self.edit("root"):
            pass
        if role != "root" and republish:
            with self.edit(role):
                pass

    # What a dishonest one does

    @contextmanager
    def edit(self, role: str) -> Iterator[Any]:
        """Change a role's payload: its next version is handed out, then signed with all that follows from it.

        A new root is signed by the keys of the last one and by its own. The block may set ``version`` and ``expires``.
        """
        self._bump(role)
        yield self.payloads[role]
        self._changed.discard(role)
        self.sign(role)
        self._follow(role)

    def sign(self, role: str, *, signers: Sequence[Signer] | None = None) -> bytes:
        """Sign a role's payload as it stands (by its own keys, if no others are given), serve it, and return it."""
        if signers is None:
            signers = [*self._root_signers, *self.signers["root"]] if role == "root" else self.signers[role]
        if role == "root":
            self._root_signers = list(self.signers["root"])
        payload = self.payloads[role]
        metadata: Metadata[Any] = Metadata(payload)
        for signer in {signer.public_key.keyid: signer for signer in signers}.values():
            metadata.sign(signer, append=True)
        data = metadata.to_bytes(JSONSerializer(compact=True))
        self.files[self.path_of(role)] = self._signed[role] = data
        if isinstance(payload.version, int):
            self._highest[role] = max(self._highest.get(role, 0), payload.version)
        return data

    def sign_raw(self, role: str, signed: Any) -> None:
        """Serve any JSON value as a role's payload, rightly signed by its keys, in place of its newest version."""
        payload = encode_canonical(signed)
        assert payload is not None
        signatures = [signer.sign(payload.encode()).to_dict() for signer in self.signers[role]]
        self.files[self.path_of(role)] = json.dumps({"signatures": signatures, "signed": signed}).encode()

    def replace(self, path: str, data: bytes | None) -> None:
        """Serve other bytes under a path, or (``None``) nothing."""
        if data is None:
            del self.files[path]
        else:
            self.files[path] = data

    @contextmanager
    def tamper(self, path: str) -> Iterator[Any]:
        """Change a served JSON document behind its signatures' back."""
        document = json.loads(self.files[path])
        yield document
        self.files[path] = json.dumps(document).encode()

    @contextmanager
    def lying(self) -> Iterator[None]:
        """Take back, at the end of the block, all that was done in it."""
        saved = self.save()
        try:
            yield
        finally:
            self.restore(saved)

    def save(self) -> Saved:
        """Remember this moment."""
        return Saved(
            files=dict(self.files),
            payloads=copy.deepcopy(self.payloads),
            signers={role: list(signers) for role, signers in self.signers.items()},
            root_signers=list(self._root_signers),
            signed=dict(self._signed),
            highest=dict(self._highest),
            changed=set(self._changed),
            now=self.now,
        )

    def restore(self, saved: Saved) -> None:
        """Be again as at a remembered moment: a rollback of everything."""
        self.files = dict(saved.files)
        self.payloads = copy.deepcopy(saved.payloads)
        self.signers = {role: list(signers) for role, signers in saved.signers.items()}
        self._root_signers = list(saved.root_signers)
        self._signed = dict(saved.signed)
        self._highest = dict(saved.highest)
        self._changed = set(saved.changed)
        self.now = saved.now

    # On disk

    def write(self, folder: Path) -> None:
        """Make ``folder`` hold exactly the served files; each is replaced at once, and the timestamp comes last."""
        for path in sorted(self.files, key=lambda path: (path == "metadata/timestamp.json", path)):
            destination = folder / path
            if destination.is_file() and destination.read_bytes() == self.files[path]:
                continue
            destination.parent.mkdir(parents=True, exist_ok=True)
            partial = destination.with_name(f".{destination.name}.partial")
            partial.write_bytes(self.files[path])
            partial.replace(destination)
        for found in [found for found in folder.rglob("*") if found.is_file()]:
            if found.relative_to(folder).as_posix() not in self.files:
                found.unlink()

    # How it is done

    def _authorise(self, role: str, threshold: int) -> None:
        for signer in self.signers[role]:
            self.root.add_key(signer.public_key, role)
        self.root.roles[role].threshold = threshold

    def _delegations(self, parent: str) -> Delegations:
        targets = self.targets(parent)
        if targets.delegations is None:
            targets.delegations = Delegations(keys=dict[str, Key](), roles={})
        return targets.delegations

    def _bump(self, role: str) -> None:
        payload = self.payloads[role]
        payload.version = self._highest.get(role, 0) + 1
        payload.expires = self.now + self.lifetimes.get(role, self.lifetimes["targets"])

    def _follow(self, role: str) -> None:
        """Publish what has to name the new version of ``role``."""
        if role in ("root", "timestamp"):
            return
        if role != "snapshot":
            self._bump("snapshot")
            listed = [name for name in self._signed if name not in ("root", "timestamp", "snapshot")]
            self.snapshot.meta = {f"{name}.json": self._meta(name) for name in listed}
            self.sign("snapshot")
        self._bump("timestamp")
        self.timestamp.snapshot_meta = self._meta("snapshot")
        self.sign("timestamp")

    def _meta(self, role: str) -> MetaFile:
        data = self._signed[role]
        if not self.meta_hashes:
            return MetaFile(version=self.payloads[role].version)
        return MetaFile(self.payloads[role].version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})


def _typed(payload: Signed, kind: type[T]) -> T:
    assert isinstance(payload, kind)
    return payload
