"""A repository as a value: keyholders, a chain of roots and any targets, and a timestamp that can be signed again.

It is shaped as Sigstore's: five keyholders with ECDSA P-256 keys (three must sign, all do) and one online key. Keys are
made here and thrown away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

__all__ = ["Made"]

KEYHOLDERS, THRESHOLD = 5, 3
EXPIRES = datetime.now(UTC).replace(microsecond=0) + timedelta(days=365)
DAY = timedelta(days=1)


class Made:
    """A published repository in ``folder``."""

    def __init__(self, folder: Path, *, roots: int, targets: Mapping[str, bytes]) -> None:
        """Make it: a chain of so many roots, and targets by path."""
        self.folder = folder
        (folder / "metadata").mkdir(parents=True)
        keyholders = [CryptoSigner.generate_ecdsa() for _ in range(KEYHOLDERS)]
        self._online = CryptoSigner.generate_ecdsa()
        root = Root(expires=EXPIRES, consistent_snapshot=True)
        for role, signers in (("root", keyholders), ("targets", keyholders), ("snapshot", [self._online])):
            for signer in signers:
                root.add_key(signer.public_key, role)
        root.add_key(self._online.public_key, "timestamp")
        for role in ("root", "targets"):
            root.roles[role].threshold = THRESHOLD
        for version in range(1, roots + 1):
            root.version = version
            self._write(f"{version}.root.json", root, keyholders)
        listed = {path: TargetFile.from_data(path, data, ["sha256"]) for path, data in targets.items()}
        self._write("1.targets.json", Targets(expires=EXPIRES, targets=listed), keyholders)
        self._write("1.snapshot.json", Snapshot(expires=EXPIRES, meta={"targets.json": MetaFile(1)}), [self._online])
        self.sign_timestamp(1)
        for path, data in targets.items():
            place = folder / "targets" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.with_name(f"{hashlib.sha256(data).hexdigest()}.{place.name}").write_bytes(data)
        self.initial_root = (folder / "metadata" / "1.root.json").read_bytes()

    def sign_timestamp(self, version: int) -> None:
        """Sign the timestamp of a day: as of another one, with another end, over the same snapshot."""
        timestamp = Timestamp(version=version, expires=EXPIRES + version * DAY, snapshot_meta=MetaFile(1))
        self._write("timestamp.json", timestamp, [self._online])

    def _write(self, name: str, payload: Any, signers: Sequence[Signer]) -> None:
        document: Metadata[Any] = Metadata(payload)
        for signer in signers:
            document.sign(signer, append=True)
        (self.folder / "metadata" / name).write_bytes(document.to_bytes())
