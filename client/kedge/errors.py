"""Every way in which kedge says no, and the exit code that goes with it.

The tree answers two questions for whoever reads the message: whose fault is it, and what can be done now?

::

    KedgeError
    ├── InputError          2  a file or an option of the user's: correct it
    ├── FetchError          1  the network or a server: try again
    ├── StoreError          1  this machine's disk, permissions or libraries: mend it
    ├── VerificationError   3  what was served must not be trusted: report it
    │   └── ExpiredError    4  it was right once, and is too old now
    └── ThresholdError      6  more signatures are needed: ask the keyholders

Invariants:

- A message is one line, lower case, names the file or the URL, what is wrong and what was expected.
- A ``hint`` is what to do next; it is printed on a line of its own.
- A refusal carries its evidence: the reason, the file, the role, what was expected and what was found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum

__all__ = [
    "ExitCode",
    "ExpiredError",
    "FetchError",
    "InputError",
    "KedgeError",
    "Reason",
    "Refusal",
    "StoreError",
    "ThresholdError",
    "VerificationError",
    "extra_hint",
    "one_line",
]


class ExitCode(IntEnum):
    """What a command's exit status means. Where several hold, the order is 3, 4, 5, 1."""

    DONE = 0
    COULD_NOT = 1
    USAGE = 2
    REFUSED = 3
    EXPIRED = 4
    FAULTS = 5
    MORE_SIGNATURES = 6
    INTERRUPTED = 130


class Reason(StrEnum):
    """Why something was refused. The values stand in ``--json`` output and in evidence files."""

    MALFORMED = "malformed"
    SIGNATURES = "signatures"
    VERSION = "version"
    ROLLBACK = "rollback"
    EXPIRED = "expired"
    CONTENT = "content"
    NOT_IN_SNAPSHOT = "not-in-snapshot"
    NOT_FOUND = "not-found"
    PATH = "path"
    TOO_LARGE = "too-large"
    LIMIT = "limit"
    CONFLICT = "conflict"
    LOCKED = "locked"
    ANCHOR = "anchor"
    BASELINE = "baseline"
    REDIRECT = "redirect"
    PORTAL = "portal"
    UNKNOWN_KEY = "unknown-key"
    REVOKED_KEY = "revoked-key"
    OUTSIDE_VALIDITY = "outside-validity"
    BAD_SIGNATURE = "bad-signature"
    NO_KEYS = "no-keys"
    UNPROVEN = "unproven"
    NOT_LOGGED = "not-logged"
    FORK = "fork"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The evidence of a refusal, as far as it is known.

    ``expected`` and ``found`` are texts for people (a version, a digest, "2 of 3 signatures"); ``source`` is the URL or
    folder that served the file. ``exhibits`` are files that are right by themselves and cannot both be: they are kept.
    """

    reason: Reason
    file: str | None = None
    role: str | None = None
    expected: str | None = None
    found: str | None = None
    source: str | None = None
    exhibits: tuple[bytes, ...] = ()


def extra_hint(extra: str) -> str:
    """Say how to install what an extra brings. Every hint comes from here, and docs/install.md says the rest.

    No name of a package index stands in it: until a release is there, whoever registers that name would run code.
    """
    return f"install kedge with the extra {extra}, from the place that you have it from: docs/install.md"


def one_line(text: str) -> str:
    """A text with everything that is not printable written as an escape: what somebody else wrote moves no cursor."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in text)


class KedgeError(Exception):
    """The root of the tree. ``str(error)`` is the one-line message."""

    exit_code = ExitCode.COULD_NOT

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message = one_line(message)
        self.hint = one_line(hint) if hint is not None else None
        super().__init__(self.message)


class InputError(KedgeError):
    """A file or an option that the user gave cannot be used."""

    exit_code = ExitCode.USAGE


class FetchError(KedgeError):
    """Something could not be fetched: the network or a server failed, within the time that was allowed."""


class StoreError(KedgeError):
    """This machine failed: a disk, a permission, a lock, a library that is too old."""


class VerificationError(KedgeError):
    """What was served must not be trusted. ``refusal`` holds the evidence."""

    exit_code = ExitCode.REFUSED

    def __init__(self, message: str, *, refusal: Refusal, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.refusal = refusal

    def served_by(self, source: str) -> VerificationError:
        """The same refusal, which also says who served the file."""
        if self.refusal.source is not None:
            return self
        refusal = replace(self.refusal, source=source)
        return type(self)(f"{self.message} (served by {source})", refusal=refusal, hint=self.hint)


class ExpiredError(VerificationError):
    """Correctly signed, and too old by the reference time and the policy."""

    exit_code = ExitCode.EXPIRED


class ThresholdError(KedgeError):
    """More signatures are needed before this can be done."""

    exit_code = ExitCode.MORE_SIGNATURES
