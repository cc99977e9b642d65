"""kedge.lock: floors that a project commits, so that a fresh machine cannot be shown an old state.

A CI machine begins with an empty state folder: a mirror could show it any state that has not expired. The lock says how
far trust had come when it was written.

Invariants:

- It only refuses, for this run. Nothing of it is ever written to state, and it chooses no anchor, mirror or policy.
- What it refuses is not kept either: a planted lock leaves no trace.
- Its floors for timestamp, snapshot and roles are void once a root above the locked one no longer trusts the keys that
  vouched for them (TUF 1.0.34 §5.3.11), or the recovery from a stolen key would break every CI.
- It is looked for in the working folder and upwards, at most to the top of the repository, and never taken from a
  folder or a file of another owner.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from kedge.documents import Fields, blame_user, load_json
from kedge.errors import InputError, Reason, Refusal, VerificationError
from kedge.tuf import SNAPSHOT, TIMESTAMP, Floors, Phase, TrustedState, keys_replaced, role_meta, sha256_hex

LOCK_FILE = "kedge.lock"
FORMAT = "kedge.lock/1"
MAX_BYTES = 10_000_000
_TOPS = (".git", ".hg", ".jj", ".svn")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedAnchor:
    """How far trust had come from one anchor: the SHA-256 of its initial and its newest root, and the floors."""

    initial_root: str
    root: str
    floors: Floors

    @classmethod
    def of(cls, state: TrustedState) -> LockedAnchor:
        """Lock a complete state."""
        first, last = state.roots[0], state.roots[-1]
        return cls(initial_root=sha256_hex(first.data), root=sha256_hex(last.data), floors=state.floors)

    def merged(self, other: LockedAnchor) -> LockedAnchor:
        """The higher of two. Where the newer root came with other online keys, the older one's floors are void."""
        newer, older = (other, self) if other.floors.root > self.floors.root else (self, other)
        replaced = newer.floors.root > older.floors.root and _vouchers(newer.floors) != _vouchers(older.floors)
        floors = older.floors.without_online() if replaced else older.floors
        return replace(newer, floors=newer.floors.raised_to(floors))


def _vouchers(floors: Floors) -> tuple[frozenset[str], ...]:
    return tuple(
        frozenset(floor.keys) if floor is not None else frozenset() for floor in (floors.timestamp, floors.snapshot)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A lock file: what is locked, by the anchor's name. ``file`` and ``text`` are for messages."""

    anchors: Mapping[str, LockedAnchor]
    file: str = LOCK_FILE
    text: str = field(default="", repr=False)

    @classmethod
    def from_bytes(cls, data: bytes, *, file: str = LOCK_FILE) -> Lock:
        """Read a lock.

        Raises:
            DocumentError: the bytes are not one.
        """
        fields = Fields(load_json(data))
        fields.format(FORMAT)
        table = fields.table("anchors")
        anchors = {name: _locked_anchor(table.table(name)) for name in table.names()}
        fields.end()
        return cls(anchors=anchors, file=file, text=data.decode("utf-8"))

    def to_bytes(self) -> bytes:
        """Write the file: one value a line, in order, so that versions of it merge line by line."""
        anchors: dict[str, Any] = {
            name: {"initial_root": locked.initial_root, "root": locked.root, "floors": locked.floors.to_table()}
            for name, locked in self.anchors.items()
        }
        return json.dumps({"format": FORMAT, "anchors": anchors}, indent=1, sort_keys=True).encode() + b"\n"

    def merged(self, other: Lock) -> Lock:
        """What is locked in either, at the higher floors.

        Raises:
            InputError: they lock one anchor to different roots of one version.
        """
        anchors = dict(self.anchors)
        for name, theirs in other.anchors.items():
            ours = anchors.get(name, theirs)
            if ours.floors.root == theirs.floors.root and ours.root != theirs.root:
                raise InputError(
                    f"{self.file} and {other.file} lock the anchor {name} to different roots",
                    hint="one of them is of another repository: find out which, and remove its entry",
                )
            anchors[name] = ours.merged(theirs)
        return Lock(anchors=anchors, file=self.file)

    def time(self, anchor: str) -> datetime | None:
        """The time up to which trust had come: no machine's clock may be behind it."""
        return self.anchors[anchor].floors.time if anchor in self.anchors else None

    def place(self, anchor: str, key: str) -> str:
        """Where a locked value stands, for messages: the file and the line."""
        return f"{self.file}:{_line_of(self.text, anchor, key)}"

    def check(self, anchor: str, phase: Phase, state: TrustedState) -> None:
        """Check a state that is otherwise right against what is locked for ``anchor``.

        Raises:
            VerificationError: it is below the lock, or its roots are another chain.
        """
        locked = self.anchors.get(anchor)
        if locked is None:
            return
        if phase is Phase.ROOT:
            self._check_chain(anchor, locked, state)
        elif not keys_replaced(state.root, locked.floors):
            check = self._check_timestamp if phase is Phase.TIMESTAMP else self._check_snapshot
            check(anchor, locked.floors, state)

    def _check_chain(self, anchor: str, locked: LockedAnchor, state: TrustedState) -> None:
        if state.root.version < locked.floors.root:
            raise self._below(anchor, "root", "root", locked.floors.root, state.root.version)
        held = {root.version: sha256_hex(root.data) for root in state.roots}
        found = held.get(locked.floors.root, locked.root)
        if found != locked.root:
            expected = f"root version {locked.floors.root} with sha256 {locked.root}"
            raise self._refusal(anchor, "root", f"{expected} is locked, found {found}", expected, found)

    def _check_timestamp(self, anchor: str, floors: Floors, state: TrustedState) -> None:
        if state.timestamp is None:
            return
        versions = state.timestamp.signed.version, state.timestamp.signed.snapshot_meta.version
        for role, floor, found in zip(
            (TIMESTAMP.type, SNAPSHOT.type), (floors.timestamp, floors.snapshot), versions, strict=True
        ):
            if floor is not None and found < floor.version:
                raise self._below(anchor, role, role, floor.version, found)

    def _check_snapshot(self, anchor: str, floors: Floors, state: TrustedState) -> None:
        for role, floor in floors.roles.items():
            found = role_meta(state, role).version
            if found < floor:
                raise self._below(anchor, role, role, floor, found)

    def _below(self, anchor: str, key: str, role: str, floor: int, found: int) -> VerificationError:
        text = f"{role} version {floor} is locked, and the repository serves version {found}"
        return self._refusal(anchor, key, text, f"at least {floor}", str(found), role=role)

    def _refusal(
        self, anchor: str, key: str, text: str, expected: str, found: str, role: str = "root"
    ) -> VerificationError:
        place = self.place(anchor, key)
        refusal = Refusal(reason=Reason.LOCKED, file=place, role=role, expected=expected, found=found)
        return VerificationError(
            f"{place}: {text}",
            refusal=refusal,
            hint="the mirror serves an old state: try another one; if the lock itself is wrong, mend it in the project",
        )


def read_lock(path: Path) -> Lock:
    """Read a lock file.

    Raises:
        InputError: it cannot be read, or is not one.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: is longer than {MAX_BYTES} bytes, which no lock is")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    with blame_user(str(path)):
        return Lock.from_bytes(data, file=str(path))


def find_lock(folder: Path) -> tuple[Path | None, tuple[str, ...]]:
    """Look for a lock in ``folder`` and upwards to the repository's top; also give what was passed over, and why."""
    folder = folder.resolve()
    passed_over: list[str] = []
    inside = [folder, *folder.parents]
    top = next((path for path in inside if any((path / name).exists() for name in _TOPS)), folder)
    for path in inside[: inside.index(top) + 1]:
        candidate = path / LOCK_FILE
        if not candidate.exists():
            continue
        if _is_ours(path) and _is_ours(candidate) and not candidate.is_symlink():
            return candidate, tuple(passed_over)
        passed_over.append(f"{candidate}: ignored, it belongs to another user or is a link")
    return None, tuple(passed_over)


def _is_ours(path: Path) -> bool:
    return not hasattr(os, "geteuid") or path.lstat().st_uid == os.geteuid()


def _locked_anchor(fields: Fields) -> LockedAnchor:
    locked = LockedAnchor(
        initial_root=fields.sha256("initial_root"),
        root=fields.sha256("root"),
        floors=Floors.from_fields(fields.table("floors")),
    )
    fields.end()
    return locked


def _line_of(text: str, *keys: str) -> int:
    """The line in which the last of ``keys`` stands, each looked for behind the one before it."""
    position = 0
    for key in ("anchors", *keys):
        match = re.compile(re.escape(json.dumps(key)) + r"\s*:").search(text, position)
        position = match.end() if match is not None else position
    return text.count("\n", 0, position) + 1
