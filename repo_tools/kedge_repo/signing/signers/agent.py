"""``ssh-agent:KEY``: a key that the user's SSH agent holds, named by fingerprint (``SHA256:…``) or by comment.

An agent signs the bytes that it is given, and nothing around them (``ssh-keygen -Y sign`` would add a frame of its
own): an Ed25519 signature is TUF's as it is, an ECDSA one after its two ``mpint`` are written as DER. Two requests of
the protocol are all that is needed, so they stand here; each has a connection of its own. Signing has no time limit:
somebody may have to touch a key first.

Sources: draft-miller-ssh-agent §3; RFC 4251 §5 (``string``, ``mpint``); RFC 5656 §3.1.2 (ECDSA); RFC 8709 §6 (Ed25519).
"""

from __future__ import annotations

import base64
import os
import socket
import struct
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from securesystemslib.signer import Key, SecretsHandler, Signature, Signer, SSlibKey

from kedge.documents import DocumentError
from kedge.errors import InputError
from kedge_repo.workspace import from_crypto, ssh_fingerprint_of

_FAILURE = 5
_REQUEST_IDENTITIES, _IDENTITIES_ANSWER = 11, 12
_SIGN_REQUEST, _SIGN_RESPONSE = 13, 14
_MAX_ANSWER_BYTES = 256 * 1024  # what OpenSSH's own agent and client allow
_CONNECT_TIMEOUT_S = 10.0


def open_agent(name: str) -> Signer:
    """Find the key ``name`` in the agent that ``SSH_AUTH_SOCK`` leads to.

    Raises:
        InputError: there is no agent, or it does not hold exactly one such key.
    """
    keys = _agent_keys()
    found = [held for held in keys if name in {held.comment, held.mark}]
    if not found:
        listed = ", ".join(f"{held.mark} ({held.comment})" for held in keys)
        raise InputError(
            f"ssh-agent:{name}: the agent holds no such Ed25519 or ECDSA P-256 key",
            hint=f"it holds {listed}" if listed else "add the key with ssh-add",
        )
    if len(found) > 1:
        raise InputError(f"ssh-agent:{name}: {len(found)} keys have this comment", hint="name the key by fingerprint")
    return AgentSigner(found[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldKey:
    """A key that the agent holds: its public half as the agent wrote it, its comment, and what it is in metadata."""

    blob: bytes
    comment: str
    key: SSlibKey
    mark: str


class AgentSigner(Signer):
    """Signs through the agent."""

    def __init__(self, held: HeldKey) -> None:
        """Sign with ``held``."""
        self._held = held

    @property
    def public_key(self) -> SSlibKey:
        """The public key."""
        return self._held.key

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> Signer:
        """Find the key by its URI, as securesystemslib asks for one.

        Raises:
            InputError: there is no such key in the agent.
        """
        del public_key, secrets_handler
        return open_agent(priv_key_uri.partition(":")[2])

    def sign(self, payload: bytes) -> Signature:
        """Let the agent sign ``payload``.

        Raises:
            InputError: the agent refuses (it is locked, or somebody at its prompt said no), or answers with something
                that is no signature.
        """
        mark = self._held.mark
        request = _string(self._held.blob) + _string(payload) + struct.pack(">I", 0)
        try:
            answer = _ask(_SIGN_REQUEST, request, _SIGN_RESPONSE)
            raw = _signature(_Reader(_Reader(answer).string()))
        except _RefusedError as error:
            raise InputError(f"ssh-agent:{mark}: the agent did not sign: {error}") from error
        return Signature(self._held.key.keyid, raw.hex())


class _RefusedError(Exception):
    """The agent said no, or something that is not its protocol."""


class _Reader:
    """Takes values out of a message, by RFC 4251 §5."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise _RefusedError("its answer is cut short")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        return self.take(self.number())


def _signature(reader: _Reader) -> bytes:
    kind, value = reader.string(), reader.string()
    if kind == b"ssh-ed25519":
        return value
    if kind == b"ecdsa-sha2-nistp256":
        pair = _Reader(value)
        return encode_dss_signature(int.from_bytes(pair.string(), "big"), int.from_bytes(pair.string(), "big"))
    raise _RefusedError(f"its signature is of the kind {kind[:40]!r}")


def _agent_keys() -> list[HeldKey]:
    try:
        reader = _Reader(_ask(_REQUEST_IDENTITIES, b"", _IDENTITIES_ANSWER))
        listed = [(reader.string(), reader.string()) for _ in range(reader.number())]
    except _RefusedError as error:
        raise InputError(f"ssh-agent: the agent does not list its keys: {error}") from error
    found: list[HeldKey] = []
    for blob, comment in listed:
        try:
            key = from_crypto(_public(blob))
        except (ValueError, UnsupportedAlgorithm, DocumentError):
            continue  # a kind of key that metadata cannot hold; the agent may have such as well
        text = comment.decode("utf-8", "backslashreplace")
        found.append(HeldKey(blob=blob, comment=text, key=key, mark=ssh_fingerprint_of(key) or ""))
    return found


def _public(blob: bytes) -> object:
    kind = _Reader(blob).string()
    return load_ssh_public_key(kind + b" " + base64.b64encode(blob))


def _ask(kind: int, body: bytes, expected: int) -> bytes:
    """Send one request and give the body of the answer."""
    path = os.environ.get("SSH_AUTH_SOCK")
    if not path:
        raise InputError("ssh-agent: SSH_AUTH_SOCK is not set, so there is no agent to ask")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
        agent.settimeout(_CONNECT_TIMEOUT_S)
        try:
            agent.connect(path)
        except OSError as error:
            raise InputError(f"ssh-agent: nobody answers at {path}, where SSH_AUTH_SOCK points") from error
        agent.settimeout(None)
        try:
            agent.sendall(_string(bytes([kind]) + body))
            size = int.from_bytes(_receive(agent, 4), "big")
            if not 1 <= size <= _MAX_ANSWER_BYTES:
                raise _RefusedError(f"its answer has {size} bytes")
            answer = _receive(agent, size)
        except OSError as error:
            raise _RefusedError((error.strerror or str(error)).lower()) from error
    if answer[0] == _FAILURE:
        raise _RefusedError("it refused")
    if answer[0] != expected:
        raise _RefusedError(f"it answered with the message {answer[0]}")
    return answer[1:]


def _receive(agent: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = agent.recv(count - len(data))
        if not part:
            raise _RefusedError("it hung up")
        data += part
    return data


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
