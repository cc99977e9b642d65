"""Makes the repositories that are measured, shaped as Sigstore's public-good instance is.

::

    python chains.py FOLDER 1 15 100     makes FOLDER/1, FOLDER/15, FOLDER/100: chains of so many roots

Five keyholders with ECDSA P-256 keys sign root and targets (three must, all do), one online key signs snapshot and
timestamp, and a terminating delegation lists one target of 2,121 bytes. Keys are made here and thrown away.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

__all__ = ["TARGET", "make"]

TARGET = "registry.example/keys.json"
KEYHOLDERS, THRESHOLD, TARGET_BYTES = 5, 3, 2121
EXPIRES = datetime.now(UTC).replace(microsecond=0) + timedelta(days=365)


def make(folder: Path, roots: int) -> None:
    """Make one repository whose newest root is version ``roots``."""
    keyholders = [CryptoSigner.generate_ecdsa() for _ in range(KEYHOLDERS)]
    online, delegate = CryptoSigner.generate_ecdsa(), CryptoSigner.generate_ecdsa()
    metadata = folder / "metadata"
    metadata.mkdir(parents=True)
    root = Root(expires=EXPIRES, consistent_snapshot=True)
    for role in ("root", "targets"):
        for signer in keyholders:
            root.add_key(signer.public_key, role)
        root.roles[role].threshold = THRESHOLD
    for role in ("snapshot", "timestamp"):
        root.add_key(online.public_key, role)
    for version in range(1, roots + 1):
        root.version = version
        _write(metadata / f"{version}.root.json", root, keyholders)

    data = os.urandom(TARGET_BYTES)
    name = TARGET.partition("/")[0]
    listed = Targets(expires=EXPIRES, targets={TARGET: TargetFile.from_data(TARGET, data, ["sha256"])})
    delegated = DelegatedRole(name, [delegate.public_key.keyid], 1, terminating=True, paths=[f"{name}/*"])
    targets = Targets(
        expires=EXPIRES, delegations=Delegations({delegate.public_key.keyid: delegate.public_key}, {name: delegated})
    )
    _write(metadata / f"1.{name}.json", listed, [delegate])
    _write(metadata / "1.targets.json", targets, keyholders)
    meta = {"targets.json": MetaFile(1), f"{name}.json": MetaFile(1)}
    _write(metadata / "1.snapshot.json", Snapshot(expires=EXPIRES, meta=meta), [online])
    _write(metadata / "timestamp.json", Timestamp(expires=EXPIRES, snapshot_meta=MetaFile(1)), [online])
    file = folder / "targets" / name / f"{hashlib.sha256(data).hexdigest()}.keys.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(data)


def _write(path: Path, payload: Any, signers: Sequence[Signer]) -> None:
    document: Metadata[Any] = Metadata(payload)
    for signer in signers:
        document.sign(signer, append=True)
    path.write_bytes(document.to_bytes())


if __name__ == "__main__":
    for count in sys.argv[2:]:
        make(Path(sys.argv[1]) / count, int(count))
