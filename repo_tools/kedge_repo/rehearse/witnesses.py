"""The clients that watch a rehearsal: kedge's own and python-tuf's, each with a state of its own on disk."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.api.metadata import Metadata, Root, Timestamp
from tuf.ngclient import Updater

from kedge.anchor import Anchor
from kedge.client import TrustClient
from kedge.errors import KedgeError
from kedge.transport import Mirror
from kedge_repo.publish.destination import Overlay
from kedge_repo.publish.folder import FolderDestination
from kedge_repo.publish.replay import MEMORY_BASE, MemoryFetcher

__all__ = ["KedgeWitness", "PythonTufWitness", "Sight", "Witness"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What one client saw: the versions that it accepted, or why it refused."""

    client: str
    accepted: bool
    saw: str


class Witness(Protocol):
    """A client that remembers."""

    def look(self, public: Path) -> Sight:
        """Refresh from the folder ``public``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _At:
    moment: datetime

    def now(self) -> datetime:
        return self.moment


@dataclass(frozen=True, slots=True, kw_only=True)
class KedgeWitness:
    """kedge's own client, by the time ``now``."""

    name: str
    state: Path
    initial_root: bytes
    now: datetime

    def look(self, public: Path) -> Sight:
        """Refresh from the folder ``public``."""
        anchor = Anchor(name="rehearsal", initial_root=self.initial_root, mirrors=(Mirror(url=str(public)),))
        try:
            with TrustClient(anchor, state=self.state, clock=_At(moment=self.now)) as client:
                trust = client.refresh()
        except KedgeError as error:
            return Sight(client=self.name, accepted=False, saw=error.message.replace(f" (served by {public})", ""))
        return _seen(self.name, trust.root.version, trust.timestamp.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonTufWitness:
    """python-tuf's client, by its own clock."""

    name: str
    state: Path
    initial_root: bytes

    def look(self, public: Path) -> Sight:
        """Refresh from the folder ``public``."""
        self.state.mkdir(parents=True, exist_ok=True)
        try:
            updater = Updater(
                str(self.state),
                f"{MEMORY_BASE}metadata/",
                fetcher=MemoryFetcher(Overlay(FolderDestination(folder=public), {})),
                bootstrap=self.initial_root,
            )
            updater.refresh()
        except (RepositoryError, DownloadError) as error:
            return Sight(client=self.name, accepted=False, saw=str(error))
        root: Metadata[Root] = Metadata.from_file(str(self.state / "root.json"))
        timestamp: Metadata[Timestamp] = Metadata.from_file(str(self.state / "timestamp.json"))
        return _seen(self.name, root.signed.version, timestamp.signed.version)


def _seen(client: str, root: int, timestamp: int) -> Sight:
    return Sight(client=client, accepted=True, saw=f"root version {root}, timestamp version {timestamp}")
