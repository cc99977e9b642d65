"""What a check of a document found: values that a person reads, and that a machine can sort.

A finding is no refusal. Whoever looked goes on to the end, and the worst finding decides the exit status.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Finding", "Severity"]


class Severity(StrEnum):
    """How much a finding weighs: an error stops signing and publishing, a warning wants a look, a note is a fact."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a check found.

    ``rule`` is a stable name such as ``npm/windows-overlap``, ``place`` the file and the path inside it, as far as
    there is one (``<registry>/keys.json: keys[1].publicKey.validFor``), ``message`` what is wrong there, lower case.
    """

    rule: str
    severity: Severity
    place: str
    message: str
    hint: str | None = None
