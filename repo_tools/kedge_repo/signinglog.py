"""What signing took: a record of each event that was merged, ``signings/<opened>-<event>.json`` in the workspace.

::

    {"format": "kedge.signing/1", "event": "npm-keys", "reason": "…", "opened": "2026-11-01T09:00:00Z",
     "merged": "2026-11-12T15:30:00Z", "roles": ["registry.npmjs.org"], "keyholders": ["npm-ana", "npm-ben"]}

An event vanishes when it is merged; how long its signatures took is what a forecast needs. Nothing here is signed, and
nothing rests on it but a forecast.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from kedge.document import DocumentError, Fields, blame_user, format_time, load_json
from kedge_repo import disk
from kedge_repo.policy import check_name, read_name
from kedge_repo.workspace import Workspace

__all__ = ["SIGNING_FORMAT", "Signing", "read_signings", "record_signing"]

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
    disk.replace(workspace.root / FOLDER / f"{signing.opened:%Y%m%dT%H%M%SZ}-{signing.event}.json", signing.to_bytes())


def read_signings(workspace: Workspace) -> tuple[Signing, ...]:
    """Every record, the oldest first.

    Raises:
        InputError: one of them is damaged.
    """
    found: list[Signing] = []
    for path in sorted((workspace.root / FOLDER).glob("*.json")):
        data = disk.read(path, what="signing record", max_bytes=1_000_000)
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
