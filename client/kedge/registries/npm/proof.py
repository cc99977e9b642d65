"""The signed metadata that keys came from, carried inside an evidence file, and served from there as a mirror would.

A :class:`Proof` is taken from the state folder right after a run, and read by a ``TrustClient`` that starts from the
verifier's own anchor, in an empty state, as of the claimed time. Nothing in it is believed: it is a mirror like any
other, which happens to need no network.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from kedge.document import DocumentError, Fields, format_time
from kedge.errors import FetchError, StoreError
from kedge.keylog.policy import POLICY_TARGET
from kedge.state import StateRecord
from kedge.store import Store
from kedge.transparency import stored_log_files
from kedge.transport import Deadline
from kedge.workflow import MISSING, Area, Fetch, Missing

__all__ = ["Offline", "Proof", "ProofTransport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One repository's files, as a run left them. ``roots`` are in order; ``issuers`` have their keys in it.

    ``log`` holds what proves the repository's log, by path below it, where the run's anchor asked for that.
    """

    issuers: tuple[str, ...]
    reference_time: datetime
    roots: tuple[bytes, ...]
    timestamp: bytes
    snapshot: bytes
    roles: Mapping[str, bytes]
    targets: Mapping[str, bytes]
    log: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def from_store(
        cls, store: Store, *, issuers: tuple[str, ...], targets: tuple[str, ...], reference_time: datetime
    ) -> Proof:
        """Take what a client has just kept.

        Raises:
            StoreError: the set is not whole, or does not hold these targets.
        """
        data = store.read().state
        try:
            record = StateRecord.from_bytes(data or b"")
        except DocumentError as error:
            raise _not_whole(store) from error

        def blob(digest: str | None) -> bytes:
            held = store.blob(digest) if digest is not None else None
            if held is None:
                raise _not_whole(store)
            return held

        log = stored_log_files(store)
        return cls(
            issuers=issuers,
            reference_time=reference_time,
            roots=tuple(blob(digest) for digest in record.roots),
            timestamp=blob(record.timestamp),
            snapshot=blob(record.snapshot),
            roles={name: blob(digest) for name, digest in record.roles.items()},
            targets={path: blob(record.targets.get(path)) for path in (*targets, *_log_policy(record, log))},
            log=log,
        )

    def to_table(self) -> dict[str, Any]:
        """This value as part of the evidence file."""
        return {
            "issuers": list(self.issuers),
            "reference_time": format_time(self.reference_time),
            "roots": [_text(data) for data in self.roots],
            "timestamp": _text(self.timestamp),
            "snapshot": _text(self.snapshot),
            "roles": {name: _text(data) for name, data in self.roles.items()},
            "targets": {path: _text(data) for path, data in self.targets.items()},
            **({"log": {path: _text(data) for path, data in self.log.items()}} if self.log else {}),
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> Proof:
        """Read what :meth:`to_table` wrote.

        Raises:
            DocumentError: it is not that.
        """
        roles, targets = fields.table("roles"), fields.table("targets")
        proof = cls(
            issuers=fields.texts("issuers"),
            reference_time=fields.time("reference_time"),
            roots=tuple(_bytes(text, fields.at("roots")) for text in fields.texts("roots")),
            timestamp=_bytes(fields.text("timestamp"), fields.at("timestamp")),
            snapshot=_bytes(fields.text("snapshot"), fields.at("snapshot")),
            roles={name: _bytes(roles.text(name), roles.at(name)) for name in roles.names()},
            targets={path: _bytes(targets.text(path), targets.at(path)) for path in targets.names()},
            log=_log(fields.table("log")) if "log" in fields else {},
        )
        fields.end()
        return proof


class ProofTransport:
    """Answers a client's requests from a proof."""

    source = "the evidence file"
    notices: tuple[str, ...] = ()

    def __init__(self, proof: Proof) -> None:
        """Answer from ``proof``."""
        self._proof = proof
        self._roots = {version: data for data in proof.roots if (version := _version(data)) is not None}

    def begin(self, requests: Sequence[Fetch], deadline: Deadline) -> None:
        """It answers at once."""

    def get(self, request: Fetch, deadline: Deadline) -> bytes | Missing:  # noqa: ARG002 it answers at once
        """Give one file; a longer one than allowed is missing."""
        if request.area is Area.LOG:
            data = self._proof.log.get(request.path)
        else:
            data = self._metadata(request.path) if request.area is Area.METADATA else self._target(request.path)
        return MISSING if data is None or len(data) > request.max_bytes else data

    def close(self) -> None:
        """Nothing is held open."""

    def _metadata(self, path: str) -> bytes | None:
        if match := re.fullmatch(r"([0-9]{1,15})\.root\.json", path):
            return self._roots.get(int(match[1]))
        match = re.fullmatch(r"(?:[0-9]+\.)?(.+)\.json", path)
        name = unquote(match[1]) if match else ""
        single = {"timestamp": self._proof.timestamp, "snapshot": self._proof.snapshot}
        return single.get(name, self._proof.roles.get(name))

    def _target(self, path: str) -> bytes | None:
        folder, slash, name = unquote(path).rpartition("/")
        plain = f"{folder}{slash}{name}"
        bare = f"{folder}{slash}{name.partition('.')[2]}"
        return self._proof.targets.get(plain, self._proof.targets.get(bare))


class Offline:
    """A transport that reaches nothing: answers come from what is stored."""

    source = "what is stored here"
    notices: tuple[str, ...] = ()

    def begin(self, requests: Sequence[Fetch], deadline: Deadline) -> None:
        """Nothing is asked."""

    def get(self, request: Fetch, deadline: Deadline) -> bytes | Missing:  # noqa: ARG002 nothing is asked
        """Refuse.

        Raises:
            FetchError: always.
        """
        raise FetchError(f"{request.path}: not asked for: evidence is judged without the network")

    def close(self) -> None:
        """Nothing is open."""


def _not_whole(store: Store) -> StoreError:
    return StoreError(
        f"{store.folder}: the trust state could not be kept whole, so that no evidence can be taken from it",
        hint="see the warnings above; the state folder must be writable",
    )


def _version(root: bytes) -> int | None:
    """A root's version by its own word; the client checks it."""
    try:
        version = json.loads(root)["signed"]["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return version if isinstance(version, int) else None


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: str, path: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # also for what is not ASCII
        raise DocumentError(path, "must be base64") from error


def _log_policy(record: StateRecord, log: Mapping[str, bytes]) -> Iterator[str]:
    if log and POLICY_TARGET in record.targets:
        yield POLICY_TARGET


def _log(fields: Fields) -> dict[str, bytes]:
    return {path: _bytes(fields.text(path), fields.at(path)) for path in fields.names()}
