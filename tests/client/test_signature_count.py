"""Counting signatures (TUF 1.0.34 §5.3.4, §5.4.2, §5.5.3, §5.6.3): which keys count, which do not, and which once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import KEY_FOR_TYPE_AND_SCHEME, CryptoSigner, Key, Signature, SSlibKey
from tuf.api.metadata import Metadata, Root, Timestamp

from kedge.errors import Reason, VerificationError
from kedge.tuf.metadata import Parsed, count_signatures, parse, require_threshold

TIMESTAMP = Timestamp(expires=datetime(2026, 1, 1, tzinfo=UTC))
PAYLOAD = (encode_canonical(TIMESTAMP.to_dict()) or "").encode()
JUNK = "00" * 64


def root(*keys: Key, threshold: int = 1) -> Root:
    """A root that lets ``keys`` sign the timestamp."""
    made = Root()
    for key in keys:
        made.add_key(key, "timestamp")
    made.roles["timestamp"].threshold = threshold
    return made


def timestamp(signatures: Mapping[str, str]) -> Parsed[Timestamp]:
    """A timestamp with these signatures, by keyid."""
    metadata = Metadata(TIMESTAMP, {keyid: Signature(keyid, sig) for keyid, sig in signatures.items()})
    return parse(metadata.to_bytes(), Timestamp, file="timestamp.json")


def signature(signer: CryptoSigner) -> str:
    return signer.sign(PAYLOAD).signature


def renamed(key: Key, keyid: str, **changes: Any) -> SSlibKey:
    """The same key under another keyid, or otherwise changed."""
    table = {**key.to_dict(), **changes}
    return SSlibKey(keyid, table["keytype"], table["scheme"], table["keyval"])


def counted(listed: Root, parsed: Parsed[Timestamp], *, every: bool = True) -> int:
    return len(count_signatures(listed, "timestamp", parsed, every=every).keyids)


def test_a_key_counts_once_however_its_text_is_laid_out() -> None:
    """A PEM text may be wrapped in other places, and be the same key."""
    for signer in (CryptoSigner.generate_ecdsa(), CryptoSigner.generate_rsa(size=2048)):
        key = signer.public_key
        public = key.to_dict()["keyval"]["public"]
        begin, *body, end = public.strip().splitlines()
        text = "".join(body)
        narrow = "\n".join([begin, *(text[at : at + 40] for at in range(0, len(text), 40)), end, ""])
        assert narrow != public
        twice = root(key, renamed(key, "another", keyval={"public": narrow}), threshold=2)
        parsed = timestamp({key.keyid: signature(signer), "another": signature(signer)})
        assert counted(twice, parsed) == 1
        with pytest.raises(VerificationError, match="signed by 1 of the 2 keys") as caught:
            require_threshold(twice, "timestamp", parsed)
        assert caught.value.refusal.reason is Reason.SIGNATURES


def test_a_key_counts_once_under_its_old_and_its_new_type() -> None:
    """TUF before 1.0.20 named the type of a P-256 key as its scheme is named; Sigstore's first roots still do."""
    signer = CryptoSigner.generate_ecdsa()
    key, old = signer.public_key, renamed(signer.public_key, "old", keytype="ecdsa-sha2-nistp256")
    assert counted(root(old), timestamp({"old": signature(signer)})) == 1
    parsed = timestamp({key.keyid: signature(signer), "old": signature(signer)})
    assert counted(root(key, old, threshold=2), parsed) == 1


@pytest.mark.parametrize(
    ("keytype", "scheme", "public"),
    [("ed25519", "ed25519", "zz"), ("ed25519", "ed25519", "00"), ("ecdsa", "ecdsa-sha2-nistp256", "no PEM")],
    ids=["no-hex", "too-short", "no-pem"],
)
def test_a_key_that_cannot_be_read_counts_nothing_whatever_signs_for_it(keytype: str, scheme: str, public: str) -> None:
    broken, right = SSlibKey("broken", keytype, scheme, {"public": public}), CryptoSigner.generate_ed25519()
    parsed = timestamp({"broken": JUNK, right.public_key.keyid: signature(right)})
    assert counted(root(broken), parsed) == 0
    assert counted(root(broken, right.public_key), parsed) == 1


@pytest.mark.parametrize("text", ["", "zz", "00", JUNK])
def test_a_signature_that_is_none_counts_nothing(text: str) -> None:
    signer = CryptoSigner.generate_ed25519()
    assert counted(root(signer.public_key), timestamp({signer.public_key.keyid: text})) == 0
    assert counted(root(signer.public_key), timestamp({signer.public_key.keyid: signature(signer)})) == 1


class _AlwaysRight(Key):
    """A kind of key that another package brings, and that accepts everything."""

    @classmethod
    def from_dict(cls, keyid: str, key_dict: dict[str, Any]) -> _AlwaysRight:
        return cls(keyid, key_dict.pop("keytype"), key_dict.pop("scheme"), key_dict.pop("keyval"), key_dict)

    def to_dict(self) -> dict[str, Any]:
        return self._to_dict()

    def verify_signature(self, signature: Signature, data: bytes) -> None:
        """Everything is right."""


def test_a_kind_of_key_that_another_package_brings_counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KEY_FOR_TYPE_AND_SCHEME, ("x-any", "x-any"), _AlwaysRight)
    foreign = Key.from_dict("foreign", {"keytype": "x-any", "scheme": "x-any", "keyval": {"public": "x"}})
    foreign.verify_signature(Signature("foreign", JUNK), PAYLOAD)
    assert counted(root(foreign), timestamp({"foreign": JUNK})) == 0


def test_counting_ends_at_the_threshold_unless_every_key_is_asked_for() -> None:
    signers = [CryptoSigner.generate_ed25519() for _ in range(3)]
    listed = root(*(signer.public_key for signer in signers))
    parsed = timestamp({signer.public_key.keyid: signature(signer) for signer in signers})
    assert counted(listed, parsed, every=False) == 1
    assert counted(listed, parsed) == 3


def test_what_was_checked_for_one_delegator_is_not_taken_for_another_scheme() -> None:
    """One RSA key may be listed with one scheme here and with another one there: each has signatures of its own."""
    signer = CryptoSigner.generate_rsa(size=2048)
    key = signer.public_key
    other = renamed(key, key.keyid, scheme="rsa-pkcs1v15-sha256")
    parsed, checked = timestamp({key.keyid: signature(signer)}), dict[Any, bool]()
    assert count_signatures(root(key), "timestamp", parsed, checked=checked).met
    assert not count_signatures(root(other), "timestamp", parsed, checked=checked).met
    assert count_signatures(root(key), "timestamp", parsed, checked=checked).met
