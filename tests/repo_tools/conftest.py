"""Real tokens and agents: Debian's softhsm2, and OpenSSH's ssh-agent with keys of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from conftest import Require
from support.tokens import need_softhsm, need_ssh_agent, running_agent, softhsm_module

PIN = "pin-of-carol-4711"


@dataclass(frozen=True)
class Token:
    """A SoftHSM token called ``office`` with the keys ``p256``, ``p256-new`` and ``ed25519``."""

    module: str
    configuration: Path
    pin: str = PIN

    def uri(self, key: str) -> str:
        return f"pkcs11:token=office;object={key}?module-path={self.module}"


@pytest.fixture(scope="session")
def token(require: Require, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    """The token; SOFTHSM2_CONF leads to it for the whole session, since a module is loaded once in a process."""
    need_softhsm(require)
    module = softhsm_module()
    assert module is not None
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(configuration))
        softhsm("--init-token", "--free", "--label", "office", "--pin", PIN, "--so-pin", "0815")
        softhsm("--init-token", "--free", "--label", "empty", "--pin", PIN, "--so-pin", "0815")
        kinds: list[tuple[str, EllipticCurvePrivateKey | Ed25519PrivateKey]] = [
            ("p256", generate_private_key(SECP256R1())),
            ("p256-new", generate_private_key(SECP256R1())),
            ("ed25519", Ed25519PrivateKey.generate()),
        ]
        for number, (name, key) in enumerate(kinds, start=1):
            file = folder / f"{name}.pem"
            file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            where = ("--token", "office", "--pin", PIN, "--label", name, "--id", f"0{number}")
            softhsm("--import", str(file), *where)
            file.unlink()
        yield Token(module, configuration)


def softhsm(*arguments: str) -> None:
    subprocess.run(["softhsm2-util", *arguments], check=True, capture_output=True)


@dataclass(frozen=True)
class SshAgent:
    """A running ssh-agent; ``folder`` holds the public halves, ``<comment>.pub``, of the keys that it was given."""

    socket: str
    folder: Path

    @property
    def env(self) -> dict[str, str]:
        return {"SSH_AUTH_SOCK": self.socket}

    def add(self, comment: str, kind: str = "ed25519") -> Path:
        """Make a key, give it to the agent, and destroy the file: from here on only the agent has it."""
        file = self.folder / comment
        bits = ["-b", "256"] if kind == "ecdsa" else []
        subprocess.run(["ssh-keygen", "-q", "-t", kind, *bits, "-N", "", "-C", comment, "-f", file], check=True)
        environment = {**os.environ, **self.env}
        subprocess.run(["ssh-add", "-q", file], check=True, env=environment, capture_output=True)
        file.unlink()
        return file.with_name(f"{comment}.pub")


@pytest.fixture
def ssh_agent(require: Require, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshAgent]:
    """An agent of its own for the test, which ends with it."""
    need_ssh_agent(require)
    folder = tmp_path_factory.mktemp("agent")
    with running_agent(folder / "socket"):
        yield SshAgent(str(folder / "socket"), folder)
