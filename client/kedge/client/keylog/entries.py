"""The leaves of a repository's log: what stands in it about roots, targets roles and registry keys.

::

    {"len":5368,"n":15,"sha256":"…","t":"root","v":1}                       a root, by the bytes of its file
    {"len":1024,"n":8,"role":"…","sha256":"…","t":"role","v":1}             a version of a targets role
    {"document":"…","event":"added","key":{…},"registry":"…","t":"key","v":1}
    {"document":"…","keys":["…"],"registry":"…","t":"keys","target":"…","v":1}

A ``keys`` leaf says which states of keys a key document holds (by digest); the ``key`` leaves before it say how each
state came to be. So a log that holds a key document, and not every event that leads to it, contradicts itself, and
whoever replays it sees that.

Invariants:

- A leaf is the canonical JSON (RFC 8785) of one object: a client makes the very bytes from what it holds anyway, and
  needs nobody's word for them.
- A key's state holds nothing that depends on when it is looked at.

What a whole log says: every root, role version and key event, in order, and what a registry's keys were throughout.

A log is small: whoever has all of its entries computes the root hash, and so knows that nothing is left out and nothing
was changed since the quorum signed that hash. Replaying them says which keys were ever allowed for a registry, and
whether the log contradicts itself.

Invariants:

- Entries count only beside a checkpoint whose root hash they make.
- An entry that cannot be read, or that does not follow from those before it, is a fault that is reported with its
  place; it is never left out silently.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from kedge.documents import DocumentError, Fields, format_time, load_json
from kedge.errors import Reason, Refusal, VerificationError
from kedge.tlog import Witnessed, leaf_hashes, root_hash
from kedge.tuf import sha256_hex

if TYPE_CHECKING:
    from kedge.registries import KeySet, RegistryKey


VERSION = 1
MAX_MATERIAL_BYTES = 2_048
"""Larger keys (OpenPGP certificates) stand in the log by their digest alone."""


class EventKind(StrEnum):
    """What became of a key from one key document to the next."""

    ADDED = "added"
    CHANGED = "changed"
    RETIRED = "retired"
    REVOKED = "revoked"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RootLeaf:
    """A root file."""

    version: int
    sha256: str
    length: int

    @classmethod
    def of(cls, version: int, data: bytes) -> RootLeaf:
        """The leaf of a root's bytes."""
        return cls(version=version, sha256=sha256_hex(data), length=len(data))

    def to_bytes(self) -> bytes:
        """The entry of the log."""
        # A client writes one for each root at each start: nothing in it needs to be escaped.
        return f'{{"len":{self.length},"n":{self.version},"sha256":"{self.sha256}","t":"root","v":{VERSION}}}'.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleLeaf:
    """One version of a targets role."""

    role: str
    version: int
    sha256: str
    length: int

    @classmethod
    def of(cls, role: str, version: int, data: bytes) -> RoleLeaf:
        """The leaf of a role's bytes."""
        return cls(role=role, version=version, sha256=sha256_hex(data), length=len(data))

    def to_bytes(self) -> bytes:
        """The entry of the log."""
        table = {"t": "role", "role": self.role, "n": self.version, "sha256": self.sha256, "len": self.length}
        return _canonical(table)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyState:
    """What a key document says of one key, for the usages that it names. ``sha256`` is the digest of its bytes.

    A key that is revoked and has no entry any more is only its ``id``: ``sha256`` is None, and it has no usages.
    """

    id: str
    usages: tuple[str, ...]
    algorithm: str | None
    format: str | None
    sha256: str | None
    material: bytes | None
    valid_from: str | None
    valid_until: str | None
    time_basis: str | None
    revoked: bool

    @classmethod
    def of(cls, key: RegistryKey, *, revoked: bool) -> KeyState:
        """The state of a key as its document has it."""
        from kedge.registries import KeyStatus  # only who looks at keys needs them

        return cls(
            id=key.id,
            usages=key.usages,
            algorithm=key.algorithm,
            format=key.format.value,
            sha256=sha256_hex(key.material),
            material=key.material if len(key.material) <= MAX_MATERIAL_BYTES else None,
            valid_from=format_time(key.valid_from) if key.valid_from is not None else None,
            valid_until=format_time(key.valid_until) if key.valid_until is not None else None,
            time_basis=key.time_basis.value,
            revoked=revoked or key.status is KeyStatus.REVOKED,
        )

    @property
    def name(self) -> tuple[str, tuple[str, ...]]:
        """By what one entry is told from another: the keyid, and what it is used for."""
        return self.id, self.usages

    @property
    def digest(self) -> str:
        """The digest by which a ``keys`` leaf names this state."""
        return hashlib.sha256(_json(self.to_table())).hexdigest()

    def to_table(self) -> dict[str, Any]:
        """This state as a JSON object; what does not apply is left out."""
        table: dict[str, Any] = {"id": self.id, "usages": list(self.usages)}
        optional: dict[str, Any] = {
            "algorithm": self.algorithm,
            "format": self.format,
            "sha256": self.sha256,
            "material": base64.b64encode(self.material).decode("ascii") if self.material is not None else None,
            "from": self.valid_from,
            "until": self.valid_until,
            "time_basis": self.time_basis,
            "revoked": True if self.revoked else None,
        }
        return {**table, **{name: value for name, value in optional.items() if value is not None}}

    @classmethod
    def from_fields(cls, fields: Fields) -> KeyState:
        """Read what :meth:`to_table` wrote.

        Raises:
            DocumentError: the table is not such an object.
        """
        material = fields.optional("material", fields.text, empty=True)
        try:
            decoded = base64.b64decode(material, validate=True) if material is not None else None
        except ValueError:
            fields.fail("material", "must be base64")
        state = cls(
            id=fields.text("id"),
            usages=fields.texts("usages"),
            algorithm=fields.optional("algorithm", fields.text),
            format=fields.optional("format", fields.text),
            sha256=fields.optional("sha256", fields.sha256),
            material=decoded,
            valid_from=fields.optional("from", fields.text),
            valid_until=fields.optional("until", fields.text),
            time_basis=fields.optional("time_basis", fields.text),
            revoked=fields.boolean("revoked") if "revoked" in fields else False,
        )
        fields.end()
        return state


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLeaf:
    """What happened to one key of a registry, and its state afterwards (for a key that was removed, its last one).

    ``document`` is the digest of the key document with which it happened.
    """

    registry: str
    document: str
    event: EventKind
    key: KeyState

    def to_bytes(self) -> bytes:
        """The entry of the log."""
        table = {"t": "key", "registry": self.registry, "document": self.document, "event": self.event.value}
        return _canonical({**table, "key": self.key.to_table()})


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentLeaf:
    """A registry's key document: where it stands, its digest, and the digests of all key states in it, sorted."""

    registry: str
    target: str
    document: str
    keys: tuple[str, ...]

    def to_bytes(self) -> bytes:
        """The entry of the log."""
        table = {"t": "keys", "registry": self.registry, "target": self.target, "document": self.document}
        return _canonical({**table, "keys": list(self.keys)})


Leaf = RootLeaf | RoleLeaf | KeyLeaf | DocumentLeaf


def key_states(keys: KeySet) -> tuple[KeyState, ...]:
    """Every key state of a key document: its entries, and the keys that are revoked without one."""
    entries = [KeyState.of(key, revoked=key.id in keys.revoked) for key in keys.keys]
    listed = {state.id for state in entries}
    bare = KeyState(
        id="",
        usages=(),
        algorithm=None,
        format=None,
        sha256=None,
        material=None,
        valid_from=None,
        valid_until=None,
        time_basis=None,
        revoked=True,
    )
    return (*entries, *(replace(bare, id=keyid) for keyid in dict.fromkeys(keys.revoked) if keyid not in listed))


def document_leaf(keys: KeySet) -> DocumentLeaf:
    """The leaf of a key document."""
    return DocumentLeaf(
        registry=keys.registry,
        target=keys.target,
        document=keys.sha256,
        keys=tuple(sorted(state.digest for state in key_states(keys))),
    )


def key_events(before: Mapping[tuple[str, tuple[str, ...]], KeyState], keys: KeySet) -> tuple[KeyLeaf, ...]:
    """What happened to a registry's keys with the document ``keys``; ``before`` are the states until then, by name."""
    after = {state.name: state for state in key_states(keys)}
    found: list[tuple[EventKind, KeyState]] = []
    for name, state in after.items():
        if before.get(name) != state:
            found.append((_event(before.get(name), state), state))
    found += [(EventKind.REMOVED, state) for name, state in before.items() if name not in after]
    return tuple(
        KeyLeaf(registry=keys.registry, document=keys.sha256, event=event, key=state) for event, state in found
    )


def parse_leaf(entry: bytes) -> Leaf:
    """Read one entry of a log.

    Raises:
        DocumentError: it is no leaf of this version, or is not written as one.
    """
    fields = Fields(load_json(entry))
    kind = fields.text("t")
    reader = _READERS.get(kind)
    if reader is None or fields.integer("v") != VERSION:
        raise DocumentError("", f"is a leaf of a kind that this kedge does not read: {kind[:40]}")
    leaf = reader(fields)
    fields.end()
    if leaf.to_bytes() != entry:
        raise DocumentError("", "is not written as RFC 8785 asks, so no client can have made it")
    return leaf


def _root(fields: Fields) -> Leaf:
    return RootLeaf(
        version=fields.integer("n", minimum=1), sha256=fields.sha256("sha256"), length=fields.integer("len")
    )


def _role(fields: Fields) -> Leaf:
    return RoleLeaf(
        role=fields.text("role"),
        version=fields.integer("n", minimum=1),
        sha256=fields.sha256("sha256"),
        length=fields.integer("len"),
    )


def _key(fields: Fields) -> Leaf:
    return KeyLeaf(
        registry=fields.text("registry"),
        document=fields.sha256("document"),
        event=EventKind(fields.text("event", pattern="|".join(EventKind), expected="what happened to a key")),
        key=KeyState.from_fields(fields.table("key")),
    )


def _keys(fields: Fields) -> Leaf:
    return DocumentLeaf(
        registry=fields.text("registry"),
        target=fields.text("target"),
        document=fields.sha256("document"),
        keys=fields.sha256s("keys"),
    )


_READERS = {"root": _root, "role": _role, "key": _key, "keys": _keys}


def _event(before: KeyState | None, after: KeyState) -> EventKind:
    if after.revoked and (before is None or not before.revoked):
        return EventKind.REVOKED
    if before is None:
        return EventKind.ADDED
    ends_sooner = after.valid_until is not None and (
        before.valid_until is None or after.valid_until < before.valid_until
    )
    return EventKind.RETIRED if ends_sooner else EventKind.CHANGED


def _canonical(table: Mapping[str, Any]) -> bytes:
    return _json({**table, "v": VERSION})


def _json(table: Mapping[str, Any]) -> bytes:
    # For texts, whole numbers and ASCII names this is what RFC 8785 asks for.
    return json.dumps(table, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode("utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of the log, and where it stands."""

    index: int
    leaf: Leaf


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An entry that cannot be read, or that contradicts the ones before it."""

    index: int
    problem: str


@dataclass(slots=True, kw_only=True)
class History:
    """What a replay came to. ``keys`` are each registry's key states after the last entry, by name."""

    entries: list[Entry] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    keys: dict[str, dict[tuple[str, tuple[str, ...]], KeyState]] = field(default_factory=dict)
    roots: dict[int, RootLeaf] = field(default_factory=dict)
    roles: dict[tuple[str, int], RoleLeaf] = field(default_factory=dict)
    documents: dict[str, list[DocumentLeaf]] = field(default_factory=dict)

    def events(self, registry: str) -> list[Entry]:
        """Every key event of one registry, in order."""
        return [entry for entry in self.entries if isinstance(entry.leaf, KeyLeaf) and entry.leaf.registry == registry]


def check_complete(entries: Sequence[bytes], witnessed: Witnessed) -> None:
    """Check that these are all entries of the log, unchanged and in order.

    Raises:
        VerificationError: they do not make the root hash that was signed.
    """
    found = root_hash(leaf_hashes(entries))
    if len(entries) != witnessed.size or found != witnessed.root:
        refusal = Refusal(
            reason=Reason.UNPROVEN, file="tlog/tile/entries", expected=witnessed.root.hex(), found=found.hex()
        )
        raise VerificationError(
            f"the {len(entries)} entries do not make the root hash of {witnessed.origin} at size {witnessed.size}",
            refusal=refusal,
            hint="something was left out or changed by whoever serves them: report it",
        )


def replay(entries: Iterable[bytes], *, registry: str | None = None) -> History:
    """Go through the entries of a log, from the first; with ``registry``, through that one's alone.

    A leaf has one way of being written, so that one of a registry is known by its bytes: another entry that only says
    the same proves nothing to any client.
    """
    history = History()
    mark = f'"registry":{json.dumps(registry, ensure_ascii=False)}'.encode() if registry is not None else b""
    for index, data in enumerate(entries):
        if mark not in data:
            continue
        try:
            leaf = parse_leaf(data)
        except DocumentError as error:
            history.faults.append(Fault(index=index, problem=str(error)))
            continue
        history.entries.append(Entry(index=index, leaf=leaf))
        problem = _apply(history, leaf)
        if problem is not None:
            history.faults.append(Fault(index=index, problem=problem))
    return history


def _apply(history: History, leaf: Leaf) -> str | None:
    match leaf:
        case RootLeaf():
            return _once(history.roots.setdefault(leaf.version, leaf), leaf, f"root version {leaf.version}")
        case RoleLeaf():
            held = history.roles.setdefault((leaf.role, leaf.version), leaf)
            return _once(held, leaf, f"{leaf.role} version {leaf.version}")
        case KeyLeaf():
            return _apply_event(history, leaf)
        case DocumentLeaf():
            history.documents.setdefault(leaf.registry, []).append(leaf)
            held_now = history.keys.get(leaf.registry, {})
            if tuple(sorted(state.digest for state in held_now.values())) != leaf.keys:
                return f"the key document {leaf.document[:16]}… of {leaf.registry} holds keys of which no event tells"
            return None


def _once(held: Leaf, leaf: Leaf, what: str) -> str | None:
    return None if held == leaf else f"{what} stands here twice, with other bytes"


def _apply_event(history: History, leaf: KeyLeaf) -> str | None:
    states = history.keys.setdefault(leaf.registry, {})
    before = states.get(leaf.key.name)
    if leaf.event is EventKind.REMOVED:
        states.pop(leaf.key.name, None)
        return None if before == leaf.key else f"removes a key of {leaf.registry} that was not there: {leaf.key.id}"
    states[leaf.key.name] = leaf.key
    if leaf.event is EventKind.ADDED and before is not None:
        return f"adds a key of {leaf.registry} that was there already: {leaf.key.id}"
    return None
