"""Row A7: one key counts once, however its text is written and under however many keyids it stands."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from securesystemslib.signer import CryptoSigner, Key, Signature, SSlibKey
from tuf.api.metadata import Metadata, Role, Root, Timestamp

from kedge.errors import Reason, VerificationError
from kedge.tuf.metadata import key_materials, parse, require_threshold

EXPIRES = datetime(2030, 1, 1, tzinfo=UTC)


def twin(key: Key, text: str, keyid: str) -> SSlibKey:
    """The same key with its material written otherwise."""
    return SSlibKey(keyid, key.keytype, key.scheme, {"public": text})


def blanks(text: str) -> str:
    return f" {text[:2]} {text[2:]}"


def junk(text: str) -> str:
    return f"a note before the key\n{text}"


def narrow(text: str) -> str:
    body = "".join(text.split("-----")[2].split())
    lines = "\n".join(body[start : start + 20] for start in range(0, len(body), 20))
    return f"-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n"


@pytest.mark.parametrize(
    ("signer", "written"),
    [
        (CryptoSigner.generate_ed25519(), blanks),
        (CryptoSigner.generate_ed25519(), str.upper),
        (CryptoSigner.generate_ecdsa(), junk),
        (CryptoSigner.generate_ecdsa(), narrow),
    ],
    ids=["hex-with-blanks", "upper-case-hex", "pem-behind-a-note", "pem-in-short-lines"],
)
def test_a7_one_keys_material_under_two_keyids_counts_once(signer: CryptoSigner, written: object) -> None:
    key = signer.public_key
    assert callable(written)
    other = twin(key, written(key.keyval["public"]), "f" * 64)
    payload = Metadata(Timestamp(expires=EXPIRES))
    right = signer.sign(payload.signed_bytes)
    other.verify_signature(Signature(other.keyid, right.signature), payload.signed_bytes)  # the twin reads as well
    payload.signatures = {keyid: Signature(keyid, right.signature) for keyid in (key.keyid, other.keyid)}
    root = Root(
        expires=EXPIRES,
        keys={key.keyid: key, other.keyid: other},
        roles={name: Role([key.keyid, other.keyid], 2) for name in ("root", "timestamp", "snapshot", "targets")},
    )
    with pytest.raises(VerificationError, match="signed by 1 of the 2 keys") as caught:
        require_threshold(root, "timestamp", parse(payload.to_bytes(), Timestamp, file="timestamp.json"))
    assert caught.value.refusal.reason is Reason.SIGNATURES
    assert len(key_materials(root, "timestamp")) == 1
