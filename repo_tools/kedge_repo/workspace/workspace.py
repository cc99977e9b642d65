"""The maintainers' workspace: a folder that git likes.

::

    kedge-repo.toml            the policy
    keys/alice.pub             public keys
    metadata/1.root.json …     signed metadata, every version; timestamp.json
    targets/registry.npmjs.org/keys.json
    events/<name>/             open signing events (kedge_repo.events.event)

Invariants:

- Every write is atomic and durable (:mod:`kedge_repo.workspace.files`); whoever writes holds the workspace's lock.
- Versioned metadata is never overwritten with other bytes.
- What is read is checked: the policy, the keys, the shape of the metadata. Whether the metadata is *right* is asked by
  :meth:`kedge_repo.workspace.metadata.SignedMetadata.verify`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from securesystemslib.signer import Key
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from kedge.documents import blame_user
from kedge.errors import InputError, StoreError, VerificationError
from kedge.tuf import Parsed, parse
from kedge_repo.workspace import files as disk
from kedge_repo.workspace.metadata import SignedMetadata, delegated_roles, file_name
from kedge_repo.workspace.policy import Policy
from kedge_repo.workspace.public_key import fingerprint, parse_public_key

POLICY_FILE = "kedge-repo.toml"
LOCK_FILE = ".kedge-repo.lock"
LOCK_TIMEOUT_S = 10.0

_VERSIONED = re.compile(r"([1-9]\d{0,8})\.(.+)\.json", re.ASCII)

T = TypeVar("T", Root, Timestamp, Snapshot, Targets)


def find_workspace(start: Path) -> Workspace:
    """The workspace that ``start`` stands in: the nearest folder upwards with a ``kedge-repo.toml``.

    Raises:
        InputError: there is none.
    """
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / POLICY_FILE).is_file():
            return Workspace(root=folder)
    raise InputError(
        f"{start}: neither this folder nor one above it holds a {POLICY_FILE}",
        hint="name the workspace with -w, or make one with kedge-repo init",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """A workspace at the folder ``root``."""

    root: Path
    lock_timeout_s: float = LOCK_TIMEOUT_S

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other writers out of the workspace.

        Raises:
            StoreError: another writer holds the lock for longer than ``lock_timeout_s``.
        """
        lock = FileLock(self.root / LOCK_FILE, timeout=self.lock_timeout_s)
        try:
            lock.acquire()
        except Timeout as error:
            raise StoreError(
                f"{self.root}: another kedge-repo is writing here (waited {self.lock_timeout_s:g} s)",
                hint="wait for it to end and run the command again",
            ) from error
        except OSError as error:
            raise StoreError(f"{self.root / LOCK_FILE}: cannot be locked: {error.strerror}") from error
        try:
            yield
        finally:
            lock.release()

    def policy_text(self) -> str:
        """The policy file's text.

        Raises:
            InputError: it cannot be read, or is not UTF-8.
        """
        path = self.root / POLICY_FILE
        try:
            return disk.read_file(path, max_bytes=1_000_000).decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{self._show(path)}: is not UTF-8 (byte {error.start})") from error

    def policy(self) -> Policy:
        """The policy.

        Raises:
            InputError: the file cannot be read, or is not a policy.
        """
        text = self.policy_text()
        with blame_user(POLICY_FILE):
            return Policy.from_text(text)

    def keys(self, policy: Policy) -> dict[str, Key]:
        """The public key of each keyholder that ``policy`` names.

        Raises:
            InputError: a key file is missing or malformed, or two keyholders hold one key.
        """
        found: dict[str, Key] = {}
        owners: dict[str, str] = {}
        for name, keyholder in policy.keyholders.items():
            data = disk.read_file(self.root / keyholder.public, what="public key", max_bytes=100_000)
            with blame_user(keyholder.public):
                key = parse_public_key(data)
            other = owners.setdefault(fingerprint(key), name)
            if other != name:
                raise InputError(f"{keyholder.public}: {name} and {other} hold the same key, expected one key each")
            found[name] = key
        return found

    def signed(self, *, online: bool = True) -> SignedMetadata:
        """The signed metadata: every root, and the newest version of every other role; ``online`` ones if asked for.

        Raises:
            InputError: a file is malformed, or a root version is missing.
        """
        newest: dict[str, int] = {}
        for name in self._metadata_names():
            match = _VERSIONED.fullmatch(name)
            if match is not None:
                newest[match[2]] = max(newest.get(match[2], 0), int(match[1]))
        roots = tuple(self._parsed(file_name("root", n), Root) for n in range(1, newest.pop("root", 0) + 1))
        targets = newest.pop("targets", None)
        snapshot = newest.pop("snapshot", None) if online else None
        parsed = self._parsed(file_name("targets", targets), Targets) if targets else None
        delegated = delegated_roles(parsed.signed) if parsed else ()
        return SignedMetadata(
            roots=roots,
            targets=parsed,
            delegated={n: self._parsed(file_name(n, newest[n]), Targets) for n in delegated if n in newest},
            snapshot=self._parsed(file_name("snapshot", snapshot), Snapshot) if snapshot else None,
            timestamp=self._parsed("timestamp.json", Timestamp) if online and self._has("timestamp.json") else None,
        )

    def has_timestamp(self) -> bool:
        """Whether a timestamp was ever signed."""
        return self._has("timestamp.json")

    def timestamp(self) -> Parsed[Timestamp]:
        """The newest timestamp.

        Raises:
            InputError: it is not there, or malformed.
        """
        if not self._has("timestamp.json"):
            raise InputError("metadata/timestamp.json: is missing", hint="sign it with kedge-repo online")
        return self._parsed("timestamp.json", Timestamp)

    def target(self, path: str) -> bytes:
        """The bytes of a target.

        Raises:
            InputError: it cannot be read.
        """
        return disk.read_file(self._target_file(path), what="target")

    def events(self) -> tuple[str, ...]:
        """The names of the open signing events."""
        folder = self.root / "events"
        if not folder.is_dir():
            return ()
        return tuple(sorted(entry.parent.name for entry in folder.glob("[!.]*/event.json")))

    def event_folder(self, name: str) -> Path:
        """Where the event ``name`` keeps its files."""
        return self.root / "events" / name

    def write_metadata(self, file: str, data: bytes) -> None:
        """Keep a versioned metadata file; the lock must be held.

        Raises:
            InputError: the name is taken by other bytes.
            StoreError: the disk refused.
        """
        path = self.root / "metadata" / file
        try:
            disk.create_file(path, data)
        except FileExistsError as error:
            if disk.read_file(path) != data:
                raise InputError(
                    f"metadata/{file}: holds other bytes than this event; versions are never overwritten"
                ) from error

    def adopt_snapshot(self, file: str, data: bytes) -> None:
        """Keep the snapshot that is published, in the place of one of ours that never was; the lock must be held.

        Raises:
            StoreError: the disk refused.
        """
        disk.replace_file(self.root / "metadata" / file, data)

    def write_timestamp(self, data: bytes) -> None:
        """Replace ``timestamp.json``; the lock must be held.

        Raises:
            StoreError: the disk refused.
        """
        disk.replace_file(self.root / "metadata" / "timestamp.json", data)

    def write_target(self, path: str, data: bytes) -> None:
        """Keep a target's bytes; the lock must be held.

        Raises:
            StoreError: the disk refused.
        """
        disk.replace_file(self._target_file(path), data)

    def write_targets(self, files: Mapping[str, bytes]) -> int:
        """Keep the bytes of many targets, and give their number; the lock must be held.

        Raises:
            StoreError: the disk refused.
        """
        return disk.replace_many((self._target_file(path), data) for path, data in files.items())

    def remove_target(self, path: str) -> None:
        """Remove a target's bytes, if they are there; the lock must be held.

        Raises:
            StoreError: the disk refused.
        """
        disk.remove_file(self._target_file(path))

    def write_key(self, public: str, pem: bytes) -> None:
        """Replace a keyholder's public key; the lock must be held.

        Raises:
            StoreError: the disk refused.
        """
        disk.replace_file(self.root / public, pem)

    def remove_key(self, public: str) -> None:
        """Remove a public key that no keyholder has any more; the lock must be held.

        Raises:
            StoreError: the disk refused.
        """
        disk.remove_file(self.root / public)

    def write_policy(self, text: str) -> None:
        """Replace the policy file; the lock must be held.

        Raises:
            InputError: the text is not a policy.
            StoreError: the disk refused.
        """
        with blame_user(POLICY_FILE):
            Policy.from_text(text)
        disk.replace_file(self.root / POLICY_FILE, text.encode("utf-8"))

    def history(self, role: str) -> Mapping[int, Path]:
        """Every kept version of a role, by version."""
        found: dict[int, Path] = {}
        for name in self._metadata_names():
            match = _VERSIONED.fullmatch(name)
            if match is not None and match[2] == role:
                found[int(match[1])] = self.root / "metadata" / name
        return found

    def _metadata_names(self) -> list[str]:
        folder = self.root / "metadata"
        try:
            return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
        except OSError as error:
            raise InputError(f"{folder}: cannot be read: {error.strerror}") from error

    def _has(self, file: str) -> bool:
        return (self.root / "metadata" / file).exists()

    def _parsed(self, file: str, kind: type[T]) -> Parsed[T]:
        data = disk.read_file(self.root / "metadata" / file, what="metadata file")
        try:
            parsed = parse(data, kind, file=f"metadata/{file}")
        except VerificationError as error:
            raise InputError(error.message) from error
        self._check_version(file, parsed)
        return parsed

    def _check_version(self, file: str, parsed: Parsed[Any]) -> None:
        match = _VERSIONED.fullmatch(file)
        if match is not None and parsed.signed.version != int(match[1]):
            raise InputError(
                f"metadata/{file}: signed.version: must be {match[1]}, as its name says, not {parsed.signed.version}"
            )

    def _target_file(self, path: str) -> Path:
        return self.root / "targets" / path

    def _show(self, path: Path) -> str:
        return str(path.relative_to(self.root))
