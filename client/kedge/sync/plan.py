"""Which files a copy consists of, where they lie, and in which order they may appear.

Two rules keep every reader whole, whenever they look:

- A file appears before the file that names it: targets, targets roles, snapshot, roots, and the timestamp last.
- Where a new root no longer trusts the keys of what is served (an online key was replaced), or where names do not
  change with their content (no consistent snapshots), no order is right: then the folder is exchanged as a whole.

Every file keeps its name for ever where snapshots are consistent; so old ones may stay for as long as anybody likes.
A copy keeps each timestamp as ``<version>.timestamp.json`` too, which no client asks for and a history needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from kedge.census import Listed, every_target
from kedge.errors import VerificationError
from kedge.metadata import SNAPSHOT, TARGETS, TIMESTAMP, Parsed, parse, require_threshold
from kedge.state import RootFile, TrustedState
from kedge.transport.directory import file_name
from kedge.workflow import target_paths

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile

__all__ = ["Layout", "Plan", "TargetCopy", "plan", "survives"]

ReadFile = Callable[[str], bytes | None]
"""Gives a file of the copy as it is now, by its path, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where in the folder metadata and targets lie; the empty text is its top."""

    metadata: str = "metadata"
    targets: str = "targets"

    def metadata_path(self, request: str) -> str:
        """The path in the folder of a metadata file that is asked for as ``request``."""
        return _below(self.metadata, request)

    def target_path(self, request: str) -> str:
        """The path in the folder of a target file that is asked for as ``request``."""
        return _below(self.targets, request)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetCopy:
    """A target: what is asked for, and where it goes; ``paths`` has more than one entry where clients differ."""

    target: TargetFile
    request: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All files of the copy. ``metadata`` are path and content in the order in which they may appear.

    With ``as_a_whole`` no order is right. ``may_change`` says that a name may be given to other content.
    """

    targets: tuple[TargetCopy, ...]
    metadata: tuple[tuple[str, bytes], ...]
    as_a_whole: bool
    may_change: bool

    @property
    def paths(self) -> frozenset[str]:
        """Every path of the copy."""
        return frozenset((*(path for target in self.targets for path in target.paths), *dict(self.metadata)))


def plan(
    state: TrustedState,
    layout: Layout,
    *,
    older_roots: Iterable[RootFile] = (),
    wanted: Callable[[Listed], bool] = lambda _listed: True,
    served: ReadFile,
) -> Plan:
    """Plan the copy of a complete state that holds every role; ``served`` gives what the copy consists of now.

    ``older_roots`` are roots before the first of the state, ``wanted`` chooses targets.
    """
    consistent = bool(state.root.consistent_snapshot)
    copies = dict(_copies(state, layout, wanted, consistent=consistent))
    timestamp = _held(state.timestamp)
    metadata = [*_versioned(state, layout, consistent=consistent)]
    metadata.append((layout.metadata_path(f"{timestamp.signed.version}.timestamp.json"), timestamp.data))
    metadata += [
        (layout.metadata_path(f"{root.version}.root.json"), root.data) for root in (*older_roots, *state.roots)
    ]
    metadata.append((layout.metadata_path("timestamp.json"), timestamp.data))
    return Plan(
        targets=tuple(copies.values()),
        metadata=tuple(metadata),
        as_a_whole=not survives(state, layout, served) or (not consistent and served(metadata[-1][0]) is not None),
        may_change=not consistent,
    )


def survives(state: TrustedState, layout: Layout, served: ReadFile) -> bool:
    """Whether what is served now is still right by the newest root, so that the root may appear before the rest."""
    found = served(layout.metadata_path("timestamp.json"))
    if found is None:
        return True  # nothing is served: nobody can be misled
    try:
        timestamp = parse(found, TIMESTAMP, file="timestamp.json")
        require_threshold(state.root, TIMESTAMP.type, timestamp)
        version = timestamp.signed.snapshot_meta.version
        snapshot = parse(served(layout.metadata_path(f"{version}.snapshot.json")) or b"", SNAPSHOT, file="snapshot")
        require_threshold(state.root, SNAPSHOT.type, snapshot)
        version = snapshot.signed.meta[f"{TARGETS.type}.json"].version
        targets = parse(served(layout.metadata_path(f"{version}.targets.json")) or b"", TARGETS, file="targets")
        require_threshold(state.root, TARGETS.type, targets)
    except (VerificationError, KeyError):
        return False
    return True


def _copies(
    state: TrustedState, layout: Layout, wanted: Callable[[Listed], bool], *, consistent: bool
) -> Iterator[tuple[str, TargetCopy]]:
    for listed in every_target(state):
        if wanted(listed):
            paths = target_paths(listed.target, consistent=consistent)
            places = tuple(layout.target_path(path) for path in paths)
            yield paths[0], TargetCopy(target=listed.target, request=paths[0], paths=places)


def _versioned(state: TrustedState, layout: Layout, *, consistent: bool) -> Iterator[tuple[str, bytes]]:
    roles: list[tuple[str, Parsed[Any]]] = [*state.roles.items()]
    # A delegated role before the one that delegates to it, as far as a role is held in the order of its delegation.
    for name, role in (*reversed(roles), ("snapshot", _held(state.snapshot))):
        prefix = f"{role.signed.version}." if consistent else ""
        yield layout.metadata_path(f"{prefix}{quote(name, safe='')}.json"), role.data


def _below(folder: str, request: str) -> str:
    name = "/".join(map(file_name, request.split("/")))
    return f"{folder.strip('/')}/{name}" if folder.strip("/") else name


def _held(parsed: Parsed[Any] | None) -> Parsed[Any]:
    if parsed is None:
        raise RuntimeError("a copy is made of a complete state")
    return parsed
