"""``ssh-agent:KEY``: a key that the user's SSH agent holds, named by fingerprint (``SHA256:…``) or by comment.

An agent signs the bytes that it is given, and nothing around them (``ssh-keygen -Y sign`` would add a frame of its
own): an Ed25519 signature is TUF's as it is, an ECDSA one after its two ``mpint`` (RFC 5656 §3.1.2) are written as DER.

Sources: draft-miller-ssh-agent §3; RFC 5656 §3.1.2; RFC 8709 §6. The protocol is spoken by paramiko.
"""

from __future__ import annotations

import os
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from securesystemslib.signer import Key, SecretsHandler, Signature, Signer, SSlibKey

from kedge.document import DocumentError
from kedge.errors import InputError
from kedge_repo.extras import load_extra
from kedge_repo.publickey import from_crypto, ssh_fingerprint

__all__ = ["AgentSigner", "open_agent"]


def open_agent(name: str) -> Signer:
    """Find the key ``name`` in the agent that ``SSH_AUTH_SOCK`` leads to.

    Raises:
        InputError: paramiko is not installed, there is no agent, or it does not hold exactly one such key.
    """
    paramiko = load_extra("paramiko", extra="ssh", what=f"ssh-agent:{name}")
    keys = _agent_keys(paramiko)
    found = [(held, key) for held, key in keys if name in {held.comment, ssh_fingerprint(key)}]
    if not found:
        listed = ", ".join(f"{ssh_fingerprint(key)} ({held.comment})" for held, key in keys)
        raise InputError(
            f"ssh-agent:{name}: the agent holds no such Ed25519 or ECDSA P-256 key",
            hint=f"it holds {listed}" if listed else "add the key with ssh-add",
        )
    if len(found) > 1:
        raise InputError(f"ssh-agent:{name}: {len(found)} keys have this comment", hint="name the key by fingerprint")
    return AgentSigner(*found[0])


class AgentSigner(Signer):
    """Signs through an agent: ``held`` is paramiko's view of the key there."""

    def __init__(self, held: Any, public_key: SSlibKey) -> None:
        """Sign with ``held``, whose public key is ``public_key``."""
        self._held = held
        self._public_key = public_key

    @property
    def public_key(self) -> SSlibKey:
        """The public key."""
        return self._public_key

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
        paramiko = load_extra("paramiko", extra="ssh", what="ssh-agent:")
        name = ssh_fingerprint(self._public_key)
        try:
            blob = paramiko.Message(self._held.sign_ssh_data(payload))
        except (paramiko.SSHException, OSError) as error:
            raise InputError(f"ssh-agent:{name}: the agent did not sign: {str(error).lower()}") from error
        kind, value = blob.get_text(), blob.get_binary()
        if kind == "ssh-ed25519":
            raw = value
        elif kind == "ecdsa-sha2-nistp256":
            pair = paramiko.Message(value)
            raw = encode_dss_signature(pair.get_mpint(), pair.get_mpint())
        else:
            raise InputError(f"ssh-agent:{name}: the agent answered with a signature of the kind {kind!r}")
        return Signature(self._public_key.keyid, raw.hex())


def _agent_keys(paramiko: Any) -> list[tuple[Any, SSlibKey]]:
    if not os.environ.get("SSH_AUTH_SOCK"):
        raise InputError("ssh-agent: SSH_AUTH_SOCK is not set, so there is no agent to ask")
    try:
        agent = paramiko.Agent()
    except (paramiko.SSHException, OSError) as error:
        raise InputError(f"ssh-agent: the agent cannot be asked: {str(error).lower()}") from error
    if agent._conn is None:  # noqa: SLF001 how paramiko says that nobody answered
        raise InputError(f"ssh-agent: nobody answers at {os.environ['SSH_AUTH_SOCK']}, where SSH_AUTH_SOCK points")
    found: list[tuple[Any, SSlibKey]] = []
    for held in agent.get_keys():
        line = f"{held.get_name()} {held.get_base64()}".encode()
        try:
            found.append((held, from_crypto(load_ssh_public_key(line))))
        except (ValueError, UnsupportedAlgorithm, DocumentError):
            continue  # a kind of key that metadata cannot hold; the agent may have such as well
    return found
