"""The public Sigstore conformance suite's assets, and its client protocol spoken by a process."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from conformance.sigstore_assets import IDENTITY, ISSUER, Asset, read_assets

Require = Callable[[object, str], None]

ARCHIVE = Path(__file__).resolve().parents[3] / "shared" / "sigstore-conformance.zip"
CLIENT = Path(__file__).parent / "kedge-sigstore-conformance"


@pytest.fixture(scope="module")
def assets(require: Require) -> dict[str, Asset]:
    require(ARCHIVE.is_file(), "../shared/sigstore-conformance.zip is not beside this repository")
    require(find_spec("rfc3161_client"), "rfc3161-client is not installed: run make signers")
    return {asset.name: asset for asset in read_assets(ARCHIVE)}


@pytest.fixture(scope="module")
def production(shared_vectors: Path) -> bytes:
    return (shared_vectors / "sigstore" / "trusted_root.json").read_bytes()


@pytest.mark.parametrize("by_digest", [False, True])
def test_every_asset_of_the_sigstore_suite_is_accepted_or_refused_as_its_name_says(
    assets: dict[str, Asset], production: bytes, *, by_digest: bool
) -> None:
    assert len(assets) == 68
    wrong = {
        name: problem
        for name, asset in assets.items()
        if ((problem := asset.problem(production, by_digest=by_digest)) is None) != asset.is_right
    }
    assert wrong == {}


def test_a_log_without_a_start_of_validity_is_refused_for_that_reason(
    assets: dict[str, Asset], production: bytes
) -> None:
    problem = assets["trust-root-tlog-missing-validity-start_fail"].problem(production)
    assert problem is not None
    assert "states no start of its validity" in problem


@pytest.mark.parametrize(
    ("name", "by_digest"),
    [
        ("happy-path-v0.3", False),
        ("happy-path-v0.3", True),
        ("managed-key-happy-path", False),
        ("managed-key-wrong-key_fail", False),
        ("intoto-with-custom-trust-root", True),
        ("trust-root-tlog-missing-validity-start_fail", False),
    ],
)
def test_the_client_speaks_the_suites_protocol(
    assets: dict[str, Asset], production: bytes, tmp_path: Path, name: str, *, by_digest: bool
) -> None:
    asset = assets[name]
    artifact, bundle, root = tmp_path / "artifact", tmp_path / "bundle.json", tmp_path / "root.json"
    artifact.write_bytes(asset.artifact)
    bundle.write_bytes(asset.files["bundle.sigstore.json"])
    root.write_bytes(asset.files.get("trusted_root.json", production))
    command = [sys.executable, str(CLIENT), "verify-bundle", "--bundle", str(bundle), "--trusted-root", str(root)]
    if "key.pub" in asset.files:
        (tmp_path / "key.pub").write_bytes(asset.files["key.pub"])
        command += ["--key", str(tmp_path / "key.pub")]
    else:
        command += ["--certificate-identity", IDENTITY, "--certificate-oidc-issuer", ISSUER]
    command.append(f"sha256:{hashlib.sha256(asset.artifact).hexdigest()}" if by_digest else str(artifact))
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert (done.returncode == 0) == asset.is_right, done.stderr
    assert "Traceback" not in done.stderr


def test_the_client_says_what_it_does_not_do() -> None:
    done = subprocess.run(
        [sys.executable, str(CLIENT), "sign-bundle", "x"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert "invalid choice: 'sign-bundle'" in done.stderr
