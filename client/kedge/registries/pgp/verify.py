"""Verifies a detached OpenPGP signature over a file: Maven's ``.asc``, npm's old signatures, a release's ``.sig``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from kedge.document import DocumentError
from kedge.keys import KeySet
from kedge.registries.checklist import Checked
from kedge.registries.pgp.detached import read_signature
from kedge.registries.pgp.document import keyring_of
from kedge.registries.pgp.judge import SignatureOutcome, judge
from kedge.registries.pgp.tool import Checker

__all__ = ["GOOD", "FileOutcome", "verify_file"]


class FileOutcome(StrEnum):
    """What became of a file that is no signature at all; the other outcomes are those of signatures."""

    MALFORMED = "malformed"


GOOD: frozenset[StrEnum] = frozenset({SignatureOutcome.VERIFIED})


def verify_file(file: Path, signature: bytes, keys: KeySet, checker: Checker) -> Checked:
    """Check the signature on a file.

    Raises:
        StoreError: gpgv cannot be run.
    """
    try:
        packets = read_signature(signature)
    except DocumentError as error:
        return Checked(name=str(file), outcome=FileOutcome.MALFORMED, is_fault=True, detail=str(error))
    judged = judge(checker.check(packets, file, keyring_of(keys)) if packets else (), keys)
    return Checked(
        name=str(file),
        outcome=judged.outcome,
        is_fault=judged.outcome is not SignatureOutcome.VERIFIED,
        detail=judged.detail or f"by key {judged.key}",
        notes=judged.notes,
        facts={"key": judged.key},
    )
