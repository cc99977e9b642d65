"""What can be wrong with a bundle, by the meaning of what is wrong: the words that a refusal begins with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from kedge.document import DocumentError
from kedge.errors import Reason, Refusal, VerificationError

__all__ = ["Part", "part_of", "reading", "refuse"]


class Part(StrEnum):
    """The parts of a signed bundle. The values stand in messages and in ``--json``."""

    BUNDLE = "bundle"
    CERTIFICATE = "signing certificate"
    CERTIFICATE_TIME = "certificate's log entry"
    SIGNER = "signer's key"
    SIGNATURE = "signature"
    LOG_ENTRY = "log entry"
    LOG_TIME = "log's time"
    INCLUSION = "inclusion proof"
    CHECKPOINT = "log's checkpoint"
    TIMESTAMP = "signed timestamp"
    PAYLOAD_TYPE = "payload type"
    STATEMENT = "statement"
    SUBJECT = "subject"
    DIGEST = "subject's digest"
    IDENTITY = "identity"
    SOURCE = "source"


def refuse(
    part: Part, problem: str, *, reason: Reason = Reason.BAD_SIGNATURE, expected: str | None = None, found: str = ""
) -> VerificationError:
    """Make a refusal that names the part (in ``refusal.role``) and what is wrong with it."""
    refusal = Refusal(reason=reason, role=part.value, expected=expected, found=found or None)
    return VerificationError(f"{part.value}: {problem}", refusal=refusal)


def part_of(error: VerificationError) -> str | None:
    """The part that a refusal names."""
    return error.refusal.role


@contextmanager
def reading(part: Part) -> Iterator[None]:
    """Blame what cannot be read on whoever served the bundle.

    Raises:
        VerificationError: the block raised ``DocumentError``; the reason is ``malformed``.
    """
    try:
        yield
    except DocumentError as error:
        raise refuse(part, str(error), reason=Reason.MALFORMED, expected=error.problem, found=error.path) from error
