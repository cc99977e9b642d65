"""kedge refreshes repositories that others made: with python-tuf's API, and Sigstore's, which tuf-on-ci made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.client.settings import FixedClock
from kedge.documents import parse_time
from kedge.errors import ExpiredError, VerificationError
from kedge.transport.mirror import Mirror
from support.server import HostileServer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FILE = "folder/file.txt"
NPM = "registry.npmjs.org"
NEWEST_SIGSTORE_ROOT = 15

ALGORITHMS = {
    "ed25519": CryptoSigner.generate_ed25519,
    "ecdsa": CryptoSigner.generate_ecdsa,
    "rsa": CryptoSigner.generate_rsa,
    "ml-dsa": CryptoSigner.generate_mldsa,
}


def with_python_tuf(folder: Path, signer: Signer, *, consistent: bool) -> bytes:
    """The smallest repository, with python-tuf's defaults for all that is not named; gives its root."""
    expires = NOW + timedelta(days=1)
    root = Root(expires=expires, consistent_snapshot=consistent)
    for role in ("root", "timestamp", "snapshot", "targets"):
        root.add_key(signer.public_key, role)
    data = b"a file"
    target = TargetFile.from_data(FILE, data, ["sha512", "sha256"])
    payloads: dict[str, Any] = {
        "1.root.json": root,
        "timestamp.json": Timestamp(expires=expires),
        f"{'1.' if consistent else ''}snapshot.json": Snapshot(
            expires=expires, meta={"targets.json": MetaFile(1), "unpublished.json": MetaFile(7)}
        ),
        f"{'1.' if consistent else ''}targets.json": Targets(expires=expires, targets={FILE: target}),
    }
    (folder / "metadata").mkdir(parents=True)
    for name, payload in payloads.items():
        metadata: Metadata[Any] = Metadata(payload)
        metadata.sign(signer)
        metadata.to_file(str(folder / "metadata" / name))
    prefix = f"{target.hashes['sha256']}." if consistent else ""
    served = folder / "targets" / "folder" / f"{prefix}file.txt"
    served.parent.mkdir(parents=True)
    served.write_bytes(data)
    return (folder / "metadata" / "1.root.json").read_bytes()


@pytest.mark.parametrize("consistent", [True, False], ids=["consistent", "plain"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_repository_made_with_python_tuf_is_read(tmp_path: Path, algorithm: str, consistent: bool) -> None:
    root = with_python_tuf(tmp_path / "public", ALGORITHMS[algorithm](), consistent=consistent)
    with HostileServer(tmp_path / "public") as server:
        anchor = Anchor(name="foreign", initial_root=root, mirrors=(Mirror(url=server.url),))
        with TrustClient(anchor, state=tmp_path / "state", clock=FixedClock(NOW)) as client:
            assert client.target(FILE).data == b"a file"
            assert client.trust.refreshed
        with (
            TrustClient(anchor, state=tmp_path / "late", clock=FixedClock(NOW + timedelta(days=2))) as late,
            pytest.raises(ExpiredError),
        ):
            late.target(FILE)


@pytest.mark.parametrize("version", range(1, NEWEST_SIGSTORE_ROOT + 1))
def test_sigstores_repository_is_read_from_every_root_that_can_be(
    shared_vectors: Path, tmp_path: Path, version: int
) -> None:
    """Its roots 1 to 4 have times and keys of a kind from before TUF 1.0: they are refused, as python-tuf does."""
    repository = shared_vectors / "sigstore-repo"
    now = parse_time((repository / "REFERENCE_TIME").read_text().strip())
    root = (repository / "metadata" / f"{version}.root.json").read_bytes()
    anchor = Anchor(name="sigstore", initial_root=root, mirrors=(Mirror(url=str(repository)),))
    with TrustClient(anchor, state=tmp_path, clock=FixedClock(now)) as client:
        if version < 5:
            with pytest.raises(VerificationError):
                client.refresh()
            return
        assert client.refresh().root.version == NEWEST_SIGSTORE_ROOT
        assert client.registry_keys(NPM).keys
        assert client.target("trusted_root.json").role == "targets"
