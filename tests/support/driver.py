"""Runs the client's workflow in memory: files come from a simulator, what is accepted is held in a dictionary."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar
from urllib.parse import unquote

from kedge.tuf import checks, workflow
from kedge.tuf.checks import Freshness
from kedge.tuf.state import Floors, TrustedState
from kedge.tuf.steps import MISSING, Accepted, Area, Fetch, Limits, Missing, Recall, Step
from kedge.tuf.workflow import Workflow
from support.simulator import RepositorySimulator

__all__ = ["Driver"]

R = TypeVar("R")


@dataclass
class Driver:
    """One client's memory: ``held`` is its disk, ``recorded`` its floors, ``requests`` the log of what it asked for."""

    repo: RepositorySimulator
    now: datetime
    max_staleness: timedelta = timedelta(0)
    limits: Limits = field(default_factory=Limits)
    held: dict[tuple[Area, str], bytes] = field(default_factory=dict)
    recorded: tuple[Floors, ...] = ()
    requests: list[str] = field(default_factory=list)

    def run(self, steps: Workflow[R]) -> R:
        """Answer every step until the workflow returns or raises."""
        answer: bytes | Missing | None = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                result: R = end.value
                return result
            answer = self._answer(step)

    def _answer(self, step: Step) -> bytes | Missing | None:
        if isinstance(step, Recall):
            return self.held.get((step.area, step.name), MISSING)
        if isinstance(step, Fetch):
            path = f"{step.area.value}/{step.path}"
            self.requests.append(path)
            data = self.repo.files.get(path, self.repo.files.get(unquote(path)))
            return MISSING if data is None else data
        assert isinstance(step, Accepted)
        self.held[step.area, step.name] = step.data
        self.recorded = (step.state.floors,)
        return None

    def refresh(self) -> TrustedState:
        """Restore what is held, from the initial root on, and refresh."""
        restored = self.run(workflow.restore(checks.begin(self.repo.initial_root), self.freshness))
        return self.run(workflow.refresh(restored, self.freshness, recorded=self.recorded, limits=self.limits))

    def target(self, path: str) -> bytes:
        """Refresh, look a target up, and download it."""
        found = self.run(workflow.find(self.refresh(), path, self.freshness, limits=self.limits))
        return self.run(workflow.download(found))

    @property
    def freshness(self) -> Freshness:
        """The policy that files are judged by."""
        return Freshness(reference_time=self.now, max_staleness=self.max_staleness)
