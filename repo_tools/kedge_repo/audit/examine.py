"""An audit: everything of a repository is read, clients walk, the rules are applied; the result is one value.

The bootstrap floor: the oldest root from which a client of today still gets through, as measured on each client: one
may take a root that another refuses.

Real clients walk, kedge's own workflow and python-tuf's ``Updater``. If one gets through from a version, it does from
every later one, for it passes them on its way; so the floor is searched by halving. What a client meets behind the
chain of roots (something has expired, the snapshot is another one) is a finding of its own and no floor: a client that
is refused there as it would be from the newest root has got through the chain.

No time is asked for in a chain of roots, so the floor is the same at any. Each client is therefore asked at a time that
it can judge by: kedge as of the audit's, python-tuf at the machine's present, for its clock cannot be set.

The audit of a repository through its whole history, wherever it lies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from kedge.client import SystemClock
from kedge.errors import KedgeError, VerificationError
from kedge.registries import Severity
from kedge_repo.audit.findings import Audit, AuditFinding, Rule
from kedge_repo.audit.read import read_archive
from kedge_repo.audit.rules import judge
from kedge_repo.audit.source import Archive, Source
from kedge_repo.events import stand
from kedge_repo.publish import read_with_kedge, read_with_python_tuf
from kedge_repo.workspace import POLICY_FILE, Workspace

Walk = Callable[[Mapping[str, bytes], bytes], None]
"""Lets a client begin with a root and refresh from these files."""


class _Watched(Mapping[str, bytes]):
    """The files, and which of them a client asked for."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files
        self.asked: set[str] = set()

    def __getitem__(self, path: str) -> bytes:
        self.asked.add(path)
        return self._files[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def bootstrap_floors(archive: Archive, *, now: datetime) -> dict[str, int | None]:
    """The floor of each client, or None where it does not get through even from the newest root."""
    files = archive.files()
    walks: dict[str, Walk] = {
        "kedge": lambda files, root: read_with_kedge(files, root, (), now),
        "python-tuf": lambda files, root: read_with_python_tuf(files, root, (), SystemClock().now()),
    }
    return {name: _floor(archive, files, walk) for name, walk in walks.items()}


def _floor(archive: Archive, files: Mapping[str, bytes], walk: Walk) -> int | None:
    versions = sorted(archive.roots)
    newest = archive.roots[versions[-1]].parsed if versions else None
    if newest is None:
        return None
    # Who takes the newest root asks for the one after it.
    after = f"metadata/{newest.signed.version + 1}.root.json"
    behind = _outcome(files, newest.data, walk, after)
    if not behind.past_roots:
        return None
    low, high = 0, len(versions) - 1  # the first position from which it gets through lies between them
    while low < high:
        middle = (low + high) // 2
        parsed = archive.roots[versions[middle]].parsed
        if parsed is not None and _outcome(files, parsed.data, walk, after) == behind:
            high = middle
        else:
            low = middle + 1
    return versions[low]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How far a client came. ``past_roots``: it took the newest root."""

    past_roots: bool
    refusal: str | None


def _outcome(files: Mapping[str, bytes], root: bytes, walk: Walk, after: str) -> _Outcome:
    watched, refusal = _Watched(files), None
    try:
        walk(watched, root)
    except VerificationError as error:
        # One file is called "initial root" by who starts from it, and by its name by who comes upon it.
        refusal = error.message.partition(": ")[2] or error.message
    return _Outcome(past_roots=after in watched.asked, refusal=refusal)


def audit(source: Source, *, now: datetime, floor: int | None = None) -> Audit:
    """Audit ``source`` through its whole history, as of ``now``; nothing that it holds raises or is written.

    ``floor`` is the oldest root that clients must still be able to start from: a workspace of one's own answers for its
    first root unless told otherwise.
    """
    archive = read_archive(source)
    expected = 1 if floor is None and source.is_workspace else floor
    found = audit_archive(archive, now=now, floor=expected)
    if not source.is_workspace:
        return found
    extra = tuple(_workspace(Workspace(root=Path(source.name))))
    return Audit(
        source=found.source,
        at=found.at,
        roots=found.roots,
        floors=found.floors,
        findings=(*found.findings, *extra),
        history=found.history,
    )


def audit_archive(archive: Archive, *, now: datetime, floor: int | None = None) -> Audit:
    """Audit what was read already."""
    floors = bootstrap_floors(archive, now=now)
    reached = [version for version in floors.values() if version is not None]
    judged = judge(archive, floor=_bound(reached, floor), now=now)
    return Audit(
        source=archive.source,
        at=now,
        roots=max(archive.roots, default=0),
        floors=floors,
        findings=(*judged.findings, *(() if _lacks_roots(archive) else _floor_findings(floors, floor))),
        history=tuple(judged.history),
    )


def _bound(reached: list[int], expected: int | None) -> int | None:
    """Below which root a break meets no client: none of them gets through from there, and none is promised to."""
    if not reached:
        return None
    return min(reached) if expected is None else min(*reached, expected)


def _lacks_roots(archive: Archive) -> bool:
    """Whether the chain could not be read whole: then no floor says anything of the repository."""
    return bool(archive.limits) or any(file.endswith(".root.json") for file, _ in archive.unread)


def _floor_findings(floors: Mapping[str, int | None], expected: int | None) -> Iterator[AuditFinding]:
    for name, version in floors.items():
        if version is None:
            severity, text = Severity.ERROR, f"{name} gets through from no root at all"
        elif expected is not None and version > expected:
            text = f"{name} gets through from root version {version} on, and has to from version {expected} on"
            severity = Severity.ERROR
        elif version > 1:
            text = f"{name} gets through from root version {version} on; whoever has an older one needs a newer client"
            severity = Severity.WARNING
        else:
            continue
        yield AuditFinding(
            rule=Rule.BOOTSTRAP_FLOOR, severity=severity, file="root.json", role="root", version=version, message=text
        )


def _workspace(workspace: Workspace) -> Iterator[AuditFinding]:
    """What a workspace holds beside its metadata: the policy with its keys, and open events."""
    try:
        workspace.keys(workspace.policy())
    except KedgeError as error:
        yield AuditFinding(rule=Rule.POLICY, severity=Severity.ERROR, file=POLICY_FILE, message=error.message)
        return
    for name in workspace.events():
        try:
            stand(workspace, name)
        except KedgeError as error:
            file = f"events/{name}/event.json"
            yield AuditFinding(rule=Rule.EVENT, severity=Severity.WARNING, file=file, message=error.message)
