"""python-tuf's ``Updater`` beside kedge's workflow, on the same files in memory.

Both keep what they accept between runs: kedge's driver in a dictionary, ``Updater`` in a folder. Each run is a new
start, as a new process would be: refresh, then look up and download targets, and stop at the first refusal. What came
of it is an :class:`Outcome`, the same kind of value for both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from kedge.errors import FetchError, VerificationError
from kedge.transport.directory import too_large
from kedge.tuf import checks, workflow
from kedge.tuf.checks import Freshness
from kedge.tuf.state import TrustedState
from kedge.tuf.steps import Accepted, Answer, Area, Fetch, Limits, Step
from support.driver import Driver
from support.simulator import RepositorySimulator

__all__ = ["LIMITS", "Ours", "Outcome", "Theirs"]

LIMITS = Limits(root_rotations=16, delegations=5, timestamp_bytes=20_000, snapshot_bytes=60_000, targets_bytes=60_000)
"""Small, so that they are reached; both clients get the same."""

URL = "https://mirror.invalid/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run came to. ``reason`` is None where all was accepted; ``text`` is for whoever reads a disagreement."""

    reason: str | None
    text: str
    targets: dict[str, bytes]
    held: dict[str, bytes]
    """The files that are trusted after the run: root, timestamp, snapshot, targets."""

    @property
    def accepted(self) -> bool:
        """Whether nothing was refused."""
        return self.reason is None


@dataclass
class Ours(Driver):
    """kedge's workflow."""

    limits: Limits = field(default_factory=lambda: LIMITS)

    def _answer(self, step: Step) -> Answer:
        before = self.recorded
        answer = super()._answer(step)
        if isinstance(step, Accepted):
            # Floors are merged with those on disk, as kedge.client.session does, not replaced.
            floors = step.state.floors
            for other in before:
                floors = floors.raised_to(checks.settle_floors(step.state, [other]).floors)
            self.recorded = (floors,)
        if isinstance(step, Fetch) and isinstance(answer, bytes) and len(answer) > step.max_bytes:
            raise too_large(step.path, step.max_bytes)
        return answer

    def refresh(self) -> TrustedState:
        """Restore what is held as :class:`kedge.client.client.TrustClient` does, whatever its age, and refresh."""
        any_age = Freshness(reference_time=self.now, max_staleness=timedelta.max)
        restored = self.run(workflow.restore(checks.begin(self.repo.initial_root), any_age))
        return self.run(workflow.refresh(restored, self.freshness, recorded=self.recorded, limits=self.limits))

    def attempt(self, paths: Sequence[str]) -> Outcome:
        """One run."""
        targets: dict[str, bytes] = {}
        reason, text = None, ""
        try:
            state = self.refresh()
            for path in paths:
                found = self.run(workflow.find(state, path, self.freshness, limits=self.limits))
                targets[path] = self.run(workflow.download(found))
                state = found.state
        except VerificationError as error:
            reason, text = error.refusal.reason.value, str(error)
        except FetchError as error:
            reason, text = "missing", str(error)
        return Outcome(reason=reason, text=text, targets=targets, held=self._trusted())

    def _trusted(self) -> dict[str, bytes]:
        names = ("timestamp", "snapshot", "targets")
        held = {name: self.held[Area.METADATA, name] for name in names if (Area.METADATA, name) in self.held}
        root, version = self.repo.initial_root, checks.begin(self.repo.initial_root).root.version
        while (newer := self.held.get((Area.ROOTS, str(version + 1)))) is not None:
            root, version = newer, version + 1
        return {"root": root, **held}


class Theirs:
    """python-tuf's Updater."""

    def __init__(self, repo: RepositorySimulator, folder: Path, now: datetime) -> None:
        self.now = now
        self._repo = repo
        self._metadata, self._targets = folder / "metadata", folder / "targets"
        for made in (self._metadata, self._targets):
            made.mkdir(parents=True)

    def attempt(self, paths: Sequence[str]) -> Outcome:
        """One run."""
        targets: dict[str, bytes] = {}
        reason, text = None, ""
        try:
            updater = self._updater()
            updater.refresh()
            for path in paths:
                info = updater.get_targetinfo(path)
                if info is None:
                    reason, text = "not-found", path
                    break
                file = updater.find_cached_target(info) or updater.download_target(info)
                targets[path] = Path(file).read_bytes()
        except (RepositoryError, DownloadError) as error:
            reason, text = _reason(error), f"{type(error).__name__}: {error}"
        return Outcome(reason=reason, text=text, targets=targets, held=self._trusted())

    def _updater(self) -> Updater:
        limits = UpdaterConfig(
            max_root_rotations=256,  # counts those of the cache as well; what ours counts is tested apart
            max_delegations=LIMITS.delegations,
            root_max_length=LIMITS.root_bytes,
            timestamp_max_length=LIMITS.timestamp_bytes,
            snapshot_max_length=LIMITS.snapshot_bytes,
            targets_max_length=LIMITS.targets_bytes,
        )
        updater = Updater(
            str(self._metadata),
            f"{URL}metadata/",
            str(self._targets),
            f"{URL}targets/",
            fetcher=_Memory(self._repo),
            config=limits,
            bootstrap=self._repo.initial_root,
        )
        # It has no parameter for the time it judges by.
        updater._trusted_set.reference_time = self.now
        return updater

    def _trusted(self) -> dict[str, bytes]:
        files = {name: self._metadata / f"{name}.json" for name in ("root", "timestamp", "snapshot", "targets")}
        return {name: file.read_bytes() for name, file in files.items() if file.exists()}


class _Memory(FetcherInterface):
    def __init__(self, repo: RepositorySimulator) -> None:
        self._repo = repo

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = url.removeprefix(URL)
        data = self._repo.files.get(path, self._repo.files.get(unquote(path)))
        if data is None:
            raise DownloadHTTPError(f"{path}: 404", 404)
        return iter([data])


def _reason(error: Exception) -> str:
    for kind, reason in (
        (ExpiredMetadataError, "expired"),
        (UnsignedMetadataError, "signatures"),
        (BadVersionNumberError, "version"),
        (LengthOrHashMismatchError, "content"),
        (DownloadHTTPError, "missing"),
    ):
        if isinstance(error, kind):
            return reason
    if "is missing info" in str(error):
        return "vanished"
    return "other"


def versions(outcome: Outcome) -> dict[str, object]:
    """The versions that are trusted, as a disagreement is reported."""
    return {name: json.loads(data)["signed"]["version"] for name, data in outcome.held.items()}
