"""Where a repository is published to: what publishing asks of a folder or an object store, and nothing more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from kedge.errors import InputError

TIMESTAMP_PATH = "metadata/timestamp.json"
"""The one file of TUF's that changes."""

CHECKPOINT_PATH = "tlog/checkpoint"
"""The head of the repository's log, which changes with each publication, as the proofs beside it do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A file at a destination: its bytes, and what a later replacement compares itself with."""

    data: bytes
    tag: str


class Destination(Protocol):
    """A place to publish to. Every method raises ``StoreError`` where the place cannot be reached, read or written."""

    @property
    def name(self) -> str:
        """What it is called in messages; no secret stands in it."""

    def place(self, path: str) -> str:
        """What the file at ``path`` is called in messages."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep other publishers out, as far as the place can.

        Raises:
            InputError: it cannot hold what is to be published so that clients never see half of it.
        """

    def read(self, path: str) -> Held | None:
        """The file at ``path``, or None where nothing is."""

    def create(self, path: str, data: bytes) -> bool:
        """Put ``data`` at ``path`` unless something is there; whether it was put."""

    def replace(self, path: str, data: bytes, former: Held | None) -> bool:
        """Put ``data`` at ``path`` if ``former`` is what is there (None: nothing); whether it was put."""

    def paths(self, folder: str) -> Iterator[str]:
        """The paths of the files in ``folder``."""

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files, those that are not there apart."""


class Overlay(Mapping[str, bytes]):
    """A destination's files with others on top, read when they are asked for."""

    def __init__(self, destination: Destination, above: Mapping[str, bytes]) -> None:
        self._destination = destination
        self._above = above

    def __getitem__(self, path: str) -> bytes:
        if path in self._above:
            return self._above[path]
        held = self._destination.read(path)
        if held is None:
            raise KeyError(path)
        return held.data

    def __iter__(self) -> Iterator[str]:
        metadata = (path for path in self._destination.paths("metadata") if path not in self._above)
        return chain(self._above, metadata)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def content_type(path: str) -> str:
    """The media type that a file is served as."""
    if path == CHECKPOINT_PATH:
        return "text/plain; charset=utf-8"
    return "application/json" if path.endswith(".json") else "application/octet-stream"


def cache_control(path: str) -> str:
    """How long caches may keep a file: for ever, but for those that change.

    A root that is not there yet must not be remembered as missing; that is for whoever serves the files to say.
    """
    if path in (TIMESTAMP_PATH, CHECKPOINT_PATH) or path.startswith("tlog/proofs/"):
        return "no-cache"
    return "public, max-age=31536000, immutable"


class BehindError(InputError):
    """The publisher came second: what is published is not what this workspace was signed on."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(
            f"{place}: {problem}: somebody else has published",
            hint="bring the workspace up to date (git pull, kedge-repo publish adopt), sign online, and publish again",
        )


class TakenError(InputError):
    """A name that never changes is taken by other bytes; ``path`` is the file's."""

    def __init__(self, place: str, path: str) -> None:
        super().__init__(
            f"{place}: holds other bytes than this workspace; published files never change",
            hint="where a publication was cut off and its workspace lost, or a thief took the name: sign another "
            "version, with kedge-repo online --at-least N for a snapshot",
        )
        self.path = path
