"""What would go wrong with a new keyring, said before anybody signs it.

What breaks installed machines: the key that signs today ends, or is gone, before they have the next one.
"""

from __future__ import annotations

from datetime import timedelta

from kedge.document import format_time
from kedge.findings import Finding, Severity
from kedge.keys import KeySet, KeyStatus, RegistryKey
from kedge.registries.dropped import dropped
from kedge.registries.pgp.packets import MAX_BYTES

__all__ = ["lint"]

SOON = timedelta(days=60)
MIN_RSA_BITS = 2048
MANY_BYTES = MAX_BYTES // 32


def lint(kind: str, old: KeySet | None, new: KeySet) -> tuple[Finding, ...]:
    """Say what would go wrong with ``new`` in place of ``old``; ``kind`` begins the rules' names."""
    return (
        *_nothing_active(kind, new),
        *_dropped(kind, old, new),
        *_ending(kind, new),
        *_weak(kind, new),
        *_misplaced(kind, new),
        *_large(kind, new),
    )


def _nothing_active(kind: str, new: KeySet) -> list[Finding]:
    if any(key.status is KeyStatus.ACTIVE for key in new.keys):
        return []
    text = "no key is valid now: every signature would be refused"
    return [_finding(f"{kind}/no-active-key", Severity.ERROR, new, text, "add the key that signs today")]


def _dropped(kind: str, old: KeySet | None, new: KeySet) -> list[Finding]:
    return [
        _finding(
            f"{kind}/key-dropped",
            Severity.ERROR if key.status is KeyStatus.ACTIVE else Severity.WARNING,
            new,
            f"{key.id} is no longer there: what it still signs would be refused",
            "leave it in until nothing signs with it, or name it under custom.kedge.revoked",
        )
        for key, _ in dropped(old, new)
    ]


def _ending(kind: str, new: KeySet) -> list[Finding]:
    active = [key for key in new.keys if key.status is KeyStatus.ACTIVE]
    lasting = [key for key in active if key.valid_until is None or key.valid_until > new.reference_time + SOON]
    if not active or lasting:
        return []
    last = max(key.valid_until for key in active if key.valid_until is not None)
    text = f"the last valid key ends at {format_time(last)}, in less than {SOON.days} days"
    return [_finding(f"{kind}/ends-soon", Severity.WARNING, new, text, "add the next key, or extend this one")]


def _weak(kind: str, new: KeySet) -> list[Finding]:
    return [
        _finding(f"{kind}/weak-key", Severity.ERROR, new, f"{key.id} is a {key.algorithm} key, which can be forged")
        for key in new.keys
        if _is_weak(key) and key.status is not KeyStatus.REVOKED
    ]


def _is_weak(key: RegistryKey) -> bool:
    _, algorithm, *bits = key.algorithm.split("_")
    return algorithm == "DSA" or (algorithm == "RSA" and bool(bits) and int(bits[0]) < MIN_RSA_BITS)


def _misplaced(kind: str, new: KeySet) -> list[Finding]:
    """A file is read by its name: apt finds no keys in armour that is called .gpg, and Gradle none in packets."""
    packets = new.document[:1] >= b"\x80"
    if new.target.endswith(".gpg") and not packets:
        text, hint = "is armoured, and a .gpg file holds binary packets", "gpg --dearmor makes them"
        return [_finding(f"{kind}/armoured-gpg", Severity.ERROR, new, text, hint)]
    if new.target.endswith(".keys") and packets:
        text, hint = "is binary, and Gradle reads a .keys file as armoured text", "gpg --enarmor, or kedge keys export"
        return [_finding(f"{kind}/binary-keys", Severity.ERROR, new, text, hint)]
    return []


def _large(kind: str, new: KeySet) -> list[Finding]:
    if len(new.document) <= MANY_BYTES:
        return []
    text = f"is {len(new.document)} bytes long: certificates carry signatures of other people, which nobody needs here"
    return [_finding(f"{kind}/large", Severity.NOTE, new, text, "gpg --export-options export-minimal --export")]


def _finding(rule: str, severity: Severity, new: KeySet, message: str, hint: str | None = None) -> Finding:
    return Finding(rule=rule, severity=severity, place=new.target, message=message, hint=hint)
