"""Real bundles, and the trusted root and npm's keys to judge them by."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kedge.registries.keys import KeySet
from kedge.registries.npm.registry import NPM
from kedge.registries.sigstore.registry import Sigstore
from kedge.registries.sigstore.verify import BundleVerifier
from support.attested import RealAttestations

NOW = datetime(2026, 8, 22, tzinfo=UTC)


@pytest.fixture(scope="session")
def root_keys(shared_vectors: Path) -> KeySet:
    data = (shared_vectors / "sigstore" / "trusted_root.json").read_bytes()
    return Sigstore().parse(data, registry="sigstore", custom=None, now=NOW)


@pytest.fixture(scope="session")
def npm_keys(shared_vectors: Path) -> KeySet:
    data = (shared_vectors / "npm" / "tuf-target-registry.npmjs.org-keys.json").read_bytes()
    return NPM().parse(data, registry="registry.npmjs.org", custom=None, now=NOW)


@pytest.fixture(scope="session")
def verifier(root_keys: KeySet) -> BundleVerifier:
    return BundleVerifier(root_keys)


@pytest.fixture(scope="session")
def npm_bundles(shared_vectors: Path) -> dict[str, Any]:
    """What npm serves for sigstore@1.0.0: its publish attestation (``publish``) and the build's (``provenance``)."""
    served = json.loads((shared_vectors / "npm" / "attestations-sigstore@1.0.0.json").read_bytes())
    names = {True: "publish", False: "provenance"}
    return {names["publish" in each["predicateType"]]: each["bundle"] for each in served["attestations"]}


@pytest.fixture(scope="session")
def pypi_bundle(shared_vectors: Path) -> dict[str, Any]:
    """The PEP 740 attestation of a real sdist, in the form of a bundle."""
    return RealAttestations(shared_vectors).pypi_bundle()
