"""What a whole log says: every root, role version and key event, in order, and what a registry's keys were throughout.

A log is small: whoever has all of its entries computes the root hash, and so knows that nothing is left out and nothing
was changed since the quorum signed that hash. Replaying them says which keys were ever allowed for a registry, and
whether the log contradicts itself.

Invariants:

- Entries count only beside a checkpoint whose root hash they make.
- An entry that cannot be read, or that does not follow from those before it, is a fault that is reported with its
  place; it is never left out silently.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kedge.document import DocumentError
from kedge.errors import Reason, Refusal, VerificationError
from kedge.keylog.checkpoint import Witnessed
from kedge.keylog.leaf import DocumentLeaf, EventKind, KeyLeaf, KeyState, Leaf, RoleLeaf, RootLeaf, parse_leaf
from kedge.keylog.tree import leaf_hashes, root_hash

__all__ = ["Entry", "Fault", "History", "check_complete", "replay"]


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
