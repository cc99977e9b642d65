"""First contact with a repository whose initial root is known by its digest only.

The digest comes from the user, who has it from a source that they trust; the mirror's word for anything is not taken.
The root may be of any version: roots are asked for from the first on until one has the digest.
"""

from __future__ import annotations

from kedge import checks
from kedge.errors import InputError, Reason, Refusal, VerificationError
from kedge.state import sha256_hex
from kedge.steps import Area, Fetch, Limits
from kedge.transport import Deadline, Transport

__all__ = ["fetch_root"]


def fetch_root(transport: Transport, sha256: str, *, timeout_s: float = 60.0, limits: Limits | None = None) -> bytes:
    """Fetch the root that has the digest ``sha256`` (64 lower-case hexadecimal digits), whatever its version.

    Raises:
        InputError: the digest is none.
        FetchError: the mirror cannot be reached in time.
        VerificationError: no root that the mirror serves has this digest, or the one that has it does not vouch for
            itself.
    """
    limits, deadline = limits or Limits(), Deadline(timeout_s)
    if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise InputError(f"{sha256[:80]}: is no SHA-256 digest, expected 64 lower-case hexadecimal digits")
    for version in range(1, limits.root_rotations + 1):
        ahead = tuple(_request(version + step, limits) for step in range(1, limits.root_window))
        data = transport.get(Fetch(Area.METADATA, f"{version}.root.json", limits.root_bytes, ahead=ahead), deadline)
        if not isinstance(data, bytes):
            raise _not_found(transport, sha256, version - 1)
        if sha256_hex(data) == sha256:
            checks.begin(data, file=f"{version}.root.json")
            return data
    raise _not_found(transport, sha256, limits.root_rotations)


def _request(version: int, limits: Limits) -> Fetch:
    return Fetch(Area.METADATA, f"{version}.root.json", limits.root_bytes)


def _not_found(transport: Transport, sha256: str, last: int) -> VerificationError:
    served = f"serves roots 1 to {last}, none of which has the sha256 {sha256}" if last else "serves no 1.root.json"
    refusal = Refusal(reason=Reason.ANCHOR, file="root.json", expected=f"sha256 {sha256}", source=transport.source)
    return VerificationError(
        f"{transport.source}: {served}",
        refusal=refusal,
        hint="check the digest at its source, and that this is the repository's address",
    )
