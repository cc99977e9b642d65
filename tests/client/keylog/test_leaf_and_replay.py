"""What stands in a log, and what a replay of all of it says."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from kedge.client.keylog.entries import (
    EventKind,
    KeyState,
    RoleLeaf,
    RootLeaf,
    check_complete,
    document_leaf,
    key_events,
    parse_leaf,
    replay,
)
from kedge.documents import DocumentError
from kedge.errors import VerificationError
from kedge.registries.keys import KeyFormat, KeySet, KeyStatus, RegistryKey, TimeBasis
from kedge.tlog.checkpoint import Checkpoint, Witnessed
from kedge.tlog.note import Note
from kedge.tlog.tree import leaf_hash, root_hash

REGISTRY = "registry.example"


def day(number: int) -> datetime:
    return datetime(2026, 1, number, tzinfo=UTC)


def key(name: str, *, until: int | None = None, since: int | None = 1) -> RegistryKey:
    return RegistryKey(
        id=name,
        registry=REGISTRY,
        usages=("npm:signatures",),
        material=name.encode(),
        format=KeyFormat.SPKI_DER,
        algorithm="PKIX_ED25519",
        valid_from=day(since) if since else None,
        valid_until=day(until) if until else None,
        time_basis=TimeBasis.PUBLISH_TIME,
        status=KeyStatus.ACTIVE,
    )


def document(number: int, *keys: RegistryKey, revoked: tuple[str, ...] = ()) -> KeySet:
    return KeySet(
        registry=REGISTRY,
        keys=keys,
        target=f"{REGISTRY}/keys.json",
        sha256=f"{number:064x}",
        reference_time=day(1),
        revoked=revoked,
    )


HISTORY = [
    document(1, key("a")),
    document(2, key("a"), key("b")),
    document(3, key("a", until=20), key("b")),
    document(4, key("a", until=20), key("b", since=2)),
    document(5, key("b", since=2), revoked=("a",)),
    document(6, key("b", since=2), revoked=("a", "b")),
]
EVENTS = [
    [("a", "added")],
    [("b", "added")],
    [("a", "retired")],
    [("b", "changed")],
    [("a", "revoked"), ("a", "removed")],
    [("b", "revoked")],
]


def written(documents: list[KeySet]) -> list[bytes]:
    states: dict[tuple[str, tuple[str, ...]], KeyState] = {}
    entries: list[bytes] = []
    for each in documents:
        for event in key_events(states, each):
            if event.event is EventKind.REMOVED:
                del states[event.key.name]
            else:
                states[event.key.name] = event.key
            entries.append(event.to_bytes())
        entries.append(document_leaf(each).to_bytes())
    return entries


def test_each_thing_that_can_happen_to_a_key_is_an_event_of_its_own() -> None:
    states: dict[tuple[str, tuple[str, ...]], KeyState] = {}
    for keys, expected in zip(HISTORY, EVENTS, strict=True):
        events = key_events(states, keys)
        assert [(event.key.id, event.event.value) for event in events] == expected
        for event in events:
            if event.event is EventKind.REMOVED:
                del states[event.key.name]
            else:
                states[event.key.name] = event.key
        assert key_events(states, keys) == ()


def test_a_whole_history_is_replayed_without_a_fault() -> None:
    history = replay(written(HISTORY))
    assert history.faults == []
    happened = [(e.leaf.key.id, e.leaf.event.value) for e in history.events(REGISTRY)]  # type: ignore[union-attr] # key leaves
    assert happened == [pair for events in EVENTS for pair in events]
    assert [leaf.document for leaf in history.documents[REGISTRY]] == [keys.sha256 for keys in HISTORY]


def test_one_registry_is_replayed_as_among_all() -> None:
    roots = [RootLeaf.of(number, b"").to_bytes() for number in range(1, 5)]
    alone, among = replay(written(HISTORY)), replay([*roots, *written(HISTORY)], registry=REGISTRY)
    assert among.keys == alone.keys
    assert [entry.index - 4 for entry in among.entries] == [entry.index for entry in alone.entries]
    assert replay(written(HISTORY), registry="registry.exampl").entries == []


def test_a_log_that_leaves_out_any_event_contradicts_itself() -> None:
    entries = written(HISTORY)
    for index, entry in enumerate(entries):
        faults = replay(entries[:index] + entries[index + 1 :]).faults
        assert bool(faults) == (json.loads(entry)["t"] == "key"), entry


def test_a_log_that_tells_of_one_version_twice_with_other_bytes_contradicts_itself() -> None:
    for one, other in (
        (RootLeaf.of(1, b"a"), RootLeaf.of(1, b"b")),
        (RoleLeaf.of("targets", 1, b"a"), RoleLeaf.of("targets", 1, b"b")),
    ):
        assert replay([one.to_bytes(), one.to_bytes()]).faults == []
        assert "twice, with other bytes" in replay([one.to_bytes(), other.to_bytes()]).faults[0].problem


def test_an_entry_that_cannot_be_read_is_a_fault_with_its_place() -> None:
    entries = written(HISTORY)
    for spoilt in (b"", b"{}", entries[0] + b" ", entries[0].replace(b'"v":1', b'"v":2'), b'{"t":"new","v":1}'):
        faults = replay([entries[0], spoilt]).faults
        assert [fault.index for fault in faults] == [1]


def test_only_the_very_entries_make_the_root_hash() -> None:
    entries = written(HISTORY)
    checkpoint = Checkpoint(
        origin="log.example",
        size=len(entries),
        root=root_hash(list(map(leaf_hash, entries))),
        note=Note(text="", signatures=()),
        data=b"",
    )
    witnessed = Witnessed(checkpoint=checkpoint, time=None)
    check_complete(entries, witnessed)
    swapped = [entries[1], entries[0], *entries[2:]]
    for wrong in (entries[:-1], [*entries, entries[-1]], swapped, [b"x", *entries[1:]]):
        with pytest.raises(VerificationError, match="do not make the root hash"):
            check_complete(wrong, witnessed)


def test_a_leaf_is_read_back_as_it_was_written_and_no_other_way() -> None:
    for entry in [*written(HISTORY), RootLeaf.of(3, b"x").to_bytes(), RoleLeaf.of("r\u00f6le", 2, b"y").to_bytes()]:
        assert parse_leaf(entry).to_bytes() == entry
        for other in (json.dumps(json.loads(entry)).encode(), entry[:-1] + b',"w":1}'):
            with pytest.raises(DocumentError):
                parse_leaf(other)


def test_a_key_s_state_does_not_depend_on_when_it_is_looked_at() -> None:
    ended = replace(key("a", until=20), status=KeyStatus.RETIRED)
    assert document_leaf(document(1, ended)) == document_leaf(document(1, key("a", until=20)))
