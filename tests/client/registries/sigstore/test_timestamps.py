"""Bundles of the second generation of logs, which state no time: a time-stamper's word counts, and must be right."""

from __future__ import annotations

import base64
import copy
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from kedge.errors import Reason, VerificationError
from kedge.registries.sigstore.bundle import Bundle, part_of
from kedge.registries.sigstore.registry import Sigstore, authority_id
from kedge.registries.sigstore.trustedroot import TrustedRoot
from kedge.registries.sigstore.verify import BundleVerifier, SignedStatement
from support.attested import SigstoreInstance, statement
from support.timestamper import TimeStamper


class World:
    """An instance with a time-stamper, and a bundle that both of them signed."""

    def __init__(self, folder: Path) -> None:
        self.instance = SigstoreInstance()
        self.stamper, self.stranger = TimeStamper(folder / "own"), TimeStamper(folder / "strange")
        self.root = self.instance.trusted_root(self.stamper.chain)
        self.said = statement("a-1.0.tar.gz", "https://docs.pypi.org/attestations/publish/v1", None, sha256="ab" * 32)
        self.bundle = self.instance.attest_with_timestamp(self.said, self.stamper.stamp)
        now = datetime.now(UTC)
        self.verifier = BundleVerifier(Sigstore().parse(self.root, registry="sigstore", custom=None, now=now))

    def verify(self, bundle: Any, root: bytes | None = None, custom: Any = None) -> SignedStatement:
        data = root or self.root
        now = datetime.now(UTC)
        keys = Sigstore().parse(data, registry="sigstore", custom=custom, now=now)
        return BundleVerifier(keys).verify_statement(Bundle.from_value(bundle))

    def fault(self, bundle: Any, **options: Any) -> VerificationError:
        with pytest.raises(VerificationError) as caught:
            self.verify(bundle, **options)
        return caught.value

    def outcome(self, bundle: Any) -> SignedStatement | str | None:
        """What was verified, or the part that was refused."""
        try:
            return self.verifier.verify_statement(Bundle.from_value(bundle))
        except VerificationError as error:
            return part_of(error)

    def stamped(self, *responses: bytes) -> Any:
        """The bundle with other timestamps."""
        changed = copy.deepcopy(self.bundle)
        entries = [{"signedTimestamp": base64.b64encode(each).decode()} for each in responses]
        changed["verificationMaterial"]["timestampVerificationData"] = {"rfc3161Timestamps": entries}
        return changed

    @property
    def signature(self) -> bytes:
        return base64.b64decode(self.bundle["dsseEnvelope"]["signatures"][0]["sig"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, require: Callable[[object, str], None]) -> World:
    require(shutil.which("openssl"), "openssl is not installed")
    require(find_spec("rfc3161_client"), "rfc3161-client is not installed: run make signers")
    return World(tmp_path_factory.mktemp("timestamps"))


def test_a_time_stampers_word_is_the_time_of_signing(world: World) -> None:
    found = world.verify(world.bundle)
    assert len(found.signed.times) == 1
    assert abs(found.signed.at - datetime.now(UTC)) < timedelta(minutes=5)
    assert found.signed.place.log == "https://log2.sigstore.example"
    assert found.signed.identity is not None


def test_sigstore_python_accepts_the_same_bundle(world: World, require: Callable[[object, str], None]) -> None:
    require(find_spec("sigstore"), "sigstore-python is not installed: run make signers")
    from sigstore.models import Bundle as TheirBundle
    from sigstore.verify import Verifier, policy

    from kedge.registries.sigstore.reference import trusted_root

    verifier = Verifier(trusted_root=trusted_root(world.root))
    anybody = policy.OIDCIssuerV2("https://token.actions.githubusercontent.com")
    kind, _ = verifier.verify_dsse(TheirBundle.from_json(json.dumps(world.bundle)), anybody)
    assert kind == "application/vnd.in-toto+json"


def test_a_timestamp_that_is_not_over_this_signature_by_a_known_stamper_is_refused(world: World) -> None:
    right = world.stamper.stamp(world.signature)
    for responses, problem in (
        ([world.stamper.stamp(b"another signature")], "is not by a time-stamper of the trusted root"),
        ([world.stranger.stamp(world.signature)], "holds a certificate that the trusted root does not"),
        ([right, world.stranger.stamp(world.signature)], "holds a certificate that the trusted root does not"),
        ([right, right], "stands there twice"),
        ([right[:-1]], "cannot be read"),
    ):
        error = world.fault(world.stamped(*responses))
        assert part_of(error) == "signed timestamp"
        assert problem in str(error)
    world.verify(world.stamped(right))  # the control


def test_no_bit_of_a_timestamp_that_says_anything_can_be_turned(world: World) -> None:
    """A few bits of its envelope are under no signature and mean nothing: turned, they move nothing."""
    right, refused = world.stamper.stamp(world.signature), 0
    genuine = world.outcome(world.stamped(right))
    for at in range(len(right)):
        turned = right[:at] + bytes([right[at] ^ (1 << at % 8)]) + right[at + 1 :]
        outcome = world.outcome(world.stamped(turned))
        assert outcome in ("signed timestamp", genuine)
        refused += outcome == "signed timestamp"
    assert refused > len(right) * 0.95


def test_a_time_stamper_is_believed_in_its_window_and_until_it_is_revoked(world: World) -> None:
    document = json.loads(world.root)
    document["timestampAuthorities"][0]["validFor"] = {"end": "2021-01-01T00:00:00Z"}
    error = world.fault(world.bundle, root=json.dumps(document).encode())
    assert (part_of(error), error.refusal.reason) == ("signed timestamp", Reason.OUTSIDE_VALIDITY)
    (stamper,) = TrustedRoot.from_bytes(world.root).timestampers
    custom = {"kedge": {"v": 1, "revoked": [authority_id(stamper)]}}
    error = world.fault(world.bundle, custom=custom)
    assert (part_of(error), error.refusal.reason) == ("signed timestamp", Reason.REVOKED_KEY)


def test_an_entry_without_a_promise_must_stand_where_its_proof_says(world: World) -> None:
    changed = copy.deepcopy(world.bundle)
    changed["verificationMaterial"]["tlogEntries"][0]["logIndex"] = "5"
    assert part_of(world.fault(changed)) == "log entry"


def test_each_field_of_its_entry_altered_is_refused(world: World) -> None:
    entry = world.bundle["verificationMaterial"]["tlogEntries"][0]
    body = json.loads(base64.b64decode(entry["canonicalizedBody"]))
    record = body["spec"]["hashedRekordV002"]
    record["data"]["digest"] = base64.b64encode(b"\0" * 32).decode()
    changed = copy.deepcopy(world.bundle)
    altered = base64.b64encode(json.dumps(body, separators=(",", ":")).encode()).decode()
    changed["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"] = altered
    assert part_of(world.fault(changed)) == "inclusion proof"
