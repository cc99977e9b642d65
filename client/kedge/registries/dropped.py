"""Which keys a new key document no longer holds, for the lint of any kind of registry."""

from __future__ import annotations

from kedge.keys import KeySet, RegistryKey

__all__ = ["dropped"]


def dropped(old: KeySet | None, new: KeySet) -> list[tuple[RegistryKey, str]]:
    """Each key of ``old``, with the usage for which ``new`` has no entry of it; what was revoked may go."""
    kept = {(key.id, usage) for key in new.keys for usage in key.usages}
    before = {(key.id, usage): key for key in (old.keys if old is not None else ()) for usage in key.usages}
    lost = [entry for entry in before if entry not in kept and entry[0] not in new.revoked]
    return [(before[entry], entry[1]) for entry in lost]
