"""What a keyholder is about to sign, in words: computed from the payloads and the verified base, from nothing else.

Keys are shown by fingerprint; the name before it is what the maintainers call the key, and proves nothing. The request
code (:mod:`kedge_repo.requestcode`) stands at the end, to be compared with the other keyholders'.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tuf.api.metadata import Key, Role, Root, TargetFile, Targets

from kedge.document import format_time
from kedge_repo.keyholder import VerifiedRequest
from kedge_repo.payload import Payload
from kedge_repo.publickey import algorithm, fingerprint

__all__ = ["KeyReview", "Review", "RoleReview", "review"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyReview:
    """One key of the request: what it is called, what it is."""

    name: str
    label: str
    algorithm: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleReview:
    """What one payload changes, a line a fact. ``signers`` says who must sign it."""

    role: str
    version: int
    before: int | None
    expires: str
    payload_sha256: str
    signers: tuple[str, ...]
    facts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A request in words."""

    repository: str
    event: str
    reason: str
    base: str
    roles: tuple[RoleReview, ...]
    keys: tuple[KeyReview, ...]
    code: str

    def lines(self) -> Iterator[str]:
        """The review as text; what cannot be printed is escaped, for a request may come from anybody."""
        return (_printable(line) for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"signing event {self.event} of {self.repository}"
        yield f"reason: {self.reason}"
        yield f"based on: {self.base}"
        for role in self.roles:
            step = "the first" if role.before is None else f"after {role.before}"
            yield ""
            yield f"{role.role} version {role.version} ({step}), valid until {role.expires}"
            yield f"  payload sha256 {role.payload_sha256}"
            yield from (f"  signed by {line}" for line in role.signers)
            yield from (f"  {fact}" for fact in role.facts)
        yield ""
        yield "keys (names as the maintainers give them)"
        width = max((len(key.label) for key in self.keys), default=0)
        for key in self.keys:
            yield f"  {key.label:<{width}}  {key.algorithm}"
            yield f"    {key.fingerprint}"
        yield ""
        yield f"request code: {self.code}"


def review(verified: VerifiedRequest) -> Review:
    """Say in words what the request asks to sign."""
    request = verified.request
    keys = _all_keys(verified)
    label = {keyid: _label(request.keyholders.get(keyid), key) for keyid, key in keys.items()}
    root = verified.signed.root
    return Review(
        repository=request.repository,
        event=request.event,
        reason=request.reason,
        base=f"root version {root.signed.version}, {request.base_root_sha256}" if root else "nothing: a first ceremony",
        roles=tuple(_role(verified, payload, label) for payload in request.payloads),
        keys=tuple(
            KeyReview(
                name=request.keyholders.get(keyid, "unnamed"),
                label=label[keyid],
                algorithm=algorithm(key),
                fingerprint=fingerprint(key),
            )
            for keyid, key in sorted(keys.items(), key=lambda item: label[item[0]])
        ),
        code=verified.code,
    )


def _role(verified: VerifiedRequest, payload: Payload, label: Mapping[str, str]) -> RoleReview:
    parsed = verified.signed.role(payload.role)
    before = parsed.signed if parsed else None
    if isinstance(payload.signed, Root):
        facts = _root_facts(before if isinstance(before, Root) else None, payload.signed, label)
    else:
        facts = _targets_facts(before if isinstance(before, Targets) else None, payload.signed, label)
    return RoleReview(
        role=payload.role,
        version=payload.version,
        before=before.version if before else None,
        expires=format_time(payload.signed.expires),
        payload_sha256=payload.sha256,
        signers=tuple(
            f"{group.threshold} of {', '.join(label[keyid] for keyid in group.keys)} ({group.delegator})"
            for group in verified.groups[payload.role]
        ),
        facts=tuple(facts) or ("no change but the version and the expiry",),
    )


def _root_facts(old: Root | None, new: Root, label: Mapping[str, str]) -> Iterator[str]:
    for name, role in new.roles.items():
        before = old.roles.get(name) if old else None
        yield from _who(f"{name}", before, role, label)
    if old is not None and old.consistent_snapshot != new.consistent_snapshot:
        yield f"consistent_snapshot: {new.consistent_snapshot} (was {old.consistent_snapshot})"


def _targets_facts(old: Targets | None, new: Targets, label: Mapping[str, str]) -> Iterator[str]:
    before: Mapping[str, Any] = (old.delegations.roles or {}) if old and old.delegations else {}
    after: Mapping[str, Any] = (new.delegations.roles or {}) if new.delegations else {}
    for name, role in after.items():
        paths = ", ".join(role.paths or ["paths by hash prefix"])
        was = before.get(name)
        if was is None or was.paths != role.paths or was.terminating != role.terminating:
            ends = "and asks no role after it" if role.terminating else "before the roles after it"
            yield f"delegates {paths} to {name}, {ends}"
        yield from _who(name, was, role, label)
    yield from (f"delegates no longer to {name}" for name in before if name not in after)
    yield from _target_facts(old.targets if old else {}, new.targets)


def _target_facts(old: Mapping[str, TargetFile], new: Mapping[str, TargetFile]) -> Iterator[str]:
    for path in sorted(old.keys() | new.keys()):
        was, now = old.get(path), new.get(path)
        if was == now:
            continue
        if now is None:
            yield f"removes target {path}"
        elif was is None:
            yield f"adds target {path}: {_describe(now)}"
        else:
            yield f"replaces target {path}: {_describe(now)} (was {_describe(was)})"


def _describe(target: TargetFile) -> str:
    custom = f", custom {target.custom}" if target.custom else ""
    return f"{target.length} bytes, sha256 {target.hashes.get('sha256', 'missing')}{custom}"


def _who(name: str, old: Role | None, new: Role, label: Mapping[str, str]) -> Iterator[str]:
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
