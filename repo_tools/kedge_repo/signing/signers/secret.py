"""Passphrases and PINs: from a prompt or a file descriptor.

Never from the command line or the environment, where other processes can read them. What is given is asked for once and
used once; a wrong one is an error, not a second question: a token locks itself after a few.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable

from kedge.errors import InputError

Passphrase = Callable[[str], bytes]
"""Asked with what it is for (``/home/alice/alice.pem``, ``PIN of token office``); gives the passphrase or PIN."""

_MAX_PASSPHRASE_BYTES = 1024
_PIN = "PIN of "


def ask_passphrase(what: str) -> bytes:
    """Ask on the terminal.

    Raises:
        InputError: there is no terminal to ask on.
    """
    if not os.isatty(0):
        needs = "must be given" if what.startswith(_PIN) else "needs a passphrase"
        raise InputError(f"{what}: {needs} and there is no terminal", hint="use --passphrase-fd")
    return getpass.getpass(f"{what}: " if what.startswith(_PIN) else f"passphrase of {what}: ").encode("utf-8")


def asked_twice(ask: Passphrase) -> Passphrase:
    """Ask twice and compare: for a passphrase that nothing can check yet.

    Raises (when a passphrase is needed):
        InputError: the two differ.
    """

    def compared(what: str) -> bytes:
        first = ask(what)
        if ask(f"{what}, again") != first:
            raise InputError(f"{what}: the two passphrases differ")
        return first

    return compared


def passphrase_from(descriptor: int) -> Passphrase:
    """Read passphrases from a file descriptor, one line each, in the order in which they are needed.

    Raises (when a passphrase is needed):
        InputError: the descriptor cannot be read, or holds no further line.
    """

    def read_line(what: str) -> bytes:
        line = bytearray()
        try:
            while (byte := os.read(descriptor, 1)) not in {b"", b"\n"}:
                line += byte
                if len(line) > _MAX_PASSPHRASE_BYTES:
                    raise InputError(f"file descriptor {descriptor}: holds a line of more than 1024 bytes")
        except OSError as error:
            raise InputError(
                f"file descriptor {descriptor}: cannot be read: {(error.strerror or '').lower()}"
            ) from error
        if not line:
            raise InputError(f"file descriptor {descriptor}: holds no passphrase for {what}")
        return bytes(line)

    return read_line
