"""sigstore-python on a trusted root that came through TUF: nothing of it asks a network or writes a file.

``Verifier.production(offline=True)`` reads a trusted root from a cache without verifying it. So it is never called:
:func:`trusted_root` gives sigstore-python the bytes that kedge has just verified, through its own API in memory.

The package comes with the extra ``sigstore`` and is imported here only, late.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from kedge.documents import DocumentError, blame_user
from kedge.errors import Reason, Refusal, StoreError, VerificationError, extra_hint
from kedge.registries.sigstore.bundle import Part, reading
from kedge.registries.sigstore.content import Content
from kedge.registries.sigstore.statement import PAYLOAD_TYPE, Statement, require_subject

if TYPE_CHECKING:
    from sigstore.models import TrustedRoot


CLIENT_TRUST_CONFIG = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
SIGNING_CONFIG = "application/vnd.dev.sigstore.signingconfig.v0.2+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSigned:
    """What sigstore-python verified: whom the certificate names, the log's index, and what kind of signature it was.

    ``predicate_type`` is that of the statement that was signed; None where the file itself was.
    """

    identity: str
    issuer: str
    log_index: int
    predicate_type: str | None
    version: str


class Outcome(StrEnum):
    """The outcome for one file, in ``--json``: whatever else there could be is a refusal."""

    VERIFIED = "verified"


def client_trust_config(document: bytes, signing_config: bytes | None = None) -> str:
    """Put a trusted root, and what signers need, into the one file that sigstore-python takes.

    Raises:
        DocumentError: one of them is no JSON.
    """
    signing = {"mediaType": SIGNING_CONFIG} if signing_config is None else _json(signing_config, "signing config")
    table = {"mediaType": CLIENT_TRUST_CONFIG, "trustedRoot": _json(document, ""), "signingConfig": signing}
    return json.dumps(table, indent=2) + "\n"


def trusted_root(document: bytes) -> TrustedRoot:
    """Give a trusted root as sigstore-python's own.

    Raises:
        ValueError: sigstore-python cannot read it.
        sigstore.errors.Error: it will not take it.
    """
    from sigstore.models import ClientTrustConfig

    return ClientTrustConfig.from_json(client_trust_config(document)).trusted_root


def verify_file(document: bytes, bundle: bytes, data: bytes, *, name: str, identity: str, issuer: str) -> FileSigned:
    """Let sigstore-python verify a bundle over a file, by this trusted root, for this identity.

    Raises:
        VerificationError: it refuses, or the statement that was signed is not about this file.
        InputError: ``bundle`` (called ``name``) is no bundle that it reads.
        StoreError: sigstore-python is not installed, or cannot read the trusted root.
    """
    try:
        from sigstore import __version__
        from sigstore.errors import Error
        from sigstore.models import Bundle, InvalidBundle
        from sigstore.verify import Verifier, policy
    except ImportError as error:
        raise StoreError("needs sigstore-python, which is not installed", hint=extra_hint("sigstore")) from error
    try:
        verifier = Verifier(trusted_root=trusted_root(document))
    except (Error, ValueError) as error:
        text = f"this sigstore-python cannot read the trusted root: {error}"
        raise StoreError(text, hint="a newer sigstore-python may read it") from error
    try:
        found = Bundle.from_json(bundle)
    except (InvalidBundle, ValueError) as error:
        with blame_user(name):
            raise DocumentError("", f"is no bundle that sigstore-python reads: {_first_line(error)}") from error
    expected = policy.Identity(identity=identity, issuer=issuer)
    predicate_type = None
    try:
        if b'"dsseEnvelope"' in bundle:
            kind, payload = verifier.verify_dsse(found, expected)
            predicate_type = _require_subject(kind, payload, data, name)
        else:
            verifier.verify_artifact(data, found, expected)
    except Error as error:
        text = f"{name}: sigstore-python refuses: {_first_line(error)}"
        raise VerificationError(text, refusal=Refusal(reason=Reason.BAD_SIGNATURE, file=name)) from error
    index = found.log_entry._inner.log_index  # noqa: SLF001 it has no other name for it
    return FileSigned(
        identity=identity,
        issuer=issuer,
        log_index=index,
        predicate_type=predicate_type,
        version=__version__,
    )


def _require_subject(kind: str, payload: bytes, data: bytes, name: str) -> str:
    """Check that a statement is about this file: sigstore-python verifies the statement, and leaves that to others."""
    if kind != PAYLOAD_TYPE:
        refusal = Refusal(reason=Reason.CONTENT, file=name)
        raise VerificationError(f"{name}: signs {kind[:100]!a}, expected {PAYLOAD_TYPE}", refusal=refusal)
    with reading(Part.STATEMENT):
        statement = Statement.from_bytes(payload)
    require_subject(statement, Content.of_bytes(data))
    return statement.predicate_type


def _json(data: bytes, what: str) -> object:
    try:
        return json.loads(data)
    except ValueError as error:
        raise DocumentError(what, "is not JSON") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
