"""Key files: made once, encrypted, opened with the right passphrase and as the right key only."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from securesystemslib.signer import CryptoSigner

from kedge.documents import DocumentError
from kedge.errors import InputError
from kedge_repo.signing.signers.keyfile import Algorithm, KeyProtection, new_key
from kedge_repo.signing.signers.location import open_keyholders, open_signer
from kedge_repo.signing.signers.secret import asked_twice, passphrase_from
from kedge_repo.workspace.public_key import fingerprint, parse_public_key
from repo_tools.ceremony import Ceremony

UNENCRYPTED = KeyProtection.UNENCRYPTED_KEY_FILE_ALLOWED


def secret(_what: str) -> bytes:
    return b"secret"


def never(what: str) -> bytes:
    pytest.fail(f"asked for a passphrase of {what}")


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_new_key_opens_with_its_passphrase_and_signs(tmp_path: Path, algorithm: Algorithm) -> None:
    public_path = new_key(tmp_path / "k.pem", algorithm, b"secret")
    public = parse_public_key(public_path.read_bytes())
    signer = open_signer(f"file:{tmp_path / 'k.pem'}", secret, public=public)
    public.verify_signature(signer.sign(b"message"), b"message")
    assert stat.S_IMODE((tmp_path / "k.pem").stat().st_mode) == 0o600
    assert b"ENCRYPTED PRIVATE KEY" in (tmp_path / "k.pem").read_bytes()


@pytest.mark.parametrize("taken", ["k.pem", "k.pem.pub"])
def test_a_new_key_never_overwrites_a_file(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_bytes(b"mine")
    with pytest.raises(InputError, match="is there already, and key files are never overwritten"):
        new_key(tmp_path / "k.pem", Algorithm.ED25519, b"secret")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {taken: b"mine"}


def test_an_unencrypted_key_is_made_and_opened_only_when_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the passphrase is empty"):
        new_key(tmp_path / "k.pem", Algorithm.ED25519, b"")
    assert list(tmp_path.iterdir()) == []
    new_key(tmp_path / "k.pem", Algorithm.ED25519, None, protection=UNENCRYPTED)
    with pytest.raises(InputError, match="the private key is not encrypted") as caught:
        open_signer(f"file:{tmp_path / 'k.pem'}", never)
    assert "--allow-unencrypted-key-file" in str(caught.value.hint)
    open_signer(f"file:{tmp_path / 'k.pem'}", never, protection=UNENCRYPTED)


def test_what_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "k.pem"
    public = parse_public_key(new_key(path, Algorithm.ED25519, b"secret").read_bytes())
    rsa = generate_private_key(65537, 2048)
    (tmp_path / "rsa.pem").write_bytes(
        rsa.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )
    (tmp_path / "cut.pem").write_bytes(path.read_bytes()[:-60])
    other = CryptoSigner.generate_ed25519().public_key
    for location, expected, problem in [
        (f"file:{path}", other, f"is another key than expected: its fingerprint is {fingerprint(public)}"),
        (f"file:{path}.pub", None, "is not a private key in PEM"),
        (f"file:{tmp_path / 'rsa.pem'}", None, "must be a key of the kind Ed25519, ECDSA P-256"),
        (f"file:{tmp_path / 'cut.pem'}", None, "the passphrase is wrong"),
        (f"file:{tmp_path / 'none.pem'}", None, "there is no such key file"),
        (f"file:{tmp_path}", None, "cannot be read: is a directory"),
        ("hsm:1", None, "is not a key location that this kedge-repo opens"),
        (str(path), None, "is not a key location that this kedge-repo opens"),
    ]:
        with pytest.raises(InputError) as caught:
            open_signer(location, secret, public=expected)
        assert problem in caught.value.message
        assert "\n" not in caught.value.message
    with pytest.raises(InputError, match="the passphrase is wrong"):
        open_signer(f"file:{path}", lambda _: b"other")


def test_passphrases_come_from_a_descriptor_line_by_line() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"first\nsecond with spaces \n")
    os.close(writer)
    read = passphrase_from(reader)
    assert [read("a"), read("b")] == [b"first", b"second with spaces "]
    with pytest.raises(InputError, match="holds no passphrase for c"):
        read("c")
    os.close(reader)
    with pytest.raises(InputError, match="cannot be read"):
        read("d")


def test_a_new_passphrase_is_typed_twice() -> None:
    typed = iter([b"one", b"one", b"one", b"two"])
    ask = asked_twice(lambda _what: next(typed))
    assert ask("a new key") == b"one"
    with pytest.raises(InputError, match="a new key: the two passphrases differ"):
        ask("a new key")


def test_keyholders_keys_are_opened_where_the_policy_says(tmp_path: Path) -> None:
    ceremony = Ceremony(tmp_path).found()
    with pytest.raises(InputError, match=r"keyholders\.ci\.location: is missing"):
        open_keyholders(ceremony.workspace, ["ci"], secret)
    with pytest.raises(InputError, match='there is no keyholder "dave"'):
        open_keyholders(ceremony.workspace, ["dave"], secret)
    text = ceremony.workspace.policy_text()
    place = 'public = "keys/ci.pub"'
    ceremony.workspace.write_policy(text.replace(place, f'{place}\nlocation = "file:../ci.pem"'))
    new_key(tmp_path / "ci.pem", Algorithm.ED25519, b"secret")
    with pytest.raises(InputError, match="is another key than expected"):
        open_keyholders(ceremony.workspace, ["ci"], secret)
    (ceremony.workspace.root / "keys/ci.pub").write_bytes((tmp_path / "ci.pem.pub").read_bytes())
    assert len(open_keyholders(ceremony.workspace, ["ci"], secret)) == 1


def test_a_private_key_is_no_public_key(tmp_path: Path) -> None:
    new_key(tmp_path / "k.pem", Algorithm.ED25519, b"secret")
    for data in (
        (tmp_path / "k.pem").read_bytes(),
        b"",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    ):
        with pytest.raises(DocumentError):
            parse_public_key(data)
