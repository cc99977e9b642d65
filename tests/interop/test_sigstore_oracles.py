"""Ours beside sigstore-js (what npm runs) and sigstore-python: ours never accepts a bundle that they refuse.

Each field of real bundles is altered, one at a time, and given to all. Ours may refuse more: what that is stands in a
list below, with the reason why the others let it pass.
"""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from kedge.documents import DocumentError
from kedge.errors import VerificationError
from kedge.registries.npm.registry import NPM
from kedge.registries.sigstore.bundle import Bundle
from kedge.registries.sigstore.registry import Sigstore
from kedge.registries.sigstore.verify import BundleVerifier
from support.attested import RealAttestations

NOW = datetime(2026, 8, 22, tzinfo=UTC)
HERE = Path(__file__).resolve().parent
Step = str | int

STRICTER = {
    "must be base64": "they decode base64 with characters after its end, or with stray bits in its last ones",
    "its chain names an authority": "they ignore certificates that nothing hangs on",
    "the signature names the key": "they ignore the keyid of a signature where a certificate names the signer",
    "its signature names": "sigstore-js takes the key from the hint, and ignores what the signature names",
    "bears no signature by": "sigstore-python ignores the log's name in a checkpoint's line of signature",
}
"""Why ours refuses what another accepts: a part of our message, and the reason. Nothing else may differ."""


def leaves(value: Any, path: tuple[Step, ...] = ()) -> Iterator[tuple[tuple[Step, ...], str]]:
    if isinstance(value, dict | list):
        for step, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*path, step))
    elif isinstance(value, str | int) and not isinstance(value, bool):
        yield path, str(value)


def altered(bundle: Any) -> Iterator[tuple[str, Any]]:
    """The bundle with one field altered, and the field's name."""
    for path, text in leaves(bundle):
        name = next(step for step in reversed(path) if isinstance(step, str))
        if text.isdecimal():
            texts = [str(int(text) + 1), "0"]
        else:
            middle = len(text) // 2
            texts = [
                text[:middle] + ("A" if text[middle : middle + 1] != "A" else "B") + text[middle + 1 :],
                text + "x",
            ]
            texts += (
                [text.rstrip("=")[:-1] + chr(ord(text.rstrip("=")[-1]) ^ 1) + "=" * text.count("=")] if text else []
            )
        for each in texts:
            changed = copy.deepcopy(bundle)
            inner = changed
            for step in path[:-1]:
                inner = inner[step]
            inner[path[-1]] = each
            yield name, changed


class Ours:
    """kedge, by the real trusted root and npm's real keys."""

    def __init__(self, facts: RealAttestations) -> None:
        root = Sigstore().parse(facts.trusted_root, registry="sigstore", custom=None, now=NOW)
        self.keys = NPM().parse(facts.npm_keys, registry="registry.npmjs.org", custom=None, now=NOW)
        self.verifier = BundleVerifier(root)

    def fault(self, bundle: Any) -> str | None:
        try:
            self.verifier.verify_statement(Bundle.from_value(bundle), signers=self.keys, usage="npm:attestations")
        except (DocumentError, VerificationError) as error:
            return str(error)
        return None


def compare(ours: Ours, bundles: list[tuple[str, Any]], theirs: list[str | None]) -> None:
    assert len(bundles) == len(theirs) > 60
    judged = [(name, ours.fault(bundle), other) for (name, bundle), other in zip(bundles, theirs, strict=True)]
    assert [each for each in judged if each[1] is None and each[2] is not None] == [], "ours accepts what they refuse"
    more = [fault for _, fault, other in judged if fault is not None and other is None]
    unexplained = [fault for fault in more if not any(part in fault for part in STRICTER)]
    assert unexplained == [], "ours refuses more, and nobody has said why"
    assert [other for name, fault, other in judged if other is not None], "the other one refuses something too"


@pytest.fixture(scope="module")
def facts(shared_vectors: Path) -> RealAttestations:
    return RealAttestations(shared_vectors)


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0"])
def test_ours_never_accepts_an_npm_bundle_that_sigstore_js_refuses(
    version: str, facts: RealAttestations, peers: Path, require: Callable[[object, str], None]
) -> None:
    folder = peers / "npm" / "node_modules" / "@sigstore" / "verify"
    require(folder.is_dir(), "npm with @sigstore/verify is not there: run make peers")
    ours = Ours(facts)
    keys = {
        entry["keyId"]: {"spki": entry["publicKey"]["rawBytes"], **entry["publicKey"]["validFor"]}
        for entry in json.loads(facts.npm_keys)["keys"]
        if entry["keyUsage"] == "npm:attestations"
    }
    real = [each["bundle"] for each in json.loads(facts.served(version))["attestations"]]
    bundles = [("", bundle) for bundle in real] + [pair for bundle in real for pair in altered(bundle)]
    given = {"root": json.loads(facts.trusted_root), "keys": keys, "bundles": [bundle for _, bundle in bundles]}
    node = peers / ".bin" / "node"
    done = subprocess.run(
        [str(node) if node.exists() else "node", str(HERE / "verify_with_sigstore_js.cjs"), str(peers)],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    assert theirs[:2] == [None, None], "the control: both accept what is real"
    assert [ours.fault(bundle) for bundle in real] == [None, None]
    compare(ours, bundles[2:], theirs[2:])


def test_ours_never_accepts_a_bundle_that_sigstore_python_refuses(
    facts: RealAttestations, require: Callable[[object, str], None]
) -> None:
    require(find_spec("sigstore"), "sigstore-python is not installed: run make signers")
    from sigstore.errors import Error
    from sigstore.models import Bundle as TheirBundle
    from sigstore.verify import Verifier, policy

    from kedge.registries.sigstore.reference import trusted_root

    verifier = Verifier(trusted_root=trusted_root(facts.trusted_root))
    anybody = policy.AllOf([policy.OIDCIssuerV2("https://token.actions.githubusercontent.com")])

    def their_fault(bundle: Any) -> str | None:
        try:
            verifier.verify_dsse(TheirBundle.from_json(json.dumps(bundle)), anybody)
        except (Error, ValueError, TypeError, AttributeError) as error:
            return f"{type(error).__name__}: {error}"
        return None

    ours, real = Ours(facts), facts.pypi_bundle()
    assert (ours.fault(real), their_fault(real)) == (None, None)
    bundles = list(altered(real))
    compare(ours, bundles, [their_fault(bundle) for _, bundle in bundles])
