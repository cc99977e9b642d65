"""What was seen last, for signed data that has no version of its own: the floor under apt, Hex and checksum databases.

TUF's metadata carries version numbers; an ``InRelease`` file, a Hex package or a tree head may be old and still validly
signed. Whoever verified a newer one before can tell, if it was written down. So each kind of registry keeps one small
record a subject ("the Release of suite bookworm of apt/debian"), below the state folder and beside the anchors' states.

::

    memory = Memory("apt")
    seen = memory.recall(subject)                  # None: never seen before
    ...                                            # judge what was served against it
    memory.update(subject, lambda seen: later(seen, served))

Invariants:

- A record is a JSON object that its kind of registry defines, replaced whole and durably (:mod:`kedge.files`).
- ``update`` hands the record as it is under the lock, so that no process undoes what another one has learned. The
  function that it is given must be monotone: what it returns never forgets what it was given.
- A record that is there and cannot be read is an error, never "not seen before": forgetting is what a replay wants.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kedge.documents import DocumentError, Fields, load_json
from kedge.errors import StoreError
from kedge.files import blaming, locked, make_folder, read_file, state_folder, write_file

FORMAT = "kedge.memory/1"
FOLDER = ".memory"  # no anchor's name begins with a dot
MAX_BYTES = 16_000_000
_KIND = "[a-z][a-z0-9-]{0,31}"


class Memory:
    """The records of one kind of registry."""

    def __init__(self, kind: str, *, state: Path | None = None, lock_timeout_s: float = 10.0) -> None:
        """Keep records of ``kind`` below ``state``, the folder of all trust states (default: the user's)."""
        self.kind = kind
        self._folder = (state if state is not None else state_folder()) / FOLDER
        self._lock_timeout_s = lock_timeout_s

    def path(self, subject: str) -> Path:
        """Where the record of ``subject`` lies, or would lie."""
        digest = hashlib.sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()
        return self._folder / f"{self.kind}-{digest[:32]}.json"

    def recall(self, subject: str) -> Mapping[str, Any] | None:
        """Give what was seen of ``subject``, or None if nothing was. Takes no lock.

        Raises:
            StoreError: there is a record and it cannot be read.
        """
        path = self.path(subject)
        data = read_file(path, MAX_BYTES)
        if data is None:
            if os.path.lexists(path):
                raise _damaged(path, "it cannot be read")
            return None
        try:
            kind, of, seen = read_record(data)
        except DocumentError as error:
            raise _damaged(path, str(error)) from error
        if (kind, of) != (self.kind, subject):
            raise _damaged(path, f"it is of {kind}: {of}")
        return seen

    def update(
        self, subject: str, change: Callable[[Mapping[str, Any] | None], Mapping[str, Any] | None]
    ) -> Mapping[str, Any] | None:
        """Replace the record under the lock by what ``change`` makes of it (None: leave it), and give what now holds.

        What ``change`` raises is raised, and nothing is changed.

        Raises:
            StoreError: the record cannot be read or written, or the lock cannot be had in time.
        """
        with blaming(self._folder.parent):
            make_folder(self._folder.parent)
            make_folder(self._folder, ours=True)
            with locked(self._folder / f"{self.kind}.lock", timeout_s=self._lock_timeout_s):
                present = self.recall(subject)
                changed = change(present)
                if changed is None or changed == present:
                    return present
                write_file(self.path(subject), self._bytes(subject, changed))
                return changed

    def forget(self, subject: str) -> bool:
        """Remove the record of ``subject``, also a damaged one; say whether there was one.

        Raises:
            StoreError: it cannot be removed.
        """
        path = self.path(subject)
        with blaming(self._folder.parent):
            there = os.path.lexists(path)
            path.unlink(missing_ok=True)
        return there

    def _bytes(self, subject: str, seen: Mapping[str, Any]) -> bytes:
        table = {"format": FORMAT, "kind": self.kind, "subject": subject, "seen": seen}
        return json.dumps(table, indent=1, sort_keys=True).encode() + b"\n"


def read_record(data: bytes) -> tuple[str, str, Mapping[str, Any]]:
    """Read one record: its kind, its subject, and what was seen.

    Raises:
        DocumentError: it is not what it should be.
    """
    document = load_json(data)
    fields = Fields(document)
    fields.format(FORMAT)
    kind = fields.text("kind", pattern=_KIND, expected="a name such as apt")
    subject = fields.text("subject")
    fields.table("seen")
    fields.end()
    seen: Mapping[str, Any] = document["seen"]
    return kind, subject, seen


def _damaged(path: Path, problem: str) -> StoreError:
    hint = "restore it; deleting it forgets what was seen, so that a replay of something old would not be noticed"
    return StoreError(f"{path}: what was seen before is damaged: {problem}", hint=hint)
