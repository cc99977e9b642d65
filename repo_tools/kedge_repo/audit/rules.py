"""Every other role: each version signed by the threshold of keys that had a say then.

When a version was signed stands nowhere, but roles and their delegators both move forwards only. So the versions of a
role are matched with those of its delegators in order: a version that only an earlier delegator would allow, after a
later one was reached, was signed by keys that had been replaced. What clients get today has to satisfy the newest.

Versions from before the first that any readable delegator allows lie below the bootstrap floor, where there is one:
the roots that allowed them can no longer be read.

What the rules of an audit write into, and how one finding is put.

The signatures of one file: whose they are, which are right, and which ought not to stand there.

A client counts the right signatures of keys that have a say and passes over all others. Over the others an audit does
not pass: an empty one halts stricter clients (Sigstore's roots 12 to 14 carried such), a stray one says that somebody
signed who has no say, a wrong one that something was changed after signing.

The chain of roots: each signed by itself and by the one before it, none left out (TUF 1.0.34 §5.3).

What lies below the bootstrap floor stops no client of today: a root that none can start from, and the step from it.

The rules of an audit: pure, from what was read to what is wrong with it. Never a stop at the first.

- Each root is signed by itself and by the one before it, and no version is left out.
- Each version of each other role was signed by the threshold that its delegator named then.
- What timestamp and snapshot name is there, with the digests, lengths and versions that they name; no snapshot names
  an older version than the one before it.
- Nothing that clients will never ask for lies about, no signature is empty or stray, no keyid does not fit.

A break that lies wholly below the bootstrap floor can meet no client of today, and is a finding instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from tuf.api.metadata import Key, MetaFile, Root, Snapshot, Targets, Timestamp

from kedge.documents import format_time
from kedge.errors import StoreError, VerificationError
from kedge.registries import Severity
from kedge.tuf import Checked, Count, Parsed, content_matches, count_signatures
from kedge_repo.audit.findings import AuditFinding, Rule, VersionFact
from kedge_repo.audit.source import Archive, Entry, TargetFact, listed_roles
from kedge_repo.signing import KeyRule, judge_keys
from kedge_repo.workspace import fingerprint


@dataclass(slots=True)
class Judged:
    """The findings and the history, in the order in which they were come upon."""

    findings: list[AuditFinding] = field(default_factory=list)
    history: list[VersionFact] = field(default_factory=list)

    def report(self, found: AuditFinding) -> None:
        """Keep one finding."""
        self.findings.append(found)

    def read(self, entry: Entry, *, below: bool) -> Parsed[Any] | None:
        """What ``entry`` says, or None after a finding that says why it cannot be read."""
        if entry.fault is not None:
            self.report(lowered(finding(Rule.UNREADABLE, Severity.ERROR, entry, entry.fault), below))
        elif entry.parsed is not None and entry.version and entry.parsed.signed.version != entry.version:
            text = f"is version {entry.parsed.signed.version}, and its name says {entry.version}"
            self.report(lowered(finding(Rule.WRONG_VERSION, Severity.ERROR, entry, text), below))
        return entry.parsed

    def remember(
        self, parsed: Parsed[Any], role: str, signed_by: tuple[str, ...], under: tuple[str, int] | None
    ) -> None:
        """Keep one version for the history; ``under`` is the delegator's version and its threshold."""
        self.history.append(
            VersionFact(
                role=role,
                version=parsed.signed.version,
                file=parsed.file,
                expires=parsed.signed.expires,
                signed_by=signed_by,
                threshold=under[1] if under is not None else None,
                under=under[0] if under is not None else None,
            )
        )


def finding(rule: Rule, severity: Severity, entry: Entry, message: str) -> AuditFinding:
    """A finding about ``entry``."""
    version = entry.version or (entry.parsed.signed.version if entry.parsed is not None else None)
    return AuditFinding(
        rule=rule, severity=severity, file=entry.file, role=entry.role, version=version, message=message
    )


def missing(file: str, role: str, version: int | None, why: str) -> AuditFinding:
    """The finding that a file is not there."""
    return AuditFinding(
        rule=Rule.MISSING,
        severity=Severity.ERROR,
        file=file,
        role=role,
        version=version,
        message=f"is missing: {why}",
    )


def lowered(found: AuditFinding, below: bool) -> AuditFinding:
    """The finding, or what it comes to ``below`` the bootstrap floor."""
    return replace(found, severity=Severity.WARNING, below_floor=True) if below else found


Report = Callable[[AuditFinding], None]


def count(delegator: Root | Targets, entry: Entry, checked: Checked, report: Report) -> Count | None:
    """Count every right signature of ``entry`` by the keys that ``delegator`` names; None where it names none."""
    if entry.parsed is None:
        return None
    try:
        return count_signatures(delegator, entry.role, entry.parsed, every=True, checked=checked)
    except VerificationError:
        return None
    except StoreError as error:
        text = error.message.removeprefix(f"{entry.file}: ")
        report(finding(Rule.UNCHECKED_SIGNATURE, Severity.WARNING, entry, text))
        return None


def odd_signatures(entry: Entry, keys: Mapping[str, Key], right: Iterable[str]) -> Iterator[AuditFinding]:
    """Signatures that count for nobody. ``keys`` are all that ever had a say, ``right`` those that signed this rightly.

    Nothing is said of a signature by a key that today's libraries cannot read at all.
    """
    if entry.parsed is None:
        return
    marks = {fingerprint(keys[keyid]) for keyid in right if keyid in keys}
    for keyid, signature in entry.parsed.signatures.items():
        if not signature.signature:
            text = f"the signature by {keyid[:16]} is empty: stricter clients refuse the file"
            yield finding(Rule.EMPTY_SIGNATURE, Severity.WARNING, entry, text)
        elif keyid not in keys:
            text = f"is signed by {keyid[:16]}, a key that never had a say in {entry.role}"
            yield finding(Rule.STRAY_SIGNATURE, Severity.WARNING, entry, text)
        elif (mark := fingerprint(keys[keyid])) not in marks and not mark.startswith("keyid:"):
            text = f"the signature by {keyid[:16]} is not one of this key over this content"
            yield finding(Rule.WRONG_SIGNATURE, Severity.WARNING, entry, text)


def check_keys(entry: Entry, signed: Root | Targets, before: dict[str, dict[str, str]]) -> Iterator[AuditFinding]:
    """What is wrong with the keys that a file lists, by the rules of signing; ``before`` is what keyids were before."""
    for fault in judge_keys(signed, before, entry.file):
        severity = Severity.ERROR if fault.rule is KeyRule.MATERIAL else Severity.WARNING
        yield finding(Rule(fault.rule.value), severity, entry, fault.message)


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
    materials: dict[str, dict[str, str]] = {}
    for entry in versions.values():
        below = floor > 1 and not accepted
        parsed = judged.read(entry, below=below)
        if parsed is None:
            continue
        _check_delegated_keys(entry, parsed, materials, judged)
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


def _check_delegated_keys(entry: Entry, parsed: Parsed[Any], before: dict[str, dict[str, str]], judged: Judged) -> None:
    if isinstance(parsed.signed, Targets):
        for odd in check_keys(entry, parsed.signed, before):
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


def judge_roots(archive: Archive, floor: int, judged: Judged) -> None:
    """Hold every root to the rules; ``floor`` is the oldest from which clients get through."""
    unread = {file for file, _ in archive.unread}
    keys: dict[str, Key] = {}
    materials: dict[str, dict[str, str]] = {}
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
        for odd in check_keys(entry, root, materials):
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


def judge(archive: Archive, *, floor: int | None, now: datetime) -> Judged:
    """Hold the archive to the rules; ``floor`` is the oldest root from which clients get through, None for nowhere."""
    judged, index = Judged(), DelegationIndex(archive)
    judge_roots(archive, floor or 1, judged)
    for role, versions in archive.roles.items():
        judge_role(archive, index, role, versions, floor or 1, judged)
    if archive.timestamp is not None:
        judge_role(archive, index, Timestamp.type, {0: archive.timestamp}, 1, judged)
        _check_named(archive, judged)
    elif not archive.is_unread("timestamp.json"):
        judged.report(missing("timestamp.json", Timestamp.type, None, "every client asks for it"))
    _check_snapshots(archive, judged)
    for fact in archive.targets:
        if fact.problem is not None:
            judged.report(_target(fact))
    for bins in archive.bins:
        judged.findings += bins.findings
    _check_leftovers(archive, judged)
    _check_expiry(archive, index, now, judged)
    return judged


def _check_named(archive: Archive, judged: Judged) -> None:
    entry = archive.timestamp
    if entry is not None and entry.parsed is not None:
        _check_content(archive, Snapshot.type, entry.parsed.signed.snapshot_meta, entry, judged)


def _check_snapshots(archive: Archive, judged: Judged) -> None:
    before: Snapshot | None = None
    for entry in archive.roles.get(Snapshot.type, {}).values():
        if entry.parsed is None:
            continue
        snapshot: Snapshot = entry.parsed.signed
        for file, meta in snapshot.meta.items():
            _check_content(archive, file.removesuffix(".json"), meta, entry, judged)
            earlier = before.meta.get(file) if before is not None else None
            if earlier is not None and earlier.version > meta.version:
                text = f"names {file} version {meta.version}, and the snapshot before it version {earlier.version}"
                judged.report(finding(Rule.ROLLBACK, Severity.ERROR, entry, text))
        for file in sorted(before.meta.keys() - snapshot.meta.keys()) if before is not None else ():
            text = f"no longer names {file}, which the snapshot before it did: clients refuse that"
            judged.report(finding(Rule.ROLLBACK, Severity.ERROR, entry, text))
        before = snapshot


def _check_content(archive: Archive, role: str, meta: MetaFile, by: Entry, judged: Judged) -> None:
    entry = archive.roles.get(role, {}).get(meta.version)
    if entry is not None and entry.parsed is not None and not content_matches(meta, entry.parsed.data):
        text = f"is not the file that {by.file} names: its length or digest is another one"
        judged.report(finding(Rule.CONTENT, Severity.ERROR, entry, text))


def _target(fact: TargetFact) -> AuditFinding:
    return AuditFinding(
        rule=Rule.MISSING if fact.problem == "is missing" else Rule.CONTENT,
        severity=Severity.ERROR if fact.newest else Severity.WARNING,
        file=f"targets/{fact.file}",
        role=fact.role,
        version=fact.version,
        message=f"{fact.problem}; {fact.role} version {fact.version} names it as {fact.path}",
    )


def _check_leftovers(archive: Archive, judged: Judged) -> None:
    """Files that nobody asks for, and what could not be read."""
    for role, versions in archive.roles.items():
        named = archive.named_version(role)
        for version, entry in versions.items():
            if named is not None and version > named and not archive.is_workspace:
                text = f"is newer than version {named}, to which clients are led: nobody asks for it"
                judged.report(finding(Rule.UNREACHABLE, Severity.WARNING, entry, text))
    for file in archive.others:
        text = "is named by no metadata: nobody asks for it"
        judged.report(AuditFinding(rule=Rule.UNREACHABLE, severity=Severity.WARNING, file=file, message=text))
    for file, reason in archive.unread:
        judged.report(AuditFinding(rule=Rule.UNREAD, severity=Severity.WARNING, file=file, message=reason))
    for reason in archive.limits:
        judged.report(AuditFinding(rule=Rule.LIMIT, severity=Severity.WARNING, file=archive.source, message=reason))


def _check_expiry(archive: Archive, index: DelegationIndex, now: datetime, judged: Judged) -> None:
    root = archive.newest_root
    current = [archive.roots.get(root.signed.version) if root is not None else None, archive.timestamp]
    current += [archive.in_force(role) for role in archive.roles if index.leads_to(role)]
    for entry in current:
        if entry is not None and entry.parsed is not None and entry.parsed.signed.is_expired(now):
            text = f"expired on {format_time(entry.parsed.signed.expires)}, and it is judged by {format_time(now)}"
            judged.report(finding(Rule.EXPIRED, Severity.ERROR, entry, text))
    for bins in archive.bins:
        if bins.first_expiry is not None and bins.first_expiry <= now:
            text = f"expired on {format_time(bins.first_expiry)}, the first of the {bins.count} bins of {bins.role}"
            judged.report(
                AuditFinding(
                    rule=Rule.EXPIRED, severity=Severity.ERROR, file=bins.first_file, role=bins.role, message=text
                )
            )
