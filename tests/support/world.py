"""A repository, a mirror in between, a clock, and clients that share one state folder: what an attack test needs.

Each :meth:`World.client` is a new run of the tool on the same folder. :meth:`World.refused` is how every refusal is
asserted: the error's type and exit code, a text that names the cause in one line, that no byte of the refused file is
kept, and that no floor fell.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.errors import ExpiredError, FetchError, KedgeError, Reason, StoreError, VerificationError
from kedge.transport.directory import too_large
from kedge.transport.mirror import Deadline, Mirror, Transport
from kedge.tuf.steps import MISSING, Fetch, Limits, Missing
from kedge.tuf.trust import Trust
from support.clock import SettableClock
from support.simulator import RepositorySimulator

__all__ = ["KEYS", "NOW", "MemoryTransport", "World"]

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = "registry.example/keys.json"
"""The one target of the repository of these tests, listed by the role ``registry.example``."""

EXIT_CODES: dict[type[KedgeError], int] = {VerificationError: 3, ExpiredError: 4, FetchError: 1, StoreError: 1}


@dataclass
class MemoryTransport:
    """Answers from a simulator. ``before`` is called with each path, before it is answered."""

    repo: RepositorySimulator
    requests: list[str] = field(default_factory=list)
    before: Callable[[str], None] = lambda _path: None
    source: str = "memory"
    notices: tuple[str, ...] = ()

    def get(self, request: Fetch, deadline: Deadline) -> bytes | Missing:  # noqa: ARG002 memory answers at once
        """Answer at once."""
        path = f"{request.area.value}/{request.path}"
        self.before(path)
        self.requests.append(path)
        data = self.repo.files.get(path, self.repo.files.get(unquote(path)))
        if data is None:
            return MISSING
        if len(data) > request.max_bytes:
            raise too_large(path, request.max_bytes)
        return data

    def begin(self, requests: Sequence[Fetch], deadline: Deadline) -> None:
        """Nothing is asked ahead."""

    def close(self) -> None:
        """Nothing is open."""


class World:
    """``repo`` publishes, ``mirror`` serves, ``clock`` tells the time, ``folder`` is the state of every client."""

    def __init__(self, folder: Path, *, meta_hashes: bool = True) -> None:
        self.folder = folder
        self.clock = SettableClock(NOW)
        self.repo = RepositorySimulator(now=NOW, root=(2, 3), meta_hashes=meta_hashes)
        self.repo.delegate("registry.example", paths=["registry.example/*"], keys=3, threshold=2)
        self.repo.add_target(KEYS, b"the keys", role="registry.example")
        self.repo.publish()
        self.mirror = MemoryTransport(self.repo)
        self.options: dict[str, Any] = {}
        """More options for every anchor, such as ``max_staleness``."""

    def anchor(self, **options: Any) -> Anchor:
        """The anchor of this repository."""
        return Anchor(
            name="test",
            initial_root=self.repo.initial_root,
            mirrors=(Mirror(url="https://mirror.invalid"),),
            **{**self.options, **options},
        )

    def client(
        self, transport: Transport | None = None, *, limits: Limits | None = None, timeout_s: float = 60, **options: Any
    ) -> TrustClient:
        """A new run of the client."""
        return TrustClient(
            self.anchor(**options),
            state=self.folder,
            transport=transport or self.mirror,
            clock=self.clock,
            limits=limits,
            timeout_s=timeout_s,
        )

    def refresh(self) -> Trust:
        """Refresh in a new run."""
        return self.client().refresh()

    def keys(self) -> bytes:
        """Get the target in a new run."""
        return self.client().target(KEYS).data

    def tomorrow(self, **span: float) -> None:
        """Let time pass for everybody, and the repository publish."""
        self.clock.advance(timedelta(**(span or {"days": 1})))
        self.repo.now = self.clock.moment
        self.repo.publish()

    def refused(
        self,
        *texts: str,
        file: str | None = None,
        reason: Reason | None = None,
        kind: type[KedgeError] = VerificationError,
        run: Callable[[], object] | None = None,
    ) -> Any:
        """Assert that the next run (:meth:`keys`) is refused, and return the error.

        ``file`` is the path of the served file that is at fault; nothing of it may be kept.
        """
        floors = self.floors()
        with pytest.raises(KedgeError) as caught:
            (run or self.keys)()
        error = caught.value
        assert type(error) is kind, repr(error)
        assert error.exit_code == EXIT_CODES[kind]
        assert "\n" not in str(error)
        for text in texts:
            assert text in str(error)
        if reason is not None:
            assert isinstance(error, VerificationError)
            assert error.refusal.reason is reason
        if file is not None:
            refused_bytes = self.repo.files[file]
            assert not self.holds(refused_bytes), f"{file} was refused, and is kept"
        assert not_below(self.floors(), floors)
        return error

    def holds(self, data: bytes) -> bool:
        """Whether these bytes are kept anywhere in the state folder, or a record there names them."""
        digest = hashlib.sha256(data).hexdigest()
        records = [path for path in self.folder.glob("*.json*") if digest.encode() in path.read_bytes()]
        blobs = [path for path in self.folder.glob("blobs/*") if path.name == digest or path.read_bytes() == data]
        return bool(records or blobs)

    def floors(self) -> dict[str, Any]:
        """The floors as they stand on disk; none, where the file is damaged or not there."""
        try:
            floors: dict[str, Any] = json.loads((self.folder / "floors.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return floors


def not_below(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether no floor fell. (Floors that a root with other online keys voids are another test's matter.)"""
    for name, floor in old.items():
        if isinstance(floor, Mapping):
            if not not_below(new.get(name, {}), floor):
                return False
        elif name in ("root", "version", "time") and new.get(name, type(floor)()) < floor:
            return False
    return True
