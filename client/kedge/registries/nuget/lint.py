"""What would go wrong with a new key document of a NuGet feed, said before anybody signs it."""

from __future__ import annotations

from datetime import timedelta

from kedge.document import format_time
from kedge.findings import Finding, Severity
from kedge.keys import KeySet, KeyStatus
from kedge.registries.dropped import dropped

__all__ = ["ROTATION_AHEAD", "lint"]

ROTATION_AHEAD = timedelta(days=180)
"""How long before the last certificate ends its successor should be there: restores pin fingerprints in files."""


def lint(old: KeySet | None, new: KeySet) -> tuple[Finding, ...]:
    """Say what would go wrong with ``new`` in place of ``old``."""
    return (*_dropped(old, new), *_nothing_active(new), *_rotation_due(new), *_placed_twice(new))


def _dropped(old: KeySet | None, new: KeySet) -> list[Finding]:
    return [
        Finding(
            rule="nuget/certificate-dropped",
            severity=Severity.ERROR,
            place=f"{new.target}: signingCertificates",
            message=f"{key.id} is no longer there ({usage}): packages that it signed would not be installed any more",
            hint="keep expired certificates: a package's time stamp says that it was signed in time",
        )
        for key, usage in dropped(old, new)
    ]


def _nothing_active(new: KeySet) -> list[Finding]:
    if any(key.status is KeyStatus.ACTIVE and _signs(key.usages) for key in new.keys):
        return []
    return [
        Finding(
            rule="nuget/no-active-certificate",
            severity=Severity.ERROR,
            place=f"{new.target}: signingCertificates",
            message="no certificate may sign packages now: every new package would be refused",
            hint="add the certificate that signs today before the old one ends",
        )
    ]


def _rotation_due(new: KeySet) -> list[Finding]:
    ends = [key.valid_until for key in new.keys if key.status is KeyStatus.ACTIVE and key.valid_until is not None]
    last = max(ends, default=None)
    if last is None or last - new.reference_time > ROTATION_AHEAD:
        return []
    return [
        Finding(
            rule="nuget/rotation-due",
            severity=Severity.WARNING,
            place=f"{new.target}: signingCertificates",
            message=f"the last certificate ends at {format_time(last)}, and no successor is listed",
            hint="list the next one well before it signs: whoever pins fingerprints needs it on the first day",
        )
    ]


def _placed_twice(new: KeySet) -> list[Finding]:
    usages: dict[str, set[str]] = {}
    for key in new.keys:
        usages.setdefault(key.id, set()).update(key.usages)
    return [
        Finding(
            rule="nuget/repository-and-author",
            severity=Severity.WARNING,
            place=f"{new.target}: custom.nuget.authors",
            message=f"{keyid} is a repository's certificate and stands among the authors' too",
            hint="a repository's certificate never makes an author's signature: take it out there",
        )
        for keyid, names in usages.items()
        if {"nuget:repository", "nuget:author"} <= names
    ]


def _signs(usages: tuple[str, ...]) -> bool:
    return "nuget:repository" in usages
