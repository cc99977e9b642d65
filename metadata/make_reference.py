"""Make ``metadata/reference/``: a complete repository with a rotation in its history, from the catalogue.

Everything is done by kedge-repo's own functions. The keys exist in this process only and are gone when it ends, so the
result can be made anew but never continued: golden data, and an example to read.

::

    python metadata/make_reference.py metadata/reference
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.signer import CryptoSigner

from kedge_repo.events.changes import change, merge_event
from kedge_repo.events.init import Charter, Delegate, Expiry, found_repository
from kedge_repo.events.plan import add_target
from kedge_repo.events.plan_keys import rotate_key
from kedge_repo.events.signatures import sign_event
from kedge_repo.publish.online import sign_online
from kedge_repo.publish.publish import publish_workspace
from kedge_repo.workspace.catalogue import CatalogueEntry, catalogue_entry
from kedge_repo.workspace.public_key import parse_public_key
from kedge_repo.workspace.workspace import Workspace

REGISTRY = "registry.npmjs.org"
NEW_KEYID = "SHA256:DhQ8wR5APBvFHLF/+Tc+AYvPOdTpcIDqOhxsBHRwC7U"
# Nobody can sign it again, so it is made to last.
LASTING = Expiry(expiry_days=3650, signing_days=365)
ROLES = ("root", "targets", "snapshot", "timestamp", REGISTRY)


@dataclass(frozen=True, slots=True)
class Key:
    """A key pair in memory."""

    signer: CryptoSigner
    pem: bytes


def main(folder: Path) -> None:
    """Make the repository in ``folder``, which must be new or empty."""
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"{folder}: is not empty")
    now = datetime.now(UTC)
    keys = {name: _new_key(name) for name in ("alice", "bob", "carol", "carol-2", "npm", "ci")}
    entry = catalogue_entry(REGISTRY)
    with tempfile.TemporaryDirectory() as temporary:
        workspace, _ = found_repository(Path(temporary) / "workspace", _charter(keys), now=now)
        _replace_keys(workspace, _before_the_rotation(entry), "npm's keys as they were until 2025-01-13", now)
        _finish(workspace, folder, keys, ("alice", "bob", "npm"), now)
        _replace_keys(workspace, entry.target_bytes, "npm rotates its key", now)
        _finish(workspace, folder, keys, ("npm",), now)
        rotated = parse_public_key(keys["carol-2"].pem)
        change(workspace, lambda view: rotate_key(view, "carol", rotated), now=now, reason="carol has a new key")
        _finish(workspace, folder, keys, ("alice", "bob", "carol-2"), now)


def _charter(keys: dict[str, Key]) -> Charter:
    return Charter(
        name="reference",
        keyholders={name: keys[name].pem for name in ("alice", "bob", "carol")},
        online={"ci": keys["ci"].pem},
        root_threshold=2,
        targets_threshold=2,
        delegate_keys={"npm": keys["npm"].pem},
        delegates=(Delegate(role=REGISTRY, keyholders=("npm",)),),
        expiries=dict.fromkeys(ROLES, LASTING),
    )


def _before_the_rotation(entry: CatalogueEntry) -> bytes:
    """The key document without the key of 2025-01-13, and with the former key's end not yet known."""
    document = json.loads(entry.target_bytes)
    document["keys"] = [key for key in document["keys"] if key["keyId"] != NEW_KEYID]
    for key in document["keys"]:
        del key["publicKey"]["validFor"]["end"]
    return json.dumps(document, indent=2).encode() + b"\n"


def _replace_keys(workspace: Workspace, document: bytes, reason: str, now: datetime) -> None:
    path = f"{REGISTRY}/keys.json"
    change(workspace, lambda view: add_target(view, path, document), now=now, reason=reason)


def _finish(workspace: Workspace, folder: Path, keys: dict[str, Key], signing: Iterable[str], now: datetime) -> None:
    for name in signing:
        sign_event(workspace, keys[name].signer)
    merge_event(workspace)
    sign_online(workspace, [keys["ci"].signer], now=now)
    publish_workspace(workspace, folder, now=now)


def _new_key(name: str) -> Key:
    private = generate_private_key(SECP256R1()) if name == "bob" else Ed25519PrivateKey.generate()
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return Key(CryptoSigner(private), pem)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
