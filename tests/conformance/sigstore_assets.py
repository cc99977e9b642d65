"""Runs the ``bundle-verify`` assets of the public Sigstore conformance suite on kedge's verifier.

The zip holds a folder for each asset; a name that ends in ``_fail`` must be refused, every other accepted.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kedge.documents import DocumentError
from kedge.errors import VerificationError
from kedge.registries.sigstore import Bundle, BundleVerifier, Content, Expected, ManagedKey, Sigstore

IDENTITY = (
    "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon"
    "/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main"
)
ISSUER = "https://token.actions.githubusercontent.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One asset: the files of its folder by name, and the file that was signed."""

    name: str
    files: dict[str, bytes]
    artifact: bytes

    @property
    def is_right(self) -> bool:
        """Whether it must be accepted."""
        return not self.name.endswith("_fail")

    def problem(self, production: bytes, *, by_digest: bool = False) -> str | None:
        """Why kedge refuses it, None where it is accepted; the file is given, or its SHA-256 alone."""
        content = Content.of_bytes(self.artifact)
        if by_digest:
            content = Content.of_sha256(content.sha256)
        now = datetime.now(UTC)
        try:
            key = ManagedKey.from_bytes(self.files["key.pub"]) if "key.pub" in self.files else None
            root = self.files.get("trusted_root.json", production)
            verifier = BundleVerifier(Sigstore().parse(root, registry="sigstore", custom=None, now=now))
            found = verifier.verify_file(Bundle.from_bytes(self.files["bundle.sigstore.json"]), content, managed=key)
            if found.signed.identity is not None:
                identity = self.files.get("identity", IDENTITY.encode()).decode().strip()
                issuer = self.files.get("issuer", ISSUER.encode()).decode().strip()
                Expected(identity=identity, issuer=issuer).require(found.signed.identity)
        except (VerificationError, DocumentError) as error:
            return str(error)
        return None


def read_assets(archive: Path) -> list[Asset]:
    """The assets of the zip, by name."""
    folders: dict[str, dict[str, bytes]] = {}
    with zipfile.ZipFile(archive) as opened:
        common = opened.read("bundle-verify/a.txt")
        for path in opened.namelist():
            parts = path.split("/")
            if len(parts) == 3 and parts[2]:
                folders.setdefault(parts[1], {})[parts[2]] = opened.read(path)
    return [
        Asset(name=name, files=files, artifact=files.get("artifact", common)) for name, files in sorted(folders.items())
    ]
