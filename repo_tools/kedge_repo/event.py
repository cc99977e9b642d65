"""A signing event: a named change with a reason, its payloads, and the signatures collected so far. A pure value.

On disk (written and read by :mod:`kedge_repo.eventfiles`)::

    events/<name>/event.json                              this value, without the bytes
    events/<name>/files/<sha256>                          payloads, target bytes, public keys: by their digest
    events/<name>/signatures/<payload sha256>/<keyid>     one signature, hexadecimal

One file a signature, so that two maintainers who each add one never conflict in git; signatures stand under the digest
of what they sign, so that a changed payload can never keep an old one.

Invariants:

- An event holds verified signatures only: whoever adds one has checked it.
- A payload's signatures are dropped when the payload changes, or the keys that may sign it; nothing else drops them.
- Root may move by several versions in one event; each is a payload of its own. Every other role has one at most.
- ``base`` says what the event was planned on. Where that has moved, the event can no longer be merged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from tuf.api.metadata import Root

from kedge.document import DocumentError, Fields, format_time, load_json
from kedge_repo.payload import Payload, digest
from kedge_repo.plan import Plan
from kedge_repo.policy import check_name, read_name
from kedge_repo.signed import SignedMetadata
from kedge_repo.targetpath import check_target_path
from kedge_repo.threshold import Group, Progress, groups_for, progress

__all__ = ["EVENT_FORMAT", "Base", "Event", "EventIndex"]

EVENT_FORMAT = "kedge.event/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What an event was planned on: the newest root's payload digest (empty: none yet) and every role's version."""

    root_sha256: str
    versions: Mapping[str, int]

    @classmethod
    def of(cls, signed: SignedMetadata) -> Base:
        """The base that ``signed`` is."""
        versions = {name: parsed.signed.version for name, parsed in signed.everything().items()}
        return cls(
            root_sha256=signed.root_sha256,
            versions={name: n for name, n in versions.items() if name not in {"snapshot", "timestamp"}},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A signing event.

    ``targets`` maps paths to staged bytes (None: removed), ``keys`` keyholders to new PEM keys, ``signatures`` a
    payload's SHA-256 to verified hexadecimal signatures by keyid.
    """

    name: str
    reason: str
    opened: datetime
    base: Base
    changes: tuple[str, ...] = ()
    payloads: tuple[Payload, ...] = ()
    targets: Mapping[str, bytes | None] = field(default_factory=dict)
    keys: Mapping[str, bytes] = field(default_factory=dict)
    policy_text: str | None = None
    signatures: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been changed in it yet."""
        return not self.payloads and self.policy_text is None

    def newest(self) -> dict[str, Payload]:
        """The newest payload of each role."""
        return {payload.role: payload for payload in sorted(self.payloads, key=lambda payload: payload.version)}

    def apply(self, plan: Plan, signed: SignedMetadata) -> Event:
        """The event with ``plan`` added; signatures that no longer count are gone (see :meth:`lost_against`).

        Raises:
            DocumentError: nobody delegates to one of the roles.
        """
        fresh = {(payload.role, payload.version): payload for payload in plan.payloads}
        payloads = {(payload.role, payload.version): payload for payload in self.payloads} | fresh
        changed = replace(
            self,
            changes=(*self.changes, *plan.changes),
            payloads=tuple(payloads.values()),
            targets={**self.targets, **plan.targets},
            keys={**self.keys, **plan.keys},
            policy_text=plan.policy_text or self.policy_text,
        )
        kept: dict[str, Mapping[str, str]] = {}
        for payload in changed.payloads:
            entitled = {keyid for group in changed.groups(payload, signed) for keyid in group.keys}
            found = self.signatures.get(payload.sha256, {})
            kept[payload.sha256] = {keyid: value for keyid, value in found.items() if keyid in entitled}
        return replace(changed, signatures={sha256: found for sha256, found in kept.items() if found})

    def lost_against(self, later: Event) -> tuple[tuple[str, str], ...]:
        """The signatures of this event that ``later`` no longer has: pairs of role and keyid."""
        return tuple(
            (payload.role, keyid)
            for payload in self.payloads
            for keyid in self.signatures.get(payload.sha256, ())
            if keyid not in later.signatures.get(payload.sha256, ())
        )

    def with_signature(self, payload: Payload, keyid: str, signature: str) -> Event:
        """The event with one more signature, which the caller has verified."""
        found = {**self.signatures.get(payload.sha256, {}), keyid: signature}
        return replace(self, signatures={**self.signatures, payload.sha256: found})

    def groups(self, payload: Payload, signed: SignedMetadata) -> tuple[Group, ...]:
        """The groups of keys that must sign ``payload``.

        Raises:
            DocumentError: nobody delegates to the role.
        """
        return groups_for(payload, signed, self.payloads)

    def progress(self, signed: SignedMetadata) -> tuple[tuple[Payload, tuple[Progress, ...]], ...]:
        """How far each payload has come.

        Raises:
            DocumentError: nobody delegates to one of the roles.
        """
        return tuple(
            (
                payload,
                tuple(
                    progress(group, self.signatures.get(payload.sha256, {})) for group in self.groups(payload, signed)
                ),
            )
            for payload in self.payloads
        )

    def moved(self, signed: SignedMetadata) -> str | None:
        """Why the event no longer fits ``signed``, or None. Parts of it that were merged already fit."""
        if self.is_empty:
            return None
        merged = {digest(root.payload) for root in signed.roots} & {payload.sha256 for payload in self.payloads}
        if signed.root_sha256 != self.base.root_sha256 and signed.root_sha256 not in merged:
            return "root has changed since it was opened"
        for payload in self.payloads:
            now = signed.role(payload.role)
            version, before = (now.signed.version if now else 0), self.base.versions.get(payload.role, 0)
            if payload.role == Root.type or version == before or (now is not None and now.payload == payload.data):
                continue
            return f"{payload.role} is version {version} now, and was {before} when it was opened"
        return None

    def files(self) -> dict[str, bytes]:
        """Every byte string of the event, by its SHA-256."""
        blobs = [payload.data for payload in self.payloads]
        blobs += [data for data in self.targets.values() if data is not None]
        blobs += self.keys.values()
        if self.policy_text is not None:
            blobs.append(self.policy_text.encode("utf-8"))
        return {digest(blob): blob for blob in blobs}

    def to_bytes(self) -> bytes:
        """The text of ``event.json``."""
        value: dict[str, Any] = {
            "format": EVENT_FORMAT,
            "name": self.name,
            "reason": self.reason,
            "opened": format_time(self.opened),
            "base": {"root_sha256": self.base.root_sha256, "versions": dict(self.base.versions)},
            "changes": list(self.changes),
            "payloads": [
                {"role": payload.role, "version": payload.version, "sha256": payload.sha256}
                for payload in self.payloads
            ],
            "targets": [
                {"path": path, "removed": True} if data is None else {"path": path, "sha256": digest(data)}
                for path, data in self.targets.items()
            ],
            "keys": [{"keyholder": name, "sha256": digest(pem)} for name, pem in self.keys.items()],
        }
        if self.policy_text is not None:
            value["policy_sha256"] = digest(self.policy_text.encode("utf-8"))
        if not self.base.root_sha256:
            del value["base"]["root_sha256"]
        return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventIndex:
    """``event.json`` as read: an event that still names its bytes by digest."""

    name: str
    reason: str
    opened: datetime
    base: Base
    changes: tuple[str, ...]
    payloads: tuple[tuple[str, int, str], ...]
    targets: Mapping[str, str | None]
    keys: Mapping[str, str]
    policy_sha256: str | None

    @classmethod
    def from_bytes(cls, data: bytes) -> EventIndex:
        """Read ``event.json``.

        Raises:
            DocumentError: it is not one; the path leads to the fault.
        """
        fields = Fields(load_json(data))
        fields.format(EVENT_FORMAT)
        index = cls(
            name=read_name(fields, "name"),
            reason=fields.text("reason"),
            opened=fields.time("opened"),
            base=_base(fields.table("base")),
            changes=fields.texts("changes"),
            payloads=_payloads(fields.tables("payloads")),
            targets=_once([(item, "path", *_target(item)) for item in fields.tables("targets")]),
            keys=_once([(item, "keyholder", *_key(item)) for item in fields.tables("keys")]),
            policy_sha256=fields.optional("policy_sha256", fields.sha256),
        )
        fields.end()
        return index


def _base(fields: Fields) -> Base:
    versions = fields.table("versions")
    base = Base(
        root_sha256=fields.optional("root_sha256", fields.sha256) or "",
        versions={_name_at(versions, name): versions.integer(name, minimum=1) for name in versions.names()},
    )
    fields.end()
    return base


def _payloads(entries: list[Fields]) -> tuple[tuple[str, int, str], ...]:
    payloads = tuple(_payload(item) for item in entries)
    for (role, version, _), fields, position in zip(payloads, entries, range(len(entries)), strict=True):
        before = [item for item in payloads[:position] if item[0] == role]
        if before and (role != Root.type or version != before[-1][1] + 1):
            fields.fail("role", f"{role} stands there already: only root moves by several versions, one after another")
    return payloads


def _once(entries: list[tuple[Fields, str, str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for fields, field_name, name, value in entries:
        if name in found:
            fields.fail(field_name, f"{name} stands there twice")
        found[name] = value
    return found


def _payload(fields: Fields) -> tuple[str, int, str]:
    payload = (read_name(fields, "role"), fields.integer("version", minimum=1), fields.sha256("sha256"))
    fields.end()
    return payload


def _target(fields: Fields) -> tuple[str, str | None]:
    path = fields.text("path")
    try:
        check_target_path(path)
    except DocumentError as error:
        fields.fail("path", error.problem)
    if "removed" in fields:
        if not fields.boolean("removed"):
            fields.fail("removed", "must be true, or left out")
        sha256 = None
    else:
        sha256 = fields.sha256("sha256")
    fields.end()
    return path, sha256


def _key(fields: Fields) -> tuple[str, str]:
    key = (read_name(fields, "keyholder"), fields.sha256("sha256"))
    fields.end()
    return key


def _name_at(fields: Fields, name: str) -> str:
    try:
        return check_name(name)
    except DocumentError as error:
        fields.fail(name, error.problem)
