"""The chain of roots: each signed by itself and by the one before it, none left out (TUF 1.0.34 §5.3).

What lies below the bootstrap floor stops no client of today: a root that none can start from, and the step from it.
"""

from __future__ import annotations

from tuf.api.metadata import Key, Root

from kedge.findings import Severity
from kedge.metadata import Checked, Parsed
from kedge_repo.audit.archive import Archive, Entry
from kedge_repo.audit.judged import Judged, finding, lowered, missing
from kedge_repo.audit.signatures import check_keys, count, odd_signatures
from kedge_repo.audit.verdict import Rule

__all__ = ["judge_roots"]


def judge_roots(archive: Archive, floor: int, judged: Judged) -> None:
    """Hold every root to the rules; ``floor`` is the oldest from which clients get through."""
    unread = {file for file, _ in archive.unread}
    keys: dict[str, Key] = {}
    for version in range(1, max(archive.roots, default=1) + 1):
        entry, file = archive.roots.get(version), f"{version}.root.json"
        if entry is None:
            if file not in unread:
                why = (
                    "no client passes from the root before it to the one after it" if version > 1 else "it is the first"
                )
                judged.report(lowered(missing(file, Root.type, version, why), version < floor))
            continue
        parsed = judged.read(entry, below=version < floor)
        if parsed is None:
            continue
        root: Root = parsed.signed
        keys |= {keyid: root.keys[keyid] for keyid in root.roles[Root.type].keyids if keyid in root.keys}
        roles = {name: role.keyids for name, role in root.roles.items()}
        for odd in check_keys(entry, root.keys, roles):
            judged.report(odd)
        _signatures(archive, entry, parsed, floor, judged, keys)


def _signatures(
    archive: Archive, entry: Entry, parsed: Parsed[Root], floor: int, judged: Judged, keys: dict[str, Key]
) -> None:
    checked: Checked = {}
    right: dict[str, None] = {}
    before = archive.roots.get(entry.version - 1)
    for delegator in (before, entry):
        if delegator is None or delegator.parsed is None:
            continue
        counted = count(delegator.parsed.signed, entry, checked, judged.report)
        if counted is None:
            continue
        right |= dict.fromkeys(counted.keyids)
        if not counted.met:
            text = (
                f"is signed by {len(counted.keyids)} of the {counted.threshold} keys "
                f"that root version {delegator.version} asks for"
            )
            # The step from a root to the next lies where that root lies.
            broken = finding(Rule.SIGNATURES, Severity.ERROR, entry, text)
            judged.report(lowered(broken, delegator.version < floor))
    for odd in odd_signatures(entry, keys, right):
        judged.report(odd)
    judged.remember(
        parsed, Root.type, tuple(right), (f"root version {entry.version}", parsed.signed.roles[Root.type].threshold)
    )
