"""Real tokens and agents: where Debian's softhsm2 has its module, and OpenSSH's ssh-agent while it is needed."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["need_softhsm", "need_ssh_agent", "running_agent", "softhsm_module"]

_MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)


def softhsm_module() -> str | None:
    """Where SoftHSM's PKCS#11 module lies; None if it is not installed."""
    return next((path for path in _MODULES if Path(path).exists()), None)


def need_softhsm(require: Callable[[object, str], None]) -> None:
    """Say that a test needs SoftHSM, and the package that speaks to it."""
    require(softhsm_module() and shutil.which("softhsm2-util"), "softhsm2 is not installed")
    require(importlib.util.find_spec("pkcs11"), "python-pkcs11 is not installed: run make signers")


def need_ssh_agent(require: Callable[[object, str], None]) -> None:
    """Say that a test needs OpenSSH's programs."""
    missing = [name for name in ("ssh-agent", "ssh-add", "ssh-keygen") if not shutil.which(name)]
    require(not missing, "openssh-client is not installed")


@contextmanager
def running_agent(socket: Path) -> Iterator[None]:
    """An ssh-agent that listens there, and ends with the block."""
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        process.stdout.readline()  # it says where its socket is once that is there
        yield
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()
