"""Signs with the real gpg, in a home of its own: keys, keyrings, clear-signed texts and detached signatures."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

__all__ = ["GnuPG", "Listed", "gnupg", "need_gnupg"]


def need_gnupg(require: Callable[[object, str], None]) -> None:
    """Say that a test needs GnuPG's programs."""
    missing = [name for name in ("gpg", "gpg-agent", "gpgconf", "gpgv") if not shutil.which(name)]
    require(not missing, f"{', '.join(missing)} not installed: apt install gpg gpg-agent gpgv")


# When keys and signatures are made, unless a test says when: gpgv and sqv judge by a clock that no test can set.
MADE = "20260101T000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What gpg itself says of a key: its fingerprint and its subkeys', which of them sign, and its times."""

    fingerprints: list[str]
    signers: list[str]
    created: datetime
    expires: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GnuPG:
    """One home. Keys are Ed25519 unless another algorithm is named, and are named by their fingerprints."""

    home: Path
    keys: dict[str, str] = field(default_factory=dict)

    def key(
        self, name: str, *, algorithm: str = "ed25519", usage: str = "sign", expires: str = "0", at: str | None = None
    ) -> str:
        """The fingerprint of the key of that name, which is made when it is asked for first."""
        if name not in self.keys:
            uid = f"{name} <{name}@example.invalid>"
            status = self._run("--status-fd", "1", "--quick-generate-key", uid, algorithm, usage, expires, at=at)
            self.keys[name] = next(line.split()[3] for line in status.decode().splitlines() if " KEY_CREATED " in line)
        return self.keys[name]

    def subkey(self, name: str, *, algorithm: str = "ed25519", usage: str = "sign") -> str:
        """Add a subkey to a key, one that signs unless another usage is named, and give its fingerprint."""
        self._run("--quick-add-key", self.key(name), algorithm, usage, "0")
        return self.listed(name).fingerprints[-1]

    def listed(self, name: str) -> Listed:
        """What gpg says of a key."""
        lines = self._run("--with-colons", "--fixed-list-mode", "--list-keys", self.key(name)).decode().splitlines()
        fields = [line.split(":") for line in lines]
        primary = next(each for each in fields if each[0] == "pub")
        return Listed(
            fingerprints=[each[9] for each in fields if each[0] == "fpr"],
            signers=[
                following[9]
                for each, following in pairwise(fields)
                if each[0] in ("pub", "sub") and "s" in each[11] and following[0] == "fpr"
            ],
            created=datetime.fromtimestamp(int(primary[5]), UTC),
            expires=datetime.fromtimestamp(int(primary[6]), UTC) if primary[6] else None,
        )

    def revoke(self, name: str) -> None:
        """Let the owner of a key revoke it."""
        certificate = (self.home / "openpgp-revocs.d" / f"{self.key(name)}.rev").read_bytes()
        self._run("--import", given=certificate.replace(b"\n:-----BEGIN", b"\n-----BEGIN"))

    def revoke_subkey(self, name: str, number: int) -> None:
        """Let the owner of a key revoke one of its subkeys, the first being 1."""
        words = f"key {number}\nrevkey\ny\n0\n\ny\nsave\n"
        self._run("--command-fd", "0", "--no-batch", "--edit-key", self.key(name), given=words.encode())

    def public(self, *names: str, armored: bool = False) -> bytes:
        """The certificates of keys, one after the other."""
        options = ["--armor"] if armored else []
        return b"".join(self._run(*options, "--export", self.key(name)) for name in names)

    def secret(self, name: str) -> bytes:
        """A private key, for the tests that nobody takes one."""
        return self._run("--export-secret-keys", self.key(name))

    def clear_sign(
        self,
        text: bytes,
        *names: str,
        at: str | None = None,
        digest: str = "SHA512",
        by: Mapping[str, str] | None = None,
    ) -> bytes:
        """A clear-signed text, with a signature of each key; ``by`` names a subkey to sign with instead."""
        return self._run(*self._by(names, by or {}), "--digest-algo", digest, "--clear-sign", given=text, at=at)

    def detach(self, data: bytes, *names: str, armored: bool = True, at: str | None = None) -> bytes:
        """Detached signatures, of each key one."""
        options = ["--armor"] if armored else []
        return self._run(*self._by(names, {}), *options, "--detach-sign", given=data, at=at)

    def _by(self, names: tuple[str, ...], subkeys: Mapping[str, str]) -> list[str]:
        return [word for name in names for word in ("--local-user", f"{subkeys.get(name) or self.key(name)}!")]

    def _run(self, *arguments: str, given: bytes = b"", at: str | None = None) -> bytes:
        when = ["--faked-system-time", MADE if at is None else at]
        command = ["gpg", "--homedir", str(self.home), "--batch", "--no-tty", "--quiet", "--pinentry-mode", "loopback"]
        done = subprocess.run(
            [*command, "--passphrase", "", *when, *arguments], input=given, capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


@contextmanager
def gnupg() -> Iterator[GnuPG]:
    """A home, short enough for its agent's socket; the agent is gone at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="kg-") as name:
        yield GnuPG(home=Path(name))
        subprocess.run(["gpgconf", "--homedir", name, "--kill", "all"], capture_output=True, check=True, timeout=60)
