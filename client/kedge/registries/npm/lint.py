"""What would go wrong with a new key document of an npm registry, said before anybody signs it.

The two mistakes of January 2025 come first: the old key was taken out while packages that it signed were still
installed, and the new key was missing where it was needed. The others are what the oldest consumers (npm 9, pnpm,
Corepack 0.30) do with a document: they verify ECDSA P-256 alone, read ``validFor.end`` of every entry, compare with
the first entry of a keyid whatever its usage, and derive a keyid from nothing, while people compare it with what
``ssh-keygen -l`` prints.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from kedge.document import format_time, load_json
from kedge.findings import Finding, Severity
from kedge.keys import KeySet, KeyStatus, RegistryKey, load_public_key, ssh_fingerprint
from kedge.registries.dropped import dropped
from kedge.registries.npm.signature import SIGNATURES

__all__ = ["lint"]

P256 = "PKIX_ECDSA_P256_SHA_256"


def lint(old: KeySet | None, new: KeySet) -> tuple[Finding, ...]:
    """Say what would go wrong with ``new`` in place of ``old``."""
    return (
        *_dropped(old, new),
        *_nothing_active(old, new),
        *_changed(old, new),
        *_gaps(new),
        *_keyids(new),
        *_oldest_consumers(new),
    )


def _dropped(old: KeySet | None, new: KeySet) -> Iterator[Finding]:
    for key, usage in dropped(old, new):
        yield _finding(
            "key-dropped",
            Severity.ERROR,
            new,
            f"{key.id} is no longer there for {usage}: nothing that it signed would verify any more",
            hint="end its validity and keep its entry, or revoke it if it was stolen",
        )
    for keyid in old.revoked if old is not None else ():
        if keyid not in new.revoked:
            yield Finding(
                rule="npm/key-unrevoked",
                severity=Severity.ERROR,
                place=f"{new.target}: custom.kedge.revoked",
                message=f"{keyid} was revoked, and would be trusted again",
            )


def _nothing_active(old: KeySet | None, new: KeySet) -> Iterator[Finding]:
    if any(key.status is KeyStatus.ACTIVE and SIGNATURES in key.usages for key in new.keys):
        return
    before = [key.id for key in old.keys if SIGNATURES in key.usages] if old is not None else []
    stolen = bool(before) and set(before) <= set(new.revoked)
    yield _finding(
        "no-active-key",
        Severity.WARNING if stolen else Severity.ERROR,
        new,
        f"no key may sign packages now ({SIGNATURES}): every new release would be refused",
        hint="add the key that signs from now on" if stolen else "add the key that signs today before the old one ends",
    )


def _changed(old: KeySet | None, new: KeySet) -> Iterator[Finding]:
    was = {key.id: key for key in old.keys} if old is not None else {}
    for position, key in enumerate(new.keys):
        before = was.get(key.id)
        if before is not None and (before.material, before.algorithm) != (key.material, key.algorithm):
            text = f"{key.id} is another key than before: nothing that it signed would verify any more"
            yield _finding(
                "key-replaced", Severity.ERROR, new, text, position, hint="give the new key a keyid of its own"
            )
    earlier = _entries(old)
    for position, key in enumerate(new.keys):
        same = earlier.get((key.id, key.usages[0]))
        if same is None or key.id in new.revoked:
            continue
        if key.valid_from is not None and (same.valid_from is None or key.valid_from > same.valid_from):
            start = format_time(key.valid_from)
            text = f"{key.id} would be valid from {start} on only: what it signed before stops verifying"
            yield _finding("start-later", Severity.ERROR, new, text, position, field="publicKey.validFor.start")
        until = key.valid_until
        shortened = until is not None and (same.valid_until is None or until < same.valid_until)
        if until is not None and shortened and until < new.reference_time:
            text = (
                f"{key.id} would have ended at {format_time(until)} already: what it signed since then stops verifying"
            )
            yield _finding("ended-in-the-past", Severity.WARNING, new, text, position, field="publicKey.validFor.end")


def _gaps(new: KeySet) -> Iterator[Finding]:
    """Where a key ends, another one of its usage must be valid already: that is when late clients learn of it."""
    for position, key in enumerate(new.keys):
        end = key.valid_until
        if end is None or key.status is KeyStatus.REVOKED:
            continue
        others = [other for other in new.keys if other is not key and set(other.usages) & set(key.usages)]
        later = [other for other in others if other.valid_until is None or other.valid_until > end]
        if not later:
            continue  # the last of its line: whether there should be another is no matter of overlap
        if not any(other.valid_from is None or other.valid_from < end for other in later):
            start = min(other.valid_from for other in later if other.valid_from is not None)
            text = f"{key.id} ends at {format_time(end)}, and no other {key.usages[0]} key is valid by then"
            hint = f"let it end after {format_time(start)}, when the next one begins"
            yield _finding(
                "windows-gap", Severity.ERROR, new, text, position, field="publicKey.validFor.end", hint=hint
            )


def _keyids(new: KeySet) -> Iterator[Finding]:
    for position, key in enumerate(new.keys):
        if key.algorithm != P256:
            continue
        derived = ssh_fingerprint(load_public_key(key.material, key.algorithm))
        if key.id == derived:
            continue
        severity = Severity.ERROR if key.id.startswith("SHA256:") else Severity.NOTE
        text = f"{key.id} is not what ssh-keygen -l prints for its key, which is {derived}"
        yield _finding("keyid", severity, new, text, position, field="keyId")


def _oldest_consumers(new: KeySet) -> Iterator[Finding]:
    listed = load_json(new.document)["keys"]
    for position, entry in enumerate(listed):
        if "validFor" not in entry["publicKey"]:
            text = "has no validFor, which npm and pnpm cannot read: they stop with an error"
            hint = "write an empty one: {}"
            yield _finding("no-window", Severity.ERROR, new, text, position, field="publicKey", hint=hint)
    first: dict[str, RegistryKey] = {}
    for position, key in enumerate(new.keys):
        if key.algorithm != P256:
            text = f"{key.id} is {key.algorithm}: npm, pnpm and Corepack of today verify {P256} alone"
            yield _finding("unsupported-algorithm", Severity.WARNING, new, text, position, field="publicKey.keyDetails")
        shown = first.setdefault(key.id, key)
        if _ends_before(shown.valid_until, key.valid_until):
            text = f"{key.id} ends later for {key.usages[0]} than in its first entry, whose end npm takes for both"
            yield _finding("first-entry", Severity.WARNING, new, text, position, field="publicKey.validFor.end")
    active = [key for key in new.keys if key.status is KeyStatus.ACTIVE and SIGNATURES in key.usages]
    if active and not any(key.algorithm == P256 for key in active):
        text = f"no active key is {P256}: npm, pnpm and Corepack of today would refuse every new release"
        yield _finding("no-readable-key", Severity.ERROR, new, text)


def _entries(keys: KeySet | None) -> dict[tuple[str, str], RegistryKey]:
    return {(key.id, usage): key for key in keys.keys for usage in key.usages} if keys is not None else {}


def _ends_before(one: datetime | None, other: datetime | None) -> bool:
    return one is not None and (other is None or one < other)


def _finding(
    rule: str,
    severity: Severity,
    new: KeySet,
    message: str,
    position: int | None = None,
    *,
    field: str | None = None,
    hint: str | None = None,
) -> Finding:
    place = "keys" if position is None else f"keys[{position}]"
    if field is not None:
        place += f".{field}"
    return Finding(rule=f"npm/{rule}", severity=severity, place=f"{new.target}: {place}", message=message, hint=hint)
