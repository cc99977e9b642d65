"""What would go wrong with a new key document of a Hex repository, said before anybody signs it.

A Hex client holds one key. So there is one moment at which the repository signs with the next key and clients must take
it up; what lint asks for is that this moment is announced, and that the old key's word holds for a while after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from kedge.document import format_time
from kedge.findings import Finding, Severity
from kedge.keys import KeySet, KeyStatus, RegistryKey, ssh_fingerprint
from kedge.registries.dropped import dropped

__all__ = ["fingerprint", "lint", "signing_key"]

NOTICE = timedelta(days=14)
OVERLAP = timedelta(days=2)


def signing_key(keys: KeySet) -> RegistryKey | None:
    """The key that signs now: of those whose time has begun, and is not over, the one that began last."""
    begun = [
        key
        for key in keys.keys
        if key.status is KeyStatus.ACTIVE and key.valid_from is not None and key.valid_from <= keys.reference_time
    ]
    return max(begun, key=_begin, default=None)


def fingerprint(key: RegistryKey) -> str:
    """The fingerprint that Hex's tools show: SHA-256 over the key as OpenSSH writes it."""
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    return ssh_fingerprint(load_der_public_key(key.material))


def lint(old: KeySet | None, new: KeySet) -> tuple[Finding, ...]:
    """Say what would go wrong with ``new`` in place of ``old``."""
    return (*_nothing_active(new), *_dropped(old, new), *_order(old, new), *_fingerprints(new))


def _nothing_active(new: KeySet) -> list[Finding]:
    if signing_key(new) is not None:
        return []
    text = "no key's time is now: everything that the repository serves would be refused"
    return [_finding("hex/no-active-key", Severity.ERROR, new, text, "add the key that signs today")]


def _dropped(old: KeySet | None, new: KeySet) -> list[Finding]:
    return [
        _finding(
            "hex/key-dropped",
            Severity.ERROR if key.status is KeyStatus.ACTIVE else Severity.NOTE,
            new,
            f"{key.id} is no longer there: what caches hold under it would be refused",
            "end its time and keep its entry, or revoke it if it was stolen",
        )
        for key, _ in dropped(old, new)
    ]


def _order(old: KeySet | None, new: KeySet) -> list[Finding]:
    found: list[Finding] = []
    alive = sorted((key for key in new.keys if key.status is not KeyStatus.REVOKED), key=_begin)
    for earlier, later in pairwise(alive):
        began = format_time(_begin(later))
        if _begin(earlier) == _begin(later):
            text = f"{earlier.id} and {later.id} begin at the same time, and a client has one slot"
            found.append(_finding("hex/two-begin", Severity.ERROR, new, text))
        elif earlier.valid_until is not None and earlier.valid_until < _begin(later):
            text = f"{earlier.id} ends at {format_time(earlier.valid_until)}, before {later.id} begins at {began}"
            hint = "nothing in between would verify"
            found.append(_finding("hex/gap", Severity.ERROR, new, text, hint))
        elif earlier.valid_until is not None and earlier.valid_until < _begin(later) + OVERLAP:
            text = f"{earlier.id} ends within {OVERLAP.days} days of the beginning of {later.id} at {began}"
            hint = "caches serve for a while what the old key signed"
            found.append(_finding("hex/short-overlap", Severity.WARNING, new, text, hint))
    return [*found, *_sudden(old, new, alive)]


def _sudden(old: KeySet | None, new: KeySet, alive: Sequence[RegistryKey]) -> list[Finding]:
    known = {key.id for key in old.keys} if old is not None else {key.id for key in alive}
    sudden = [key for key in alive if key.id not in known and _begin(key) < new.reference_time + NOTICE]
    return [
        _finding(
            "hex/sudden",
            Severity.WARNING,
            new,
            f"{key.id} begins at {format_time(_begin(key))}, in less than {NOTICE.days} days",
            "clients that refresh more seldom are broken until they do; unless the old key was stolen, begin later",
        )
        for key in sudden
    ]


def _fingerprints(new: KeySet) -> list[Finding]:
    return [
        _finding(
            "hex/other-id",
            Severity.WARNING,
            new,
            f"{key.id} is not the fingerprint that Hex's tools show for this key, which is {fingerprint(key)}",
        )
        for key in new.keys
        if key.id != fingerprint(key)
    ]


def _begin(key: RegistryKey) -> datetime:
    if key.valid_from is None:
        raise ValueError("each key of a Hex key document says when it begins")
    return key.valid_from


def _finding(rule: str, severity: Severity, new: KeySet, message: str, hint: str | None = None) -> Finding:
    return Finding(rule=rule, severity=severity, place=f"{new.target}: keys", message=message, hint=hint)
