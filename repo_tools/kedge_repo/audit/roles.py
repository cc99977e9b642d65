"""Every other role: each version signed by the threshold of keys that had a say then.

When a version was signed stands nowhere, but roles and their delegators both move forwards only. So the versions of a
role are matched with those of its delegators in order: a version that only an earlier delegator would allow, after a
later one was reached, was signed by keys that had been replaced. What clients get today has to satisfy the newest.

Versions from before the first that any readable delegator allows lie below the bootstrap floor, where there is one:
the roots that allowed them can no longer be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuf.api.metadata import Key, Root, Snapshot, Targets, Timestamp

from kedge.findings import Severity
from kedge.metadata import Checked, Count, Parsed
from kedge_repo.audit.archive import Archive, Entry, listed_roles
from kedge_repo.audit.judged import Judged, finding, lowered, missing
from kedge_repo.audit.signatures import check_keys, count, odd_signatures
from kedge_repo.audit.verdict import Rule

__all__ = ["DelegationIndex", "judge_role"]

Delegators = list[tuple[str, Parsed[Any]]]

_TOP = frozenset({Targets.type, Snapshot.type, Timestamp.type})


class DelegationIndex:
    """Who delegates to which role, worked out once: every version that ever did, and whether one does today."""

    def __init__(self, archive: Archive) -> None:
        """Look through every version of every role in ``archive``."""
        roots = sorted(archive.roots.items())
        self._roots = [
            (f"root version {version}", entry.parsed) for version, entry in roots if entry.parsed is not None
        ]
        self._delegators: dict[str, Delegators] = {}
        self._today: set[str] = set(_TOP)
        for name, versions in archive.roles.items():
            in_force = archive.in_force(name)
            for version, entry in versions.items():
                if name == Snapshot.type or entry.parsed is None:
                    continue
                for role in listed_roles(entry.parsed.signed):
                    self._delegators.setdefault(role, []).append((f"{name} version {version}", entry.parsed))
                    if entry is in_force:
                        self._today.add(role)

    def delegators(self, role: str) -> Delegators:
        """Every version of every role that delegates to ``role``, oldest first."""
        return self._roots if role in _TOP else self._delegators.get(role, [])

    def leads_to(self, role: str) -> bool:
        """Whether clients of today are led to ``role`` by a role that delegates to it."""
        return role in self._today


def judge_role(
    archive: Archive, index: DelegationIndex, role: str, versions: Mapping[int, Entry], floor: int, judged: Judged
) -> None:
    """Hold every version of ``role`` to the rules."""
    delegators = index.delegators(role)
    keys = {keyid: key for _, parsed in delegators for keyid, key in _role_keys(parsed.signed, role).items()}
    reached, accepted = 0, False
    for entry in versions.values():
        below = floor > 1 and not accepted
        parsed = judged.read(entry, below=below)
        if parsed is None:
            continue
        _check_delegated_keys(entry, parsed, judged)
        checked: Checked = {}
        counts = [count(delegator.signed, entry, checked, judged.report) for _, delegator in delegators]
        right = tuple(dict.fromkeys(keyid for counted in counts if counted is not None for keyid in counted.keyids))
        met = {position: counted for position, counted in enumerate(counts) if counted is not None and counted.met}
        fitting = next((position for position in met if position >= reached), None)
        if fitting is not None:
            reached, accepted = fitting, True
        else:
            _not_signed(entry, met, delegators, judged, below=below)
        for odd in odd_signatures(entry, keys, right):
            judged.report(odd)
        under = (delegators[fitting][0], met[fitting].threshold) if fitting is not None else None
        judged.remember(parsed, role, right, under)
    if index.leads_to(role):
        _check_presence(archive, role, versions, judged)
        _check_today(archive, role, versions, delegators, judged)


def _not_signed(entry: Entry, met: Mapping[int, Count], delegators: Delegators, judged: Judged, *, below: bool) -> None:
    text = "is not signed by the threshold of keys that had a say then"
    if met:
        text += f": only {delegators[max(met)][0]} allowed them, and had been replaced"
    judged.report(lowered(finding(Rule.SIGNATURES, Severity.ERROR, entry, text), below and not met))


def _check_delegated_keys(entry: Entry, parsed: Parsed[Any], judged: Judged) -> None:
    delegations = parsed.signed.delegations if isinstance(parsed.signed, Targets) else None
    if delegations is not None:
        roles = {name: listed.keyids for name, listed in (delegations.roles or {}).items()}
        for odd in check_keys(entry, delegations.keys, roles):
            judged.report(odd)


def _check_presence(archive: Archive, role: str, versions: Mapping[int, Entry], judged: Judged) -> None:
    """Check that the version that clients are led to is there."""
    if role == Timestamp.type:
        return
    named, file = archive.named_version(role), f"{role}.json"
    if named is not None:
        file = f"{named}.{file}"
        if named not in versions and not archive.is_unread(file):
            judged.report(missing(file, role, named, "clients are led to it"))
    elif archive.current(Snapshot.type) is not None and not archive.is_workspace:
        judged.report(missing(file, role, None, "it is delegated to, and the snapshot does not list it"))


def _check_today(
    archive: Archive, role: str, versions: Mapping[int, Entry], delegators: Delegators, judged: Judged
) -> None:
    """Check that what clients get today is signed as the newest delegator asks."""
    current = versions.get(0) if role == Timestamp.type else archive.in_force(role)
    if current is None or not delegators:
        return
    name, parsed = delegators[-1]
    counted = count(parsed.signed, current, {}, judged.report)
    reported = any(found.file == current.file and found.rule is Rule.SIGNATURES for found in judged.findings)
    if counted is not None and not counted.met and not reported:
        text = f"is signed by {len(counted.keyids)} of the {counted.threshold} keys that {name} asks for"
        judged.report(finding(Rule.SIGNATURES, Severity.ERROR, current, text))


def _role_keys(delegator: Root | Targets, role: str) -> dict[str, Key]:
    try:
        listed = delegator.get_delegated_role(role)
        return {keyid: delegator.get_key(keyid) for keyid in listed.keyids}
    except ValueError:
        return {}
