"""A signing event: a named change with a reason, its payloads, and the signatures collected so far. A pure value.

On disk (written and read by :mod:`kedge_repo.events.event`)::

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

Signing events on disk: ``events/<name>/`` in the workspace (the layout stands in :mod:`kedge_repo.events.event`).

``event.json`` is written last and names everything else by digest: it is the commit point. A crash before it leaves
files that nobody names, which the next write removes. What is read back is checked: each file against its digest, each
payload against its role and version, each signature against the keys that may sign.

Readers take no lock. One beside a writer sees from ``event.json``, which each write renews, that it has read across a
write, and reads again.

What signing took: a record of each event that was merged, ``signings/<opened>-<event>.json`` in the workspace.

::

    {"format": "kedge.signing/1", "event": "npm-keys", "reason": "…", "opened": "2026-11-01T09:00:00Z",
     "merged": "2026-11-12T15:30:00Z", "roles": ["registry.npmjs.org"], "keyholders": ["npm-ana", "npm-ben"]}

An event vanishes when it is merged; how long its signatures took is what a forecast needs. Nothing here is signed, and
nothing rests on it but a forecast.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote

from tuf.api.metadata import Root

from kedge.documents import DocumentError, Fields, blame_user, format_time, load_json
from kedge.errors import InputError, KedgeError, StoreError
from kedge_repo.events.plan import Plan
from kedge_repo.signing import Group, Progress, check_signature, groups_for, progress
from kedge_repo.workspace import (
    Payload,
    SignedMetadata,
    Workspace,
    check_name,
    check_target_path,
    digest,
    read_file,
    read_name,
    remove_file,
    remove_folder,
    replace_file,
)

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


_READS = 100
_SAME_FAILURE = 3
_PAUSE_S = 0.005
_HEX = re.compile(r"(?:[0-9a-f]{2})+", re.ASCII)


def load_event(workspace: Workspace, name: str, signed: SignedMetadata) -> Event:
    """Read the open event ``name`` whole, with its signatures verified against ``signed``.

    Beside a writer it is the event before a write or after it, never parts of both; signatures, each a file and
    verified by itself, come and go one by one.

    Raises:
        InputError: there is no such event, or one of its files is missing, malformed or not what its digest says.
        VerificationError: a signature file holds no valid signature.
        StoreError: it was written each time that it was read.
    """
    failures = 0
    for _ in range(_READS):
        before = _last_write(workspace, name)
        try:
            event = _load(workspace, name, signed)
        except KedgeError:
            # A writer may have come and gone within the clock's step, with the same text and inode as before.
            failures = failures + 1 if _last_write(workspace, name) == before else 0
            if failures == _SAME_FAILURE:
                raise
            time.sleep(_PAUSE_S)
            continue
        if _last_write(workspace, name) == before:
            return event
    raise StoreError(
        f"events/{name}: was written each of the {_READS} times that it was read", hint="run the command again"
    )


def _last_write(workspace: Workspace, name: str) -> tuple[int, int, bytes] | None:
    """What differs after each write of the event: its ``event.json`` is a new file then. None: there is no event."""
    if name not in workspace.events():
        return None
    path = workspace.event_folder(name) / "event.json"
    try:
        status = path.stat()
        return status.st_ino, status.st_mtime_ns, read_file(path, what="event")
    except (OSError, InputError):
        return None


def _load(workspace: Workspace, name: str, signed: SignedMetadata) -> Event:
    if name not in workspace.events():
        opened = ", ".join(workspace.events()) or "none"
        raise InputError(f'there is no open event "{name}"; open are: {opened}')
    file = f"events/{name}/event.json"
    data = read_file(workspace.event_folder(name) / "event.json", what="event")
    with blame_user(file):
        index = EventIndex.from_bytes(data)
    if index.name != name:
        raise InputError(f'{file}: name: must be "{name}", as its folder is called, not "{index.name}"')
    event = Event(
        name=index.name,
        reason=index.reason,
        opened=index.opened,
        base=index.base,
        changes=index.changes,
        payloads=tuple(
            _payload_eventfiles(workspace, name, entry, position) for position, entry in enumerate(index.payloads)
        ),
        targets={
            path: None if sha256 is None else _blob(workspace, name, sha256) for path, sha256 in index.targets.items()
        },
        keys={keyholder: _blob(workspace, name, sha256) for keyholder, sha256 in index.keys.items()},
        policy_text=_text(workspace, name, index.policy_sha256),
    )
    return _with_signatures(workspace, event, signed)


def save_event(workspace: Workspace, event: Event) -> None:
    """Write the event; the workspace's lock must be held.

    Raises:
        StoreError: the disk refused; the event on disk is the former one, whole.
    """
    folder = workspace.event_folder(event.name)
    wanted = {folder / "files" / sha256: data for sha256, data in event.files().items()}
    for sha256, signatures in event.signatures.items():
        for keyid, signature in signatures.items():
            path = folder / "signatures" / sha256 / quote(keyid, safe="")
            wanted[path] = f"{signature}\n".encode()
    for path, data in wanted.items():
        if not path.exists():
            replace_file(path, data)
    # Signatures that no longer count go first: no reader meets one in the event that it does not belong to.
    for path in folder.glob("signatures/*/*"):
        if path not in wanted:
            remove_file(path)
    replace_file(folder / "event.json", event.to_bytes())
    for path in [*folder.glob("files/*"), *folder.glob("signatures/*/*")]:
        if path not in wanted:
            remove_file(path)


def discard_event(workspace: Workspace, name: str) -> None:
    """Remove the event's folder; the workspace's lock must be held.

    Raises:
        StoreError: the disk refused.
    """
    remove_folder(workspace.event_folder(name))


def _payload_eventfiles(workspace: Workspace, name: str, entry: tuple[str, int, str], position: int) -> Payload:
    role, version, sha256 = entry
    data = _blob(workspace, name, sha256)
    with blame_user(f"events/{name}/files/{sha256}"):
        payload = Payload.from_bytes(role, data)
    if payload.version != version:
        raise InputError(
            f"events/{name}/event.json: payloads[{position}].version: must be {payload.version}, as the payload says, "
            f"not {version}"
        )
    return payload


def _blob(workspace: Workspace, name: str, sha256: str) -> bytes:
    path = workspace.event_folder(name) / "files" / sha256
    data = read_file(path, what="file, which event.json names")
    if digest(data) != sha256:
        raise InputError(f"events/{name}/files/{sha256}: holds other bytes than its name says")
    return data


def _text(workspace: Workspace, name: str, sha256: str | None) -> str | None:
    if sha256 is None:
        return None
    try:
        return _blob(workspace, name, sha256).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"events/{name}/files/{sha256}: is not UTF-8, as a policy is") from error


def _with_signatures(workspace: Workspace, event: Event, signed: SignedMetadata) -> Event:
    for payload in event.payloads:
        folder = workspace.event_folder(event.name) / "signatures" / payload.sha256
        for path in sorted(folder.glob("[!.]*")):
            file = f"events/{event.name}/signatures/{payload.sha256}/{path.name}"
            try:
                data = read_file(path, what="signature", max_bytes=100_000)
            except InputError:
                if path.is_symlink() or path.exists():
                    raise
                continue  # a writer has dropped it since the folder was listed
            signature = data.decode("ascii", "replace").strip()
            if not _HEX.fullmatch(signature):
                raise InputError(f"{file}: must be a signature in lower-case hexadecimal digits")
            keyid = unquote(path.name)
            try:
                groups = event.groups(payload, signed)
            except DocumentError as error:
                raise InputError(f"events/{event.name}/event.json: {error}") from error
            check_signature(payload, keyid, signature, groups, file=file)
            event = event.with_signature(payload, keyid, signature)
    return event


SIGNING_FORMAT = "kedge.signing/1"
FOLDER = "signings"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """One event that was merged: the roles that it changed, and whose signatures it had."""

    event: str
    reason: str
    opened: datetime
    merged: datetime
    roles: tuple[str, ...]
    keyholders: tuple[str, ...]

    @property
    def took(self) -> timedelta:
        """From opening the event to merging it."""
        return self.merged - self.opened

    @classmethod
    def from_bytes(cls, data: bytes) -> Signing:
        """Read a record.

        Raises:
            DocumentError: it is not one; the path leads to the fault.
        """
        fields = Fields(load_json(data))
        fields.format(SIGNING_FORMAT)
        signing = cls(
            event=read_name(fields, "event"),
            reason=fields.text("reason"),
            opened=fields.time("opened"),
            merged=fields.time("merged"),
            roles=_names(fields, "roles"),
            keyholders=fields.texts("keyholders"),
        )
        fields.end()
        if signing.merged < signing.opened:
            fields.fail("merged", "must not be before opened")
        return signing

    def to_bytes(self) -> bytes:
        """Write the record."""
        value = {
            "format": SIGNING_FORMAT,
            "event": self.event,
            "reason": self.reason,
            "opened": format_time(self.opened),
            "merged": format_time(self.merged),
            "roles": list(self.roles),
            "keyholders": list(self.keyholders),
        }
        return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8")


def record_signing(workspace: Workspace, signing: Signing) -> None:
    """Keep a record; the workspace's lock must be held. The same event is kept once.

    Raises:
        StoreError: the disk refused.
    """
    replace_file(workspace.root / FOLDER / f"{signing.opened:%Y%m%dT%H%M%SZ}-{signing.event}.json", signing.to_bytes())


def read_signings(workspace: Workspace) -> tuple[Signing, ...]:
    """Every record, the oldest first.

    Raises:
        InputError: one of them is damaged.
    """
    found: list[Signing] = []
    for path in sorted((workspace.root / FOLDER).glob("*.json")):
        data = read_file(path, what="signing record", max_bytes=1_000_000)
        with blame_user(f"{FOLDER}/{path.name}"):
            found.append(Signing.from_bytes(data))
    return tuple(sorted(found, key=lambda signing: signing.opened))


def _names(fields: Fields, name: str) -> tuple[str, ...]:
    names = fields.texts(name)
    for position, value in enumerate(names):
        try:
            check_name(value)
        except DocumentError as error:
            raise DocumentError(f"{fields.at(name)}[{position}]", error.problem) from error
    return names
