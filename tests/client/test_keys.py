"""What a key set accepts and what it refuses, on keys made here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from kedge.errors import Reason, StoreError, VerificationError
from kedge.registries.keys import KeyFormat, KeySet, KeyStatus, RegistryKey, TimeBasis, load_public_key

REGISTRY = "registry.example"
START = datetime(2024, 1, 1, tzinfo=UTC)
END = datetime(2025, 1, 1, tzinfo=UTC)
NOW = datetime(2025, 6, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MESSAGE = b"left-pad@1.0.0:sha512-AAAA"


class Signing:
    """A key pair made for one test, and the public half as a registry would state it."""

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        self.sign: Callable[[bytes], bytes]
        if algorithm == "PKIX_ED25519":
            ed = ed25519.Ed25519PrivateKey.generate()
            self.public: ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey = ed.public_key()
            self.sign = ed.sign
        else:
            p256 = ec.generate_private_key(ec.SECP256R1())
            self.public = p256.public_key()
            self.sign = lambda message: p256.sign(message, ec.ECDSA(SHA256()))

    @property
    def material(self) -> bytes:
        return self.public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def key(self, **changes: object) -> RegistryKey:
        key = RegistryKey(
            id="k1",
            registry=REGISTRY,
            usages=("packages",),
            material=self.material,
            format=KeyFormat.SPKI_DER,
            algorithm=self.algorithm,
            valid_from=START,
            valid_until=None,
            time_basis=TimeBasis.PUBLISH_TIME,
            status=KeyStatus.ACTIVE,
        )
        # The changes are this file's own literals; mypy cannot know their types.
        return replace(key, **changes)  # type: ignore[arg-type]


def key_set(*keys: RegistryKey, revoked: tuple[str, ...] = ()) -> KeySet:
    return KeySet(
        registry=REGISTRY,
        keys=keys,
        target=f"{REGISTRY}/keys.json",
        sha256="0" * 64,
        reference_time=NOW,
        revoked=revoked,
    )


@pytest.fixture(scope="module", params=["PKIX_ECDSA_P256_SHA_256", "PKIX_ED25519"])
def signing(request: pytest.FixtureRequest) -> Signing:
    return Signing(request.param)


def refusal(keys: KeySet, signature: bytes, *, keyid: str = "k1", **options: object) -> VerificationError:
    with pytest.raises(VerificationError) as caught:
        keys.verify(MESSAGE, keyid=keyid, signature=signature, **options)  # type: ignore[arg-type] # literals of this file
    assert "\n" not in str(caught.value)
    return caught.value


def test_an_active_keys_signature_verifies_and_gives_its_evidence(signing: Signing) -> None:
    keys = key_set(signing.key())
    evidence = keys.verify(MESSAGE, keyid="k1", signature=signing.sign(MESSAGE), usage="packages")
    assert evidence.key is keys.keys[0]
    assert evidence.message_sha256 == hashlib.sha256(MESSAGE).hexdigest()
    assert (evidence.at, evidence.usage) == (None, "packages")
    assert (evidence.target, evidence.target_sha256, evidence.reference_time) == (keys.target, keys.sha256, NOW)


def test_another_message_or_a_broken_signature_is_a_bad_signature(signing: Signing) -> None:
    keys = key_set(signing.key())
    for signature in (signing.sign(MESSAGE + b"!"), b"", b"junk", signing.sign(MESSAGE)[:-1]):
        error = refusal(keys, signature)
        assert error.refusal.reason is Reason.BAD_SIGNATURE
        assert str(error) == "registry.example: key k1 did not make this signature over this content"


def test_another_keys_signature_is_a_bad_signature(signing: Signing) -> None:
    other = Signing(signing.algorithm)
    assert refusal(key_set(signing.key()), other.sign(MESSAGE)).refusal.reason is Reason.BAD_SIGNATURE


def test_a_keyid_that_is_not_listed_is_an_unknown_key(signing: Signing) -> None:
    keys = key_set(signing.key(), signing.key(usages=("attestations",)))
    error = refusal(keys, signing.sign(MESSAGE), keyid="K1")
    assert error.refusal.reason is Reason.UNKNOWN_KEY
    assert str(error) == "registry.example: key K1 is not among the 1 key of registry.example/keys.json"


def test_a_keyid_that_somebody_made_up_cannot_break_the_line(signing: Signing) -> None:
    error = refusal(key_set(signing.key()), b"", keyid="k1\n\x1b[2Jkedge: all is well" + "x" * 1000)
    assert r"\n\u001b[2J" in str(error)
    assert len(str(error)) < 250


def test_a_key_for_another_usage_is_unknown_and_the_text_says_what_it_is_for(signing: Signing) -> None:
    error = refusal(key_set(signing.key(usages=("attestations",))), signing.sign(MESSAGE), usage="packages")
    assert error.refusal.reason is Reason.UNKNOWN_KEY
    assert str(error) == (
        "registry.example: key k1 stands in registry.example/keys.json for attestations only, not for packages"
    )


def test_each_usage_of_a_keyid_has_its_own_validity(signing: Signing) -> None:
    packages, attestations = signing.key(), signing.key(usages=("attestations",), valid_from=END)
    keys = key_set(attestations, packages)
    signature = signing.sign(MESSAGE)
    at = START + SECOND
    assert keys.verify(MESSAGE, keyid="k1", signature=signature, usage="packages", at=at).key is packages
    assert refusal(keys, signature, usage="attestations", at=at).refusal.reason is Reason.OUTSIDE_VALIDITY
    assert keys.find("k1") is attestations


@pytest.mark.parametrize("at", [START, END - SECOND])
def test_a_retired_key_verifies_what_was_signed_in_its_time(signing: Signing, at: datetime) -> None:
    keys = key_set(signing.key(valid_until=END, status=KeyStatus.RETIRED))
    assert keys.verify(MESSAGE, keyid="k1", signature=signing.sign(MESSAGE), at=at).at == at


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (END, "was retired at 2025-01-01T00:00:00Z, and this was signed at 2025-01-01T00:00:00Z"),
        (NOW, "was retired at 2025-01-01T00:00:00Z, and this was signed at 2025-06-01T00:00:00Z"),
        (START - SECOND, "is valid from 2024-01-01T00:00:00Z on, and this was signed at 2023-12-31T23:59:59Z"),
        (
            None,
            (
                "was retired at 2025-01-01T00:00:00Z, and the time of this signature is unknown "
                "(it is 2025-06-01T00:00:00Z now)"
            ),
        ),
    ],
)
def test_a_retired_key_verifies_nothing_signed_outside_its_time(
    signing: Signing, at: datetime | None, text: str
) -> None:
    error = refusal(key_set(signing.key(valid_until=END, status=KeyStatus.RETIRED)), signing.sign(MESSAGE), at=at)
    assert error.refusal.reason is Reason.OUTSIDE_VALIDITY
    assert str(error) == f"registry.example: key k1 {text}"
    assert error.refusal.expected == "2024-01-01T00:00:00Z to 2025-01-01T00:00:00Z"


def test_a_key_whose_time_has_not_come_verifies_nothing(signing: Signing) -> None:
    error = refusal(key_set(signing.key(valid_from=NOW + SECOND)), signing.sign(MESSAGE))
    assert error.refusal.reason is Reason.OUTSIDE_VALIDITY
    assert "is valid from 2025-06-01T00:00:01Z on" in str(error)


def test_a_retired_key_of_which_nobody_says_since_when_verifies_nothing(signing: Signing) -> None:
    keys = key_set(signing.key(status=KeyStatus.RETIRED))
    for at in (None, START + SECOND):
        assert refusal(keys, signing.sign(MESSAGE), at=at).refusal.reason is Reason.OUTSIDE_VALIDITY


def test_a_validity_on_today_is_not_moved_by_a_stated_time(signing: Signing) -> None:
    key = signing.key(valid_until=END, status=KeyStatus.RETIRED, time_basis=TimeBasis.NOW)
    error = refusal(key_set(key), signing.sign(MESSAGE), at=START + SECOND)
    assert str(error).endswith("was retired at 2025-01-01T00:00:00Z, and it is 2025-06-01T00:00:00Z now")


@pytest.mark.parametrize("at", [None, START, END])
def test_a_revoked_key_never_verifies(signing: Signing, at: datetime | None) -> None:
    signature = signing.sign(MESSAGE)
    by_status = key_set(signing.key(status=KeyStatus.REVOKED))
    by_list = key_set(signing.key(), revoked=("k1",))
    after_its_entry_left = key_set(signing.key(id="k2"), revoked=("k1",))
    for keys in (by_status, by_list, after_its_entry_left):
        error = refusal(keys, signature, at=at)
        assert error.refusal.reason is Reason.REVOKED_KEY
        assert str(error) == "registry.example: key k1 was revoked: nothing that it signed is accepted"


@pytest.mark.parametrize(
    ("algorithm", "form"), [("PKIX_ML_DSA_65", KeyFormat.RAW), ("PKIX_ED25519", KeyFormat.OPENPGP)]
)
def test_what_kedge_cannot_check_is_not_called_a_bad_signature(algorithm: str, form: KeyFormat) -> None:
    keys = key_set(Signing("PKIX_ED25519").key(algorithm=algorithm, format=form))
    with pytest.raises(StoreError) as caught:
        keys.verify(MESSAGE, keyid="k1", signature=b"")
    assert str(caught.value) == f"registry.example: key k1 is a {algorithm} key, which this kedge cannot check"


def test_material_that_is_no_key_is_refused_as_malformed() -> None:
    error = refusal(key_set(Signing("PKIX_ED25519").key(material=b"\x30\x00")), b"")
    assert error.refusal.reason is Reason.MALFORMED


def test_a_key_of_one_algorithm_does_not_pass_for_another() -> None:
    with pytest.raises(ValueError, match="must be an Ed25519 public key"):
        load_public_key(Signing("PKIX_ECDSA_P256_SHA_256").material, "PKIX_ED25519")
    p384 = ec.generate_private_key(ec.SECP384R1()).public_key()
    with pytest.raises(ValueError, match="must be an ECDSA P-256 public key"):
        load_public_key(p384.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), "PKIX_ECDSA_P256_SHA_256")


def test_pem_and_fingerprint_are_of_the_keys_own_bytes(signing: Signing) -> None:
    key = signing.key()
    assert key.fingerprint == hashlib.sha256(key.material).hexdigest()
    assert key.pem is not None
    read = load_pem_public_key(key.pem.encode())
    assert read.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == key.material
    assert signing.key(format=KeyFormat.VKEY).pem is None
