"""Keys on a real SoftHSM token, in a real ssh-agent, with a service, and in OpenSSH's own file format."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from securesystemslib.signer import CryptoSigner, Signer

from conftest import Require
from kedge.errors import FetchError, InputError, extra_hint
from kedge_repo.signing.signers.location import open_signer
from kedge_repo.workspace.public_key import algorithm, fingerprint, parse_public_key, ssh_fingerprint_of
from repo_tools.conftest import PIN, SshAgent, Token
from repo_tools.machine import Machine


def signs(signer: Signer) -> None:
    signer.public_key.verify_signature(signer.sign(b"message"), b"message")


def never(what: str) -> bytes:
    pytest.fail(f"asked for {what}")


class Asked:
    """Gives one secret, and counts how often it was asked for."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.questions: list[str] = []

    def __call__(self, what: str) -> bytes:
        self.questions.append(what)
        return self.secret.encode()


@pytest.mark.parametrize(("key", "kind"), [("p256", "ECDSA P-256"), ("ed25519", "Ed25519")])
def test_a_token_signs_after_one_question_for_the_pin(token: Token, key: str, kind: str) -> None:
    pin = Asked(token.pin)
    signer = open_signer(token.uri(key), pin)
    signs(signer)
    signs(signer)
    assert algorithm(signer.public_key) == kind
    assert pin.questions == ["PIN of token office"]


def test_a_key_on_a_token_is_found_by_its_id(token: Token) -> None:
    by_id = f"pkcs11:token=office;id=%02?module-path={token.module}"
    found = open_signer(by_id, Asked(token.pin)).public_key
    named = open_signer(token.uri("p256-new"), Asked(token.pin)).public_key
    assert fingerprint(found) == fingerprint(named)


def test_a_wrong_pin_is_tried_once(token: Token) -> None:
    pin = Asked("0000")
    with pytest.raises(InputError, match="the PIN is wrong; it was tried once"):
        open_signer(token.uri("p256"), pin)
    assert len(pin.questions) == 1
    signs(open_signer(token.uri("p256"), Asked(token.pin)))


def test_what_is_wrong_with_a_token_is_one_line(token: Token) -> None:
    good = token.uri("p256")
    other = CryptoSigner.generate_ecdsa().public_key
    for location, problem in [
        (good.replace("office", "home"), "there is no such token in this module"),
        (token.uri("nobody"), "the token has no such key"),
        (good.replace(token.module, "/nowhere.so"), "/nowhere.so"),
        (good.replace(token.module, "/etc/hostname"), "/etc/hostname"),
        (good.partition("?")[0], "does not name the module-path"),
        (good.replace("token=office;", ""), "does not name the token"),
        (good.replace(";object=p256", ""), "does not name the key, by object or id"),
        (good.replace("object=p256", "objekt=p256"), "objekt is not known here"),
        (f"{good};token=x", "pkcs11:"),
        ("pkcs11:token", "is not a PKCS#11 URI"),
    ]:
        with pytest.raises(InputError) as caught:
            open_signer(location, Asked(token.pin))
        assert problem in caught.value.message
        assert "\n" not in caught.value.message
    with pytest.raises(InputError, match="is another key than expected"):
        open_signer(good, Asked(token.pin), public=other)


def test_a_pin_in_the_uri_is_refused_and_not_repeated(token: Token) -> None:
    with pytest.raises(InputError, match="does not belong into a key location") as caught:
        open_signer(f"{token.uri('p256')}&pin-value={PIN}", never)
    assert PIN not in caught.value.message


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_an_agent_signs_with_a_key_named_by_fingerprint_or_comment(
    ssh_agent: SshAgent, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", ssh_agent.socket)
    public = ssh_agent.add("work", kind)
    ssh_agent.add("other", kind)
    key = parse_public_key(public.read_bytes())
    mark = subprocess.run(
        ["ssh-keygen", "-l", "-f", public], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    assert ssh_fingerprint_of(key) == mark
    for name in ("work", mark):
        signer = open_signer(f"ssh-agent:{name}", never, public=key)
        for _ in range(20):  # an mpint has a byte more or less, by chance
            signs(signer)


def test_what_is_wrong_with_an_agent_is_one_line(
    ssh_agent: SshAgent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(location: str, problem: str) -> InputError:
        with pytest.raises(InputError, match=problem) as caught:
            open_signer(location, never)
        assert "\n" not in caught.value.message
        return caught.value

    monkeypatch.setenv("SSH_AUTH_SOCK", ssh_agent.socket)
    assert "ssh-add" in str(refused("ssh-agent:work", "holds no such Ed25519 or ECDSA P-256 key").hint)
    ssh_agent.add("work")
    assert "(work)" in str(refused("ssh-agent:home", "holds no such").hint)
    (ssh_agent.folder / "work.pub").unlink()
    ssh_agent.add("work", "ecdsa")
    refused("ssh-agent:work", "2 keys have this comment")
    refused("ssh-agent:", "is not a key location")
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "nobody"))
    refused("ssh-agent:work", "nobody answers at")
    monkeypatch.delenv("SSH_AUTH_SOCK")
    refused("ssh-agent:work", "SSH_AUTH_SOCK is not set")


def test_a_key_that_leaves_the_agent_signs_no_more(ssh_agent: SshAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", ssh_agent.socket)
    ssh_agent.add("work")
    signer = open_signer("ssh-agent:work", never)
    subprocess.run(["ssh-add", "-q", "-D"], check=True, env={**os.environ, **ssh_agent.env}, capture_output=True)
    with pytest.raises(InputError, match="the agent did not sign"):
        signer.sign(b"message")


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_an_encrypted_openssh_key_file_opens_with_its_passphrase(tmp_path: Path, require: Require, kind: str) -> None:
    require(importlib.util.find_spec("bcrypt"), "bcrypt is not installed: run make signers")
    require(shutil.which("ssh-keygen"), "openssh-client is not installed")
    file = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "a secret", "-f", file], check=True)
    public = parse_public_key(file.with_name("id.pub").read_bytes())
    signs(open_signer(f"file:{file}", Asked("a secret"), public=public))
    with pytest.raises(InputError, match="the passphrase is wrong"):
        open_signer(f"file:{file}", Asked("another"))
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "a secret", "-N", "", "-f", file], check=True, capture_output=True)
    with pytest.raises(InputError, match="the private key is not encrypted") as caught:
        open_signer(f"file:{file}", never)
    assert "ssh-keygen -p -f id" in str(caught.value.hint)


def test_a_post_quantum_key_of_the_largest_kind_is_not_taken(tmp_path: Path) -> None:
    pem = MLDSA87PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    (tmp_path / "k.pem").write_bytes(pem)
    with pytest.raises(InputError, match="must be a key of the kind"):
        open_signer(f"file:{tmp_path / 'k.pem'}", Asked("x"))


WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        packages = {"pkcs11", "bcrypt", "boto3", "botocore", "hvac", "azure"}
        if name.partition(".")[0] in packages or name.startswith("google.cloud"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from kedge_repo._cli.app import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("location", "package", "extra"),
    [
        ("pkcs11:token=a;object=b?module-path=/c.so", "pkcs11", "hsm"),
        ("awskms:alias/root", "boto3", "awskms"),
        ("gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1", "google", "gcpkms"),
        ("azurekms://v.vault.azure.net/keys/k/1", "azure", "azurekms"),
        ("vault:k/1", "hvac", "vault"),
    ],
)
def test_a_missing_extra_is_one_line_with_the_command_that_installs_it(
    tmp_path: Path, location: str, package: str, extra: str
) -> None:
    done = Machine(tmp_path).process(sys.executable, "-c", WITHOUT, "key", "public", location)
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [
        f"kedge-repo: {location}: needs the Python package {package}",
        f"hint: {extra_hint(extra)}",
    ]


def test_a_service_that_cannot_be_reached_is_the_networks_fault(
    monkeypatch: pytest.MonkeyPatch, require: Require
) -> None:
    require(importlib.util.find_spec("boto3"), "boto3 is not installed: run make signers")
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(FetchError, match="awskms:alias/root: the service cannot be used: ") as caught:
        open_signer("awskms:alias/root", never)
    assert "\n" not in caught.value.message
    constructed = open_signer("awskms:alias/root", never, public=CryptoSigner.generate_ecdsa().public_key)
    with pytest.raises(FetchError, match="awskms:alias/root: the service did not sign: "):
        constructed.sign(b"message")
