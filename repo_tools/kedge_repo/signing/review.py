"""What a keyholder is about to sign, in words: computed from the payloads and the verified base, from nothing else.

Keys are shown by fingerprint; the name before it is what the maintainers call the key, and proves nothing. Of a key
document the difference is shown key by key. The request code stands at the end, to be compared with the other
keyholders'.

What the holders of keys can do once a request is signed: computed from the metadata alone.

One key's material counts once, under however many keyids it stands. A label is what the maintainers call a key, with
the beginning of its fingerprint, so that a wrong name cannot hide another key.

A review as the ``kedge.review/1`` object of ``--json``: every field is there, null where it does not apply.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tuf.api.metadata import Key, Role, Root, SuccinctRoles, TargetFile, Targets

from kedge.documents import format_time
from kedge.registries import RegistryKey
from kedge_repo.signing.key_diff import KeyDiff, Sample, SampleCount, compare, count
from kedge_repo.signing.keyholder import VerifiedRequest
from kedge_repo.signing.threshold import Group
from kedge_repo.workspace import Payload, algorithm, find_key_document, fingerprint, ssh_fingerprint_of

_POWERS = {
    "root": "can replace root, and with it every other key",
    "targets": "can change every target that no role before it holds, and whom paths are delegated to",
    "snapshot": "can decide which signed versions clients are shown, among those that are signed",
    "timestamp": "can decide for how long clients are shown the present state",
}


def consequences(
    root: Root | None, targets: Targets | None, label: Mapping[str, str], *, bins: Mapping[str, Targets] | None = None
) -> Iterator[str]:
    """Say what a new ``root`` and new delegations of ``targets`` (None: not changed) let whom do, a line each.

    ``bins`` are new versions of roles that delegate to hash bins.
    """
    if root is not None:
        for name, role in root.roles.items():
            keys = _distinct(role, root.keys)
            yield f"after this, {_who(keys, role.threshold, label)} {_POWERS[name]}"
            if name == Root.type:
                yield _loss(len(keys), role.threshold)
    roles = targets.delegations.roles if targets is not None and targets.delegations is not None else None
    for name, role in (roles or {}).items():
        keys = _distinct(role, targets.delegations.keys if targets is not None and targets.delegations else {})
        paths = ", ".join(role.paths or ["the paths with its hash prefixes"])
        yield f"after this, {_who(keys, role.threshold, label)} can change {paths} (as {name})"
    for name, delegating in (bins or {}).items():
        delegations = delegating.delegations
        if delegations is not None and delegations.succinct_roles is not None:
            keys = _distinct(delegations.succinct_roles, delegations.keys)
            who = _who(keys, delegations.succinct_roles.threshold, label)
            yield f"after this, {who} can change every target in the bins of {name}, online and without an event"


def _distinct(role: Role, keys: Mapping[str, Key]) -> list[str]:
    found: dict[str, str] = {}
    for keyid in role.keyids:
        if keyid in keys:
            found.setdefault(fingerprint(keys[keyid]), keyid)
    return list(found.values())


def _who(keyids: list[str], threshold: int, label: Mapping[str, str]) -> str:
    names = [label[keyid] for keyid in keyids]
    if len(names) < threshold:
        return f"nobody ({threshold} keys are asked for, and there are {len(names)})"
    if len(names) == threshold:
        return f"{' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))} alone"
    if threshold == 1:
        return f"any one of {', '.join(names)} alone"
    return f"any {threshold} of {', '.join(names)}"


def _loss(keys: int, threshold: int) -> str:
    spare = keys - threshold
    if spare <= 0:
        return "after this, if one of these keys is lost, root can never be changed again"
    return f"after this, root can still be changed when {spare} of its {keys} keys {'is' if spare == 1 else 'are'} lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyReview:
    """One key of the request: what it is called, what it is. OpenSSH does not know every kind."""

    name: str
    label: str
    algorithm: str
    fingerprint: str
    ssh_fingerprint: str | None
    keyid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetReview:
    """One target that changes; ``keys`` is the difference of a key document, ``sample`` what it does to releases."""

    path: str
    old: TargetFile | None
    new: TargetFile | None
    keys: KeyDiff | None
    sample: SampleCount | None

    def lines(self) -> Iterator[str]:
        """The change in words."""
        if self.new is None:
            yield f"removes target {self.path}"
        elif self.old is None:
            yield f"adds target {self.path}: {_describe(self.new)}"
        else:
            yield f"replaces target {self.path}: {_describe(self.new)} (was {_describe(self.old)})"
        if self.keys is not None:
            yield from (f"  {line}" for line in self.keys.lines())
        if self.sample is not None:
            yield f"  {self.sample.line()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleReview:
    """What one payload changes: in the role itself a line a fact, and the targets. ``signers`` must sign it."""

    role: str
    version: int
    before: int | None
    expires: str
    payload_sha256: str
    signers: tuple[Group, ...]
    facts: tuple[str, ...]
    targets: tuple[TargetReview, ...]

    def lines(self, label: Mapping[str, str]) -> Iterator[str]:
        """The role's part of the review; ``label`` are the keys' labels by keyid."""
        step = "the first" if self.before is None else f"after {self.before}"
        yield f"{self.role} version {self.version} ({step}), valid until {self.expires}"
        yield f"  payload sha256 {self.payload_sha256}"
        for group in self.signers:
            names = ", ".join(label[keyid] for keyid in group.keys)
            yield f"  signed by {group.threshold} of {names} ({group.delegator})"
        yield from (f"  {fact}" for fact in self.facts)
        yield from (f"  {line}" for target in self.targets for line in target.lines())
        if not self.facts and not self.targets:
            yield "  no change but the version and the expiry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A request in words. ``root_version`` and ``snapshot_version`` are those of its base; None where there is none."""

    repository: str
    event: str
    reason: str
    root_version: int | None
    root_sha256: str
    snapshot_version: int | None
    roles: tuple[RoleReview, ...]
    keys: tuple[KeyReview, ...]
    consequences: tuple[str, ...]
    code: str

    def lines(self) -> Iterator[str]:
        """The review as text; what cannot be printed is escaped, for a request may come from anybody."""
        return (_printable(line) for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"signing event {self.event} of {self.repository}"
        yield f"reason: {self.reason}"
        yield f"based on: {self._base()}"
        label = {key.keyid: key.label for key in self.keys}
        for role in self.roles:
            yield ""
            yield from role.lines(label)
        if self.consequences:
            yield ""
            yield from self.consequences
        yield ""
        yield "keys (names as the maintainers give them)"
        width = max((len(key.label) for key in self.keys), default=0)
        for key in self.keys:
            yield f"  {key.label:<{width}}  {key.algorithm}"
            yield f"    {key.fingerprint}"
            if key.ssh_fingerprint is not None:
                yield f"    {key.ssh_fingerprint}"
        yield ""
        yield f"request code: {self.code}"

    def _base(self) -> str:
        if self.root_version is None:
            return "nothing: a first ceremony"
        root = f"root version {self.root_version}, {self.root_sha256}"
        if self.snapshot_version is None:
            return f"{root}; no snapshot: nothing of this repository was ever published"
        return f"{root}; snapshot version {self.snapshot_version}"


def review_request(verified: VerifiedRequest, *, sample: Sample | None = None) -> Review:
    """Say in words what the request asks to sign; with ``sample``, what it does to the releases of a package."""
    request, signed = verified.request, verified.signed
    keys = _all_keys(verified)
    label = {keyid: _label(request.keyholders.get(keyid), key) for keyid, key in keys.items()}
    newest = {payload.role: payload.signed for payload in sorted(request.payloads, key=lambda item: item.version)}
    root, targets = newest.get(Root.type), newest.get(Targets.type)
    delegated = signed.targets.signed.delegations if signed.targets is not None else None
    return Review(
        repository=request.repository,
        event=request.event,
        reason=request.reason,
        root_version=signed.root.signed.version if signed.root else None,
        root_sha256=request.base_root_sha256,
        snapshot_version=signed.snapshot.signed.version if signed.snapshot else None,
        roles=tuple(_role(verified, payload, label, sample) for payload in request.payloads),
        keys=tuple(
            KeyReview(
                name=request.keyholders.get(keyid, "unnamed"),
                label=label[keyid],
                algorithm=algorithm(key),
                fingerprint=fingerprint(key),
                ssh_fingerprint=ssh_fingerprint_of(key),
                keyid=keyid,
            )
            for keyid, key in sorted(keys.items(), key=lambda item: label[item[0]])
        ),
        consequences=tuple(
            consequences(
                root if isinstance(root, Root) else None,
                targets if isinstance(targets, Targets) and targets.delegations != delegated else None,
                label,
                bins={name: role for name, role in newest.items() if isinstance(role, Targets) and _bins(role)},
            )
        ),
        code=verified.code,
    )


def _role(verified: VerifiedRequest, payload: Payload, label: Mapping[str, str], sample: Sample | None) -> RoleReview:
    before = _before(verified, payload)
    targets: tuple[TargetReview, ...] = ()
    if isinstance(payload.signed, Root):
        facts = _root_facts(before if isinstance(before, Root) else None, payload.signed, label)
    else:
        old = before if isinstance(before, Targets) else None
        facts = _delegation_facts(old, payload.signed, label)
        targets = tuple(_target_reviews(verified, old.targets if old else {}, payload.signed.targets, sample))
    return RoleReview(
        role=payload.role,
        version=payload.version,
        before=before.version if before else None,
        expires=format_time(payload.signed.expires),
        payload_sha256=payload.sha256,
        signers=verified.groups[payload.sha256],
        facts=tuple(facts),
        targets=targets,
    )


def _before(verified: VerifiedRequest, payload: Payload) -> Root | Targets | None:
    """What the payload follows: of several roots in one request, the one before it there."""
    for other in verified.request.payloads:
        if payload.role == Root.type == other.role and other.version == payload.version - 1:
            return other.signed
    parsed = verified.signed.role(payload.role)
    return parsed.signed if parsed else None


def _root_facts(old: Root | None, new: Root, label: Mapping[str, str]) -> Iterator[str]:
    for name, role in new.roles.items():
        before = old.roles.get(name) if old else None
        yield from _who_review(f"{name}", before, role, label)
    if old is not None and old.consistent_snapshot != new.consistent_snapshot:
        yield f"consistent_snapshot: {new.consistent_snapshot} (was {old.consistent_snapshot})"


def _delegation_facts(old: Targets | None, new: Targets, label: Mapping[str, str]) -> Iterator[str]:
    before: Mapping[str, Any] = (old.delegations.roles or {}) if old and old.delegations else {}
    after: Mapping[str, Any] = (new.delegations.roles or {}) if new.delegations else {}
    for name, role in after.items():
        paths = ", ".join(role.paths or ["paths by hash prefix"])
        was = before.get(name)
        if was is None or was.paths != role.paths or was.terminating != role.terminating:
            ends = "and asks no role after it" if role.terminating else "before the roles after it"
            yield f"delegates {paths} to {name}, {ends}"
        yield from _who_review(name, was, role, label)
    yield from (f"delegates no longer to {name}" for name in before if name not in after)
    yield from _bin_facts(_bins(old), _bins(new), label)


def _bin_facts(old: SuccinctRoles | None, new: SuccinctRoles | None, label: Mapping[str, str]) -> Iterator[str]:
    if new is None:
        if old is not None:
            yield f"delegates no longer to the bins {old.name_prefix}-…"
        return
    if old is None or (old.name_prefix, old.bit_length) != (new.name_prefix, new.bit_length):
        was = "" if old is None else f" (was {old.number_of_bins}, {old.name_prefix}-…)"
        yield f"delegates everything to {new.number_of_bins} hash bins, {new.name_prefix}-…{was}"
    yield from _who_review("each bin", old, new, label)


def _bins(role: Targets | None) -> SuccinctRoles | None:
    return role.delegations.succinct_roles if role is not None and role.delegations is not None else None


def _target_reviews(
    verified: VerifiedRequest, old: Mapping[str, TargetFile], new: Mapping[str, TargetFile], sample: Sample | None
) -> Iterator[TargetReview]:
    brought = {change.path: change for change in verified.request.targets}
    for path in sorted(old.keys() | new.keys()):
        was, now = old.get(path), new.get(path)
        if was == now:
            continue
        document, change = find_key_document(path), brought[path]
        diff = None
        if document is not None:
            diff = compare(
                document,
                (change.old, was.custom) if was is not None and change.old is not None else None,
                (change.new, now.custom) if now is not None and change.new is not None else None,
            )
        counted = count(sample, diff) if sample is not None and diff is not None else None
        yield TargetReview(path=path, old=was, new=now, keys=diff, sample=counted)


def _describe(target: TargetFile) -> str:
    custom = f", custom {target.custom}" if target.custom else ""
    return f"{target.length} bytes, sha256 {target.hashes.get('sha256', 'missing')}{custom}"


def _who_review(name: str, old: Role | None, new: Role, label: Mapping[str, str]) -> Iterator[str]:
    if old is not None and old.keyids == new.keyids and old.threshold == new.threshold:
        return
    text = f"{name} is signed by {new.threshold} of {', '.join(label[keyid] for keyid in new.keyids)}"
    if old is None:
        yield text
        return
    yield f"{text} (was {old.threshold} of {', '.join(label[keyid] for keyid in old.keyids)})"


def _all_keys(verified: VerifiedRequest) -> dict[str, Key]:
    found = verified.signed.keys()
    for payload in verified.request.payloads:
        if isinstance(payload.signed, Root):
            found |= payload.signed.keys
        elif payload.signed.delegations is not None:
            found |= payload.signed.delegations.keys
    return found


def _label(name: str | None, key: Key) -> str:
    return f"{name or 'unnamed'}:{fingerprint(key)[:8]}"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


REVIEW_FORMAT = "kedge.review/1"


def review_table(review: Review) -> dict[str, Any]:
    """The review as plain values."""
    return {
        "format": REVIEW_FORMAT,
        "repository": review.repository,
        "event": review.event,
        "reason": review.reason,
        "code": review.code,
        "base": {
            "root_version": review.root_version,
            "root_sha256": review.root_sha256 or None,
            "snapshot_version": review.snapshot_version,
        },
        "roles": [_role_reviewjson(role) for role in review.roles],
        "consequences": list(review.consequences),
        "keys": [
            {
                "keyid": key.keyid,
                "name": key.name,
                "label": key.label,
                "algorithm": key.algorithm,
                "fingerprint": key.fingerprint,
                "ssh_fingerprint": key.ssh_fingerprint,
            }
            for key in review.keys
        ],
    }


def _role_reviewjson(role: RoleReview) -> dict[str, Any]:
    return {
        "role": role.role,
        "version": role.version,
        "before": role.before,
        "expires": role.expires,
        "payload_sha256": role.payload_sha256,
        "signers": [
            {"asked_by": group.delegator, "threshold": group.threshold, "keyids": list(group.keys)}
            for group in role.signers
        ],
        "facts": list(role.facts),
        "targets": [_target(target) for target in role.targets],
    }


def _target(target: TargetReview) -> dict[str, Any]:
    return {
        "path": target.path,
        "old": _file(target.old),
        "new": _file(target.new),
        "keys": None if target.keys is None else _diff(target.keys),
        "sample": None if target.sample is None else _sample(target.sample),
    }


def _file(target: TargetFile | None) -> dict[str, Any] | None:
    if target is None:
        return None
    return {"length": target.length, "sha256": target.hashes.get("sha256"), "custom": target.custom}


def _diff(diff: KeyDiff) -> dict[str, Any]:
    return {
        "added": [_key(key) for key in diff.added],
        "removed": [_key(key) for key in diff.removed],
        "changed": [{"before": _key(before), "after": _key(after)} for before, after in diff.changed],
        "revoked": list(diff.revoked),
        "no_longer_revoked": list(diff.no_longer_revoked),
        "problem": diff.problem,
    }


def _key(key: RegistryKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "usages": list(key.usages),
        "algorithm": key.algorithm,
        "fingerprint": key.fingerprint,
        "valid_from": _time(key.valid_from),
        "valid_until": _time(key.valid_until),
    }


def _sample(sample: SampleCount) -> dict[str, Any]:
    return {
        "package": sample.package,
        "releases": sample.releases,
        "verify_before": sample.before,
        "verify_after": sample.after,
        "stop": sample.stop,
        "start": sample.start,
        "timed": sample.timed,
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)
