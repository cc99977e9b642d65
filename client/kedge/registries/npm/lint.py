"""What would go wrong with a new key document of an npm registry, said before anybody signs it.

The two mistakes of January 2025 come first: the old key was taken out while packages that it signed were still
installed, and the new key was missing where it was needed.
"""

from __future__ import annotations

from kedge.findings import Finding, Severity
from kedge.keys import KeySet, KeyStatus
from kedge.registries.npm.signature import SIGNATURES

__all__ = ["lint"]


def lint(old: KeySet | None, new: KeySet) -> tuple[Finding, ...]:
    """Say what would go wrong with ``new`` in place of ``old``."""
    return (*_dropped(old, new), *_nothing_active(new))


def _dropped(old: KeySet | None, new: KeySet) -> list[Finding]:
    if old is None:
        return []
    kept = {(key.id, usage) for key in new.keys for usage in key.usages}
    lost = {
        (key.id, usage): key
        for key in old.keys
        for usage in key.usages
        if (key.id, usage) not in kept and key.id not in new.revoked
    }
    return [
        Finding(
            rule="npm/key-dropped",
            severity=Severity.ERROR,
            place=f"{new.target}: keys",
            message=f"{keyid} is no longer there for {usage}: nothing that it signed would verify any more",
            hint="end its validity and keep its entry, or revoke it if it was stolen",
        )
        for keyid, usage in lost
    ]


def _nothing_active(new: KeySet) -> list[Finding]:
    if any(key.status is KeyStatus.ACTIVE and SIGNATURES in key.usages for key in new.keys):
        return []
    return [
        Finding(
            rule="npm/no-active-key",
            severity=Severity.ERROR,
            place=f"{new.target}: keys",
            message=f"no key may sign packages now ({SIGNATURES}): every new release would be refused",
            hint="add the key that signs today before the old one ends",
        )
    ]
