"""What a client holds from before, and what it keeps: between the pure workflow and the store.

Invariants:

- What is recalled is bytes, never trust: the workflow verifies it again from the anchor's initial root.
- A stored chain that began with another initial root counts only once it contains the anchor's.
- A commit never takes back what another process has committed meanwhile: the set that reaches further stays, and
  floors are merged.
- A disk that cannot be written does not make an answer wrong: it is said, and the answer stands.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from kedge import tuf
from kedge.client.anchor import Anchor
from kedge.client.store import FLOORS, PREVIOUS, STATE, Change, Records, Store
from kedge.documents import DocumentError, Fields, format_time, load_json
from kedge.errors import Reason, Refusal, StoreError, VerificationError
from kedge.tuf import (
    MISSING,
    Accepted,
    Area,
    Floors,
    Freshness,
    Gate,
    Missing,
    Phase,
    Recall,
    StateRecord,
    TrustedState,
    claimed_version,
    describe_age,
    sha256_hex,
)

if TYPE_CHECKING:
    from kedge.client.lockfile import Lock


FLOORS_FORMAT = "kedge.floors/1"
TIMES_AGREE = timedelta(minutes=1)

_MANY_ROLES = 512
_CLOCKS_AGREE = timedelta(minutes=5)


class Session:
    """One anchor's stored set, opened for one use by one thread."""

    def __init__(self, anchor: Anchor, store: Store, *, keep: bool, withhold: bool = False) -> None:
        """Open the set, of which nothing is verified yet.

        Where ``keep`` is false nothing is written, unless :meth:`keep_all` says so in the end. With ``withhold``,
        nothing of a refresh that did not come to its end.
        """
        self.warnings: list[str] = []
        self.anchor = anchor.name
        self._store = store
        self._keep = keep
        self._withhold = withhold
        self._keep_history = anchor.keep_history
        self._anchor_root = sha256_hex(anchor.initial_root)
        self._blobs: dict[str, bytes] = {}
        self._accepted: list[bytes] = []
        self._together = False
        self._reached: TrustedState | None = None
        self._written: Floors | None = None
        self._settled = False
        self.could_store = True
        opened = _open(store.read(), store)
        self.recorded = (*opened.floors, Floors(time=anchor.not_before))
        record = next(filter(self._is_whole, opened.records), opened.records[0] if opened.records else None)
        self.fetched = record.fetched if record is not None else None
        self.source = record.source if record is not None else None
        self._seen = (record.timestamp, record.seen) if record is not None else (None, None)
        self._roots: tuple[str, ...] = ()
        self._earlier_roots: tuple[str, ...] = ()
        self._first, self._first_name = self._start(anchor, record)
        self._initial: TrustedState | None = None
        held = record or StateRecord(roots=(self._anchor_root,))
        self._metadata = dict(held.roles)
        self._metadata.update((name, digest) for name, digest in _online(held) if digest is not None)
        self._targets = dict(held.targets)

    @property
    def initial(self) -> TrustedState:
        """The root with which the chain begins, checked when it is first asked for.

        Raises:
            VerificationError: it does not vouch for itself.
        """
        # No functools.cached_property: in Python 3.11 it holds a lock, which a fork may leave locked for ever.
        if self._initial is None:
            self._initial = tuf.begin(self._first, file=self._first_name)
        return self._initial

    @property
    def held_root_version(self) -> int:
        """The version of the newest root that is held, by the files' own word: nothing is verified for it."""
        return (claimed_version(self._first) or 0) + max(0, len(self._roots) - 1)

    @property
    def is_cold(self) -> bool:
        """Whether nothing is held but the anchor's root."""
        return "timestamp" not in self._metadata

    def recall(self, step: Recall) -> bytes | Missing:
        """Give what is held under a name."""
        if step.area is Area.TARGETS:
            digest = self._targets.get(step.name)
        elif step.area is Area.ROOTS:
            index = int(step.name) - self.initial.root.version
            digest = self._roots[index] if 0 < index < len(self._roots) else None
        else:
            digest = self._metadata.get(step.name)
        data = self._blob(digest) if digest is not None else None
        return MISSING if data is None else data

    def accept(self, step: Accepted) -> None:
        """Keep a file that passed."""
        digest = sha256_hex(step.data)
        self._blobs[digest] = step.data
        self._reached = step.state
        if step.area is Area.TARGETS:
            self._targets[step.name] = digest
        elif step.area is Area.METADATA:
            self._metadata[step.name] = digest
        if self._keep and not self._together:
            try:
                self._store.keep(step.data)
            except StoreError as error:
                self._could_not_store(error)
        else:
            self._accepted.append(step.data)

    def write_together(self) -> None:
        """From here on, write what is accepted with the record: between many answers each write waits for them."""
        self._together = True

    def keep_all(self, state: TrustedState) -> None:
        """Keep, in one step, all that was accepted and not written: a whole set or nothing.

        Raises:
            StoreError: the disk refuses; what was stored before stays.
        """
        self._write(state)

    def require_anchor(self, state: TrustedState) -> None:
        """Check that the chain contains the anchor's initial root.

        Raises:
            VerificationError: the stored chain began elsewhere and never reaches it (reason ``anchor``).
        """
        if any(sha256_hex(root.data) == self._anchor_root for root in state.roots):
            return
        refusal = Refusal(
            reason=Reason.ANCHOR, file="root.json", expected=f"a chain with {self._anchor_root}", found="another chain"
        )
        raise VerificationError(
            f"the trust state in {self._store.folder} is of another initial root, and does not lead to the anchor's",
            refusal=refusal,
            hint="another repository needs an anchor of another name",
        )

    def settle(self, *, fetched: datetime | None = None, source: str | None = None) -> None:
        """Take note that the newest root is known, so that the state's own floors are the ones that count.

        ``fetched`` and ``source`` are given after a complete refresh.
        """
        self._settled = True
        if fetched is not None:
            digest = self._metadata.get("timestamp")
            if self._seen[0] != digest or self._seen[1] is None:
                self._seen = (digest, fetched)
            self.fetched = fetched
            # A folder's name may hold bytes that are no UTF-8.
            self.source = source.encode("utf-8", "backslashreplace").decode() if source is not None else None

    @property
    def seen(self) -> datetime | None:
        """When the timestamp that is held was first accepted in a complete refresh."""
        digest, moment = self._seen
        return moment if digest == self._metadata.get("timestamp") else None

    @property
    def has_news(self) -> bool:
        """Whether a file was accepted since the last commit."""
        return self._reached is not None

    def may_wait(self, state: TrustedState) -> bool:
        """Whether the news is of roles that anybody may ask for again: every floor of ``state`` is written down.

        Only where a snapshot lists very many roles, as hash bins are, is it worth waiting: each of them has a floor.
        """
        return len(state.floors.roles) > _MANY_ROLES and state.floors == self._written

    def commit_reached(self) -> None:
        """Write down the last state in which a file was accepted, if any was and it may be."""
        if self._reached is not None and not self._withhold:
            self.commit(self._reached)

    def keep_exhibits(self, refusal: Refusal) -> None:
        """Keep files that prove something, apart from the state; say where, or that it failed, among the warnings."""
        for data in refusal.exhibits:
            try:
                self._store.keep_exhibit(data)
            except StoreError as error:
                self._could_not_store(error)

    def commit(self, state: TrustedState) -> None:
        """Write down how far the state has come."""
        self._reached = None
        if not self._keep:
            return
        if not self._settled:
            for floors in self.recorded:
                state = state.raise_floors(floors)
        try:
            self._write(state)
            self._written = state.floors
        except StoreError as error:
            self._could_not_store(error)

    def _write(self, state: TrustedState) -> None:
        self._store.keep_many(self._accepted)
        self._accepted.clear()
        if sha256_hex(state.roots[0].data) not in self._blobs:
            self._store.keep(state.roots[0].data)
        self._store.update(lambda records: self._change(state, records), named=_named)

    def _change(self, state: TrustedState, records: Records) -> Change | None:
        present = _open(records, self._store)
        floors = state.floors
        for other in present.floors:
            # Floors that were set under a newer root than ours are not ours to judge.
            settled = other if other.root > state.root.version else tuf.settle_floors(state, [other]).floors
            floors = floors.raised_to(settled)
        ours = self._record(state)
        theirs = present.records[0] if present.records and self._is_whole(present.records[0]) else None
        if theirs is not None and _online(theirs) == _online(ours):
            ours = replace(
                ours,
                roots=theirs.roots if theirs.floors.root > ours.floors.root else ours.roots,
                roles={**theirs.roles, **ours.roles},
                targets={**theirs.targets, **ours.targets},
                seen=min((moment for moment in (theirs.seen, ours.seen) if moment is not None), default=None),
            )
        elif theirs is not None and _reach(theirs, state) > _reach(ours, state):
            ours = theirs
        same_set = theirs is not None and theirs.blobs() == ours.blobs()
        ours = replace(ours, floors=floors)
        if same_set and theirs is not None and _is_recent(theirs, ours):
            return None
        return Change(
            state=ours.to_bytes(),
            floors=_floors_bytes(floors),
            previous=None if same_set else records.state,
            history=_history(ours) if self._keep_history else None,
            keep_blobs=self._keep_history,
        )

    def _record(self, state: TrustedState) -> StateRecord:
        listed = state.snapshot.signed.meta if state.snapshot is not None else {}
        return StateRecord(
            roots=(*self._earlier_roots, *(sha256_hex(root.data) for root in state.roots)),
            timestamp=sha256_hex(state.timestamp.data) if state.timestamp is not None else None,
            snapshot=sha256_hex(state.snapshot.data) if state.snapshot is not None else None,
            roles={name: self._metadata[name] for name in sorted(self._metadata) if f"{name}.json" in listed},
            targets=dict(sorted(self._targets.items())),
            floors=state.floors,
            fetched=self.fetched,
            source=self.source,
            seen=self.seen,
        )

    def _start(self, anchor: Anchor, record: StateRecord | None) -> tuple[bytes, str]:
        if record is not None and self._anchor_root in record.roots:
            index = record.roots.index(self._anchor_root)
            self._earlier_roots, self._roots = record.roots[:index], record.roots[index:]
        elif record is not None and (former := self._blob(record.initial_root)) is not None:
            self._roots = record.roots
            return former, "the stored initial root"
        return anchor.initial_root, f"the initial root of anchor {anchor.name}"

    def _blob(self, digest: str) -> bytes | None:
        if digest not in self._blobs and (data := self._store.blob(digest)) is not None:
            self._blobs[digest] = data
        return self._blobs.get(digest)

    def _is_whole(self, record: StateRecord) -> bool:
        first = record.roots.index(self._anchor_root) if self._anchor_root in record.roots else 0
        needed = (*record.roots[first:], record.timestamp, record.snapshot, record.roles.get("targets"))
        return all(digest is not None and self._blob(digest) is not None for digest in needed)

    def _could_not_store(self, error: StoreError) -> None:
        self.could_store = False
        text = f"the trust state could not be stored: {error.message}"
        if text not in self.warnings:
            self.warnings.append(text)


def forget_time(store: Store) -> datetime | None:
    """Take the time floor out of every record, and give what it was; None where there was none.

    Raises:
        StoreError: nothing readable is stored, or it cannot be written.
    """
    held: list[datetime] = []

    def change(records: Records) -> Change:
        opened = _open(records, store)
        held.extend(floors.time for floors in opened.floors if floors.time is not None)
        if not opened.records:
            raise StoreError(f"{store.folder}: no trust state is stored there")
        floors = Floors()
        for each in opened.floors:
            floors = floors.raised_to(each)
        timeless = [replace(record, floors=replace(record.floors, time=None)) for record in opened.records]
        return Change(
            state=timeless[0].to_bytes(),
            floors=_floors_bytes(replace(floors, time=None)),
            previous=timeless[1].to_bytes() if len(timeless) > 1 else None,
        )

    store.update(change, named=_named)
    return max(held, default=None)


@dataclass(frozen=True, slots=True)
class _Opened:
    """The stored records that can be read, the newest first, and every floor that any of the files holds."""

    records: tuple[StateRecord, ...]
    floors: tuple[Floors, ...]


def _open(records: Records, store: Store) -> _Opened:
    """Read the records; one that is damaged is made up for by another.

    Raises:
        StoreError: there are some, and none can be read: what was trusted before is not known.
    """
    readable = tuple(_state_records(records))
    floors = [record.floors for record in readable]
    if records.floors is not None and (apart := _read_floors(records.floors)) is not None:
        floors.append(apart)
    if not floors:
        files = {STATE: records.state, PREVIOUS: records.previous, FLOORS: records.floors}
        damaged = [f"{name} is damaged" for name, data in files.items() if data is not None]
        if damaged or records.unreadable:
            raise StoreError(
                f"{store.folder}: trust state is stored there and cannot be read: "
                f"{', '.join((*records.unreadable, *damaged))}",
                hint="let this user read it, or restore it from a backup; to start again from the initial root, and "
                "give up the protection from a rollback, remove the folder",
            )
    return _Opened(readable, tuple(floors))


def _state_records(records: Records) -> Iterator[StateRecord]:
    for data in (records.state, records.previous):
        if data is not None:
            try:
                yield StateRecord.from_bytes(data)
            except DocumentError:
                continue  # damaged: the other record and the floors stand in for it


def _read_floors(data: bytes) -> Floors | None:
    try:
        fields = Fields(load_json(data))
        fields.format(FLOORS_FORMAT)
        return Floors.from_fields(fields)
    except DocumentError:
        return None  # damaged: the records carry the floors as well


def _floors_bytes(floors: Floors) -> bytes:
    return json.dumps({"format": FLOORS_FORMAT, **floors.to_table()}, indent=1, sort_keys=True).encode() + b"\n"


def _history(record: StateRecord) -> tuple[str, bytes] | None:
    """A whole set under a name of its own: by the version of its timestamp, and by which timestamp that is."""
    version = record.floors.timestamp.version if record.floors.timestamp is not None else 0
    if record.timestamp is None or record.snapshot is None or "targets" not in record.roles:
        return None
    return f"{version:015}-{record.timestamp[:16]}.json", record.to_bytes()


def _named(state: bytes) -> set[str]:
    try:
        return StateRecord.from_bytes(state).blobs()
    except DocumentError:
        return set()


def _online(record: StateRecord) -> tuple[tuple[str, str | None], ...]:
    return (("timestamp", record.timestamp), ("snapshot", record.snapshot))


def _reach(record: StateRecord, state: TrustedState) -> tuple[int, int, int]:
    floors = record.floors
    void = floors.root <= state.root.version and tuf.keys_replaced(state.root, floors)
    timestamp = floors.timestamp.version if floors.timestamp is not None and not void else 0
    parts = (record.timestamp, record.snapshot, record.roles.get("targets"))
    return floors.root, timestamp, sum(part is not None for part in parts)


def _is_recent(stored: StateRecord, new: StateRecord) -> bool:
    """Whether only the times differ, and by so little that writing them again is not worth it."""
    if replace(stored.floors, time=None) != replace(new.floors, time=None) or stored.source != new.source:
        return False
    pairs = ((stored.fetched, new.fetched), (stored.floors.time, new.floors.time))
    return all(
        before == after or (before is not None and after is not None and timedelta(0) <= after - before < TIMES_AGREE)
        for before, after in pairs
    )


def gate(session: Session, lock: Lock | None) -> Gate:
    """What is asked before a state is accepted: that the chain is the anchor's, and that it is not below the lock."""

    def check(phase: Phase, state: TrustedState) -> None:
        if phase is Phase.ROOT:
            session.require_anchor(state)
        if lock is not None:
            lock.check(session.anchor, phase, state)

    return check


def clock_warning(
    freshness: Freshness, now: datetime, lock: Lock | None, anchor: str, issued: datetime | None
) -> tuple[str, ...]:
    """What is to be said where this machine's clock is behind the time that is judged by, or that was signed."""
    if freshness.as_of:
        return ()
    if freshness.reference_time <= now:
        if issued is None or issued <= now + _CLOCKS_AGREE:
            return ()
        behind = describe_age(issued - now)
        return (f"this machine's clock is {behind} behind {format_time(issued)}, when the timestamp was signed",)
    floor = format_time(freshness.reference_time)
    behind = describe_age(freshness.reference_time - now)
    seen = "which a refresh has seen"
    if lock is not None and lock.time(anchor) == freshness.reference_time:
        seen = f"which {lock.place(anchor, 'time')} holds"
    return (f"this machine's clock is {behind} behind {floor}, {seen}: judged by that time",)
