"""What would go wrong with a new key document of a Go checksum database, said before anybody signs it."""

from __future__ import annotations

from kedge.findings import Finding, Severity
from kedge.keys import KeySet, KeyStatus

__all__ = ["lint"]


def lint(old: KeySet | None, new: KeySet) -> tuple[Finding, ...]:
    """Say what would go wrong with ``new`` in place of ``old``."""
    return (*_first(new), *_overlap(old, new))


def _first(new: KeySet) -> list[Finding]:
    if new.keys[0].status is not KeyStatus.REVOKED:
        return []
    return [
        Finding(
            rule="go/first-key-revoked",
            severity=Severity.ERROR,
            place=f"{new.target}: line 1",
            message=f"{new.keys[0].id} was revoked, and stands first: it is the one that go commands are given",
            hint="take the line out, or put the key that signs today before it",
        )
    ]


def _overlap(old: KeySet | None, new: KeySet) -> list[Finding]:
    """Both keys must be there for a while: a go command that kept a tree head refuses one that it cannot connect to."""
    if old is None:
        return []
    before, after = ({key.id for key in keys.keys if key.status is not KeyStatus.REVOKED} for keys in (old, new))
    if before & after:
        return []
    return [
        Finding(
            rule="go/no-overlap",
            severity=Severity.ERROR if not before & set(new.revoked) else Severity.WARNING,
            place=f"{new.target}: line 1",
            message="no key of before is left: a go command that kept a tree head signed by one of them stops working",
            hint="put the new key before the old one, sign tree heads with both, and take the old one out later; "
            "or tell users to remove $GOPATH/pkg/sumdb",
        )
    ]
