"""Watching repositories: what is new in a log, what nobody expected, and whether mirrors show the same thing.

A log helps because somebody looks. A monitor reads every mirror of an anchor by itself, the whole log of each, and says
what has come since it looked last, and whatever should not be: two mirrors whose logs cannot both be true, a log that
changed its past, a checkpoint that no quorum has signed for long, a key or a role that its owner did not expect.

Invariants:

- What it saw last is kept apart from any client's state, one record an anchor, with each mirror's own trust state.
- It reports and goes on: one mirror that lies does not hide what another one shows.

A repository's whole log: every entry, shown to be complete, and replayed.

A client that follows a log needs a tile of it. Who wants to know which keys were *ever* allowed takes all of it: the
entries make the root hash that the log and its witnesses signed, so none is left out, also none that its maintainers
would rather forget.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

from kedge.client import (
    Anchor,
    Clock,
    Entry,
    EventKind,
    History,
    KeyLeaf,
    Lock,
    RoleLeaf,
    RootLeaf,
    Transparency,
    TrustClient,
    replay,
)
from kedge.documents import DocumentError, Fields, format_time, load_json, load_toml
from kedge.errors import ExitCode, ExpiredError, FetchError, KedgeError, StoreError, VerificationError
from kedge.files import blaming, make_folder, read_if_there, write_file
from kedge.tlog import Witnessed, leaf_hashes, root_hash
from kedge.transport import Deadline, Mirror, open_mirrors
from kedge.tuf import Trust, sha256_hex


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeLog:
    """All entries of a log, the checkpoint whose root hash they make, and what they say."""

    witnessed: Witnessed
    entries: tuple[bytes, ...]
    history: History
    trust: Trust


def read_whole_log(
    anchor: Anchor,
    *,
    state: Path | None = None,
    clock: Clock | None = None,
    timeout_s: float = 60.0,
    lock: Lock | None = None,
    registry: str | None = None,
) -> WholeLog:
    """Refresh with the log required, whatever the anchor says, and read all of it; replay one ``registry``, or all.

    Raises:
        VerificationError: the log is not to be trusted, or what is served of it is not all of it.
        ExpiredError: something has expired.
        FetchError: the repository or its log cannot be reached.
    """
    anchor = replace(anchor, transparency=Transparency.REQUIRE)
    transport = open_mirrors(anchor.mirrors)
    client = TrustClient(
        anchor, state=state, transport=transport, clock=clock, timeout_s=timeout_s, require_refresh=True, lock=lock
    )
    with client:
        trust = client.refresh()
        if client.key_log is None:
            raise FetchError(f"{anchor.name}: the repository has no log")
        witnessed, entries = client.key_log.read_all(transport, Deadline(timeout_s))
    history = replay(entries, registry=registry)
    return WholeLog(witnessed=witnessed, entries=tuple(entries), history=history, trust=trust)


MONITOR_FORMAT = "kedge.monitor/1"
SEEN_FORMAT = "kedge.monitored/1"
EXPECT_FORMAT = "kedge.expect/1"
MAX_SEEN_BYTES = 1_000_000


class Sight(StrEnum):
    """What a monitor can see. The values stand in its output."""

    ROOT = "root"
    ROLE = "role"
    KEY = "key"
    CURRENT = "current"
    UNEXPECTED_KEY = "unexpected-key"
    UNEXPECTED_ROLE = "unexpected-role"
    MISSING_KEY = "missing-key"
    CONTRADICTION = "contradiction"
    FORK = "fork"
    REFUSED = "refused"
    STALE = "stale"
    UNREACHABLE = "unreachable"


_EXITS = {
    Sight.FORK: ExitCode.REFUSED,
    Sight.REFUSED: ExitCode.REFUSED,
    Sight.STALE: ExitCode.EXPIRED,
    Sight.UNEXPECTED_KEY: ExitCode.FAULTS,
    Sight.UNEXPECTED_ROLE: ExitCode.FAULTS,
    Sight.MISSING_KEY: ExitCode.FAULTS,
    Sight.CONTRADICTION: ExitCode.FAULTS,
    Sight.UNREACHABLE: ExitCode.COULD_NOT,
}
_ORDER = (ExitCode.REFUSED, ExitCode.EXPIRED, ExitCode.FAULTS, ExitCode.COULD_NOT)


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """One thing that was seen, as one line of the output. ``source`` is the mirror, ``detail`` what belongs to it."""

    anchor: str
    sight: Sight
    text: str
    source: str | None = None
    detail: Mapping[str, Any]

    def to_table(self, now: datetime) -> dict[str, Any]:
        """The JSON object of the line."""
        return {
            "format": MONITOR_FORMAT,
            "time": format_time(now),
            "anchor": self.anchor,
            "sight": self.sight.value,
            "text": self.text,
            "source": self.source,
            "detail": dict(self.detail),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What a registry's owner knows of: keys by id or by the SHA-256 of their bytes, and the targets roles there are.

    ``keys`` by registry; a registry that is not named is not judged. ``roles`` None: any.
    """

    keys: Mapping[str, frozenset[str]]
    roles: frozenset[str] | None

    @classmethod
    def from_toml(cls, text: bytes) -> Expectation:
        """Parse the file that ``--expect`` names (``kedge.expect/1``).

        Raises:
            DocumentError: it is none.
        """
        fields = Fields(load_toml(text))
        fields.format(EXPECT_FORMAT)
        keys: dict[str, frozenset[str]] = {}
        for registry, entry in (fields.table("registries") if "registries" in fields else Fields({})).items():
            keys[registry] = frozenset(entry.texts("keys"))
            entry.end()
        roles = fields.optional("roles", fields.texts)
        fields.end()
        return cls(keys=keys, roles=frozenset(roles) if roles is not None else None)


def watch(
    anchor: Anchor,
    folder: Path,
    *,
    clock: Clock,
    expected: Expectation | None = None,
    max_age: timedelta,
    timeout_s: float = 60.0,
) -> Iterator[News]:
    """Look at every mirror of ``anchor`` once; what was seen before is in ``folder``, and is brought up to date.

    Raises:
        StoreError: what was seen cannot be written down.
    """
    logs: dict[str, WholeLog] = {}
    for mirror in anchor.mirrors:
        place = folder / sha256_hex(mirror.url.encode())[:16]
        try:
            logs[mirror.url] = _read(anchor, mirror, place, clock, timeout_s)
        except KedgeError as error:
            yield _could_not(anchor, mirror.url, error)
    now = clock.now()
    for url, log in logs.items():
        yield from _age(anchor, url, log, now, max_age)
    if not logs:
        return
    yield from _disagreements(anchor, logs)
    url, longest = max(logs.items(), key=lambda item: len(item[1].entries))
    size, root = _seen(folder)
    if size and _root(longest, size) != root:
        text = f"the log {longest.witnessed.origin} no longer begins with the {size} entries that were seen before"
        yield _news(anchor, Sight.FORK, text, url, size=size)
        return
    yield from _new_entries(anchor, url, longest, size)
    yield from _judge(anchor, url, longest, expected or Expectation(keys={}, roles=None))
    _write_seen(folder, len(longest.entries), longest.witnessed.root)


def read_seen(data: bytes) -> tuple[int, bytes]:
    """Read how many entries were seen, and their root hash (``kedge.monitored/1``).

    Raises:
        DocumentError: the bytes are no such record.
    """
    fields = Fields(load_json(data))
    fields.format(SEEN_FORMAT)
    seen = fields.integer("size"), bytes.fromhex(fields.sha256("root"))
    fields.end()
    return seen


def exit_code(news: list[News]) -> ExitCode:
    """The exit status that all of it comes to: 3 before 4 before 5 before 1."""
    found = {_EXITS[each.sight] for each in news if each.sight in _EXITS}
    return next((code for code in _ORDER if code in found), ExitCode.DONE)


def _read(anchor: Anchor, mirror: Mirror, place: Path, clock: Clock, timeout_s: float) -> WholeLog:
    return read_whole_log(replace(anchor, mirrors=(mirror,)), state=place, clock=clock, timeout_s=timeout_s)


def _could_not(anchor: Anchor, url: str, error: KedgeError) -> News:
    if isinstance(error, ExpiredError):
        sight = Sight.STALE
    elif isinstance(error, VerificationError):
        sight = Sight.FORK if error.refusal.reason in ("fork", "rollback") else Sight.REFUSED
    else:
        sight = Sight.UNREACHABLE if isinstance(error, FetchError) else Sight.REFUSED
    reason = error.refusal.reason.value if isinstance(error, VerificationError) else None
    return _news(anchor, sight, error.message, url, reason=reason)


def _age(anchor: Anchor, url: str, log: WholeLog, now: datetime, max_age: timedelta) -> Iterator[News]:
    time = log.witnessed.time
    if time is not None and now - time > max_age:
        text = f"no quorum of witnesses has signed the log {log.witnessed.origin} since {format_time(time)}"
        yield _news(anchor, Sight.STALE, text, url, witnessed=format_time(time))


def _disagreements(anchor: Anchor, logs: Mapping[str, WholeLog]) -> Iterator[News]:
    """Two mirrors' logs can both be true only where the longer one begins with the shorter one."""
    ordered = sorted(logs.items(), key=lambda item: len(item[1].entries))
    for (shorter, short), (longer, long) in pairwise(ordered):
        if _root(long, len(short.entries)) != short.witnessed.root:
            text = f"{shorter} and {longer} show two logs {short.witnessed.origin} that cannot both be true"
            checkpoints = [each.witnessed.checkpoint.data.decode() for each in (short, long)]
            yield _news(anchor, Sight.FORK, text, longer, checkpoints=checkpoints)


def _new_entries(anchor: Anchor, url: str, log: WholeLog, since: int) -> Iterator[News]:
    for entry in log.history.entries:
        if entry.index < since:
            continue
        match entry.leaf:
            case RootLeaf():
                yield _of_entry(anchor, url, entry, Sight.ROOT, f"root version {entry.leaf.version}")
            case RoleLeaf():
                text = f"{entry.leaf.role} version {entry.leaf.version}"
                yield _of_entry(anchor, url, entry, Sight.ROLE, text, role=entry.leaf.role)
            case KeyLeaf():
                key = entry.leaf.key
                text = f"{entry.leaf.registry}: key {key.id} {entry.leaf.event.value}"
                yield _of_entry(anchor, url, entry, Sight.KEY, text, event=entry.leaf.event.value, key=key.to_table())
            case _:
                continue
    for fault in log.history.faults:
        yield _news(anchor, Sight.CONTRADICTION, f"entry {fault.index}: {fault.problem}", url, index=fault.index)
    witnessed = log.witnessed
    text = f"the log {witnessed.origin} has {witnessed.size} entries, {witnessed.size - since} of them new"
    time = format_time(witnessed.time) if witnessed.time is not None else None
    yield _news(anchor, Sight.CURRENT, text, url, size=witnessed.size, witnessed=time, root=witnessed.root.hex())


def _judge(anchor: Anchor, url: str, log: WholeLog, expected: Expectation) -> Iterator[News]:
    """Judge all of the log, not only what is new: what is unexpected stays so until somebody expects it."""
    for entry in log.history.entries:
        leaf = entry.leaf
        if isinstance(leaf, RoleLeaf) and expected.roles is not None and leaf.role not in expected.roles:
            text = f"the role {leaf.role} is not among those that are expected"
            yield _of_entry(anchor, url, entry, Sight.UNEXPECTED_ROLE, text, role=leaf.role)
        elif isinstance(leaf, KeyLeaf) and leaf.registry in expected.keys and leaf.event is not EventKind.REMOVED:
            known = expected.keys[leaf.registry]
            if leaf.key.id not in known and leaf.key.sha256 not in known and not leaf.key.revoked:
                text = f"{leaf.registry}: key {leaf.key.id} is not among those that are expected"
                yield _of_entry(anchor, url, entry, Sight.UNEXPECTED_KEY, text, key=leaf.key.to_table())
    for registry, known in expected.keys.items():
        present = log.history.keys.get(registry, {}).values()
        held = {name for state in present if not state.revoked for name in (state.id, state.sha256)}
        for name in sorted(known - held):
            text = f"{registry}: the key {name} is expected, and is not allowed (any more)"
            yield _news(anchor, Sight.MISSING_KEY, text, url, registry=registry, key=name)


def _root(log: WholeLog, size: int) -> bytes:
    return root_hash(leaf_hashes(log.entries[:size])) if size <= len(log.entries) else b""


def _of_entry(anchor: Anchor, url: str, entry: Entry, sight: Sight, text: str, **detail: Any) -> News:
    return _news(anchor, sight, text, url, index=entry.index, **detail)


def _news(anchor: Anchor, sight: Sight, text: str, url: str, **detail: Any) -> News:
    return News(anchor=anchor.name, sight=sight, text=text, source=url, detail=detail)


def _seen(folder: Path) -> tuple[int, bytes]:
    """How many entries were seen before, and their root hash; none where nothing was.

    Raises:
        StoreError: something was, and the record cannot be read: a log that forked since could not be told.
    """
    file = folder / "seen.json"
    try:
        data = read_if_there(file, MAX_SEEN_BYTES)
        return read_seen(data) if data is not None else (0, b"")
    except OSError as error:
        cause: Exception = error
        what = (error.strerror or str(error)).lower()
    except DocumentError as error:
        cause, what = error, str(error)
    hint = "let this user read it, or restore it from a backup; to begin anew, as if never seen, remove it"
    raise StoreError(f"{file}: cannot be read: {what}", hint=hint) from cause


def _write_seen(folder: Path, size: int, root: bytes) -> None:
    record = {"format": SEEN_FORMAT, "size": size, "root": root.hex()}
    with blaming(folder):
        make_folder(folder)
        write_file(folder / "seen.json", json.dumps(record, indent=1).encode() + b"\n")
