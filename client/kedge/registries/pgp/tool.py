"""Runs gpgv, or sqv where there is no gpgv, on a detached signature.

Both are the programs that apt itself calls. They get absolute paths, a keyring of our own making and a home of their
own, so that nothing in the user's GnuPG folder takes part. What they say goes to :mod:`.signatures`.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kedge.errors import StoreError
from kedge.registries.pgp.signatures import Signature, read_gpgv, read_sqv

__all__ = ["TOOLS", "Checker", "find_checker"]

TOOLS = ("gpgv", "sqv")
_ENVIRONMENT = {"LC_ALL": "C", "LANGUAGE": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checker:
    """One of the programs, by its absolute path."""

    program: Path
    timeout_s: float = 120.0

    def check(self, signature: bytes, content: bytes | Path, keyring: bytes) -> tuple[Signature, ...]:
        """Check a detached signature over ``content``, bytes or a file, with the certificates of a binary keyring.

        Raises:
            StoreError: the program cannot be run, or says nothing in time.
        """
        with tempfile.TemporaryDirectory(prefix="kedge-") as name:
            folder = Path(name)
            for file, data in (("keyring.gpg", keyring), ("signature", signature)):
                (folder / file).write_bytes(data)
            if isinstance(content, bytes):
                (folder / "content").write_bytes(content)
                content = folder / "content"
            return self._run(folder, content.absolute())

    def _run(self, folder: Path, content: Path) -> tuple[Signature, ...]:
        keyring, signature = str(folder / "keyring.gpg"), str(folder / "signature")
        if self.program.name == "sqv":
            done = self._call(["--verbose", "--keyring", keyring, signature, str(content)], folder)
            return read_sqv(done.stdout, done.stderr)
        options = ["--homedir", str(folder), "--status-fd", "1", "--keyring", keyring]
        return read_gpgv(self._call([*options, signature, str(content)], folder).stdout)

    def _call(self, arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
        command = [str(self.program), *arguments]
        environment = {**_ENVIRONMENT, "HOME": str(folder), "GNUPGHOME": str(folder)}
        try:
            return subprocess.run(  # noqa: S603 a program by its absolute path, with files of our own making
                command,
                capture_output=True,
                check=False,
                cwd=folder,
                encoding="utf-8",
                env=environment,
                errors="replace",
                stdin=subprocess.DEVNULL,
                timeout=self.timeout_s,
            )
        except subprocess.TimeoutExpired as error:
            raise StoreError(f"{self.program}: said nothing for {self.timeout_s:g} seconds") from error
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise StoreError(f"{self.program}: cannot be run: {reason}") from error


def find_checker() -> Checker:
    """Find gpgv, or else sqv, among the installed programs.

    Raises:
        StoreError: there is neither.
    """
    for name in TOOLS:
        if found := shutil.which(name):
            return Checker(program=Path(found).absolute())
    raise StoreError("neither gpgv nor sqv is installed, which check OpenPGP signatures", hint="apt install gpgv")
