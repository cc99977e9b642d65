"""What a role's keyholders start from: the published repository, read as any client reads it, from a root they trust.

Nothing is copied from the maintainers' workspace, and nobody has to send anything. The mirror's word is taken for
nothing: the chain, snapshot, the role and its targets are verified with the client's own workflow.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote, unquote

from tuf.api.metadata import Snapshot, TargetFile, Targets

from kedge import workflow
from kedge.checks import Freshness, begin, content_matches
from kedge.drive import run
from kedge.errors import FetchError, InputError, Reason, Refusal, VerificationError
from kedge.metadata import Parsed, parse, require_threshold
from kedge.state import TrustedState
from kedge.steps import Area, Fetch, Limits
from kedge.transport import Deadline, Mirror, Transport, open_mirror

__all__ = ["Published", "read_published"]

_LIMITS = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A published repository as far as one role needs it, verified. ``contents`` are the bytes of its targets."""

    roots: tuple[bytes, ...]
    targets: Parsed[Targets]
    snapshot: Parsed[Snapshot]
    role: Parsed[Targets]
    contents: dict[str, bytes]


def read_published(place: str, root: bytes, role: str, *, now: datetime, timeout_s: float = 60.0) -> Published:
    """Read what ``place`` (a URL or a folder) publishes of ``role``, starting from ``root``, which must be trusted.

    Raises:
        InputError: targets does not delegate to the role, or the place cannot be used.
        VerificationError: what is published must not be trusted.
        ExpiredError: it has expired.
        FetchError: it cannot be had in time.
    """
    transport = open_mirror(Mirror(url=place))
    reader = _Reader(transport, Deadline(timeout_s))
    try:
        state = reader.refresh(root, now)
        parsed = reader.role(state, role)
        contents = {path: reader.target(target) for path, target in parsed.signed.targets.items()}
        targets, snapshot = state.targets, state.snapshot
        if targets is None or snapshot is None:
            raise InputError(f"{place}: publishes no targets")
        first = begin(root).root.version
        older = tuple(reader.get(f"{version}.root.json", _LIMITS.root_bytes) for version in range(1, first))
        return Published(
            roots=(*older, *(link.data for link in state.roots)),
            targets=targets,
            snapshot=snapshot,
            role=parsed,
            contents=contents,
        )
    finally:
        transport.close()


@dataclass(frozen=True, slots=True)
class _Reader:
    transport: Transport
    deadline: Deadline

    def refresh(self, root: bytes, now: datetime) -> TrustedState:
        steps = workflow.refresh(begin(root), Freshness(reference_time=now))
        return run(steps, lambda request: self.transport.get(request, self.deadline))

    def role(self, state: TrustedState, role: str) -> Parsed[Targets]:
        meta = state.snapshot.signed.meta.get(f"{role}.json") if state.snapshot is not None else None
        if state.targets is None or meta is None:
            raise InputError(f"--role: the repository has no role {role}")
        file = f"{meta.version}.{role}.json"
        data = self.get(f"{meta.version}.{quote(role, safe='')}.json", _LIMITS.targets_bytes)
        if not content_matches(meta, data):
            raise _refuse(file, "is not the file that the signed snapshot names", role)
        parsed = parse(data, Targets, file=file)
        require_threshold(state.targets.signed, role, parsed)
        if parsed.signed.version != meta.version:
            raise _refuse(
                file, f"is version {parsed.signed.version}, and the signed snapshot lists {meta.version}", role
            )
        return parsed

    def target(self, target: TargetFile) -> bytes:
        folder, _, name = target.path.rpartition("/")
        digest = target.hashes.get("sha256", "")
        path = "/".join(quote(unquote(part), safe="") for part in (*folder.split("/"), f"{digest}.{name}") if part)
        data = self.transport.get(Fetch(Area.TARGETS, path, target.length), self.deadline)
        if not isinstance(data, bytes):
            raise FetchError(f"{target.path}: is not there", hint="the mirror is incomplete: try another one")
        if not content_matches(target, data):
            raise _refuse(target.path, "is not the file that was signed for", None)
        return data

    def get(self, path: str, max_bytes: int) -> bytes:
        data = self.transport.get(Fetch(Area.METADATA, path, max_bytes), self.deadline)
        if not isinstance(data, bytes):
            raise FetchError(f"{path}: is not there", hint="the mirror is incomplete: try another one")
        return data


def _refuse(file: str, problem: str, role: str | None) -> VerificationError:
    return VerificationError(f"{file}: {problem}", refusal=Refusal(reason=Reason.CONTENT, file=file, role=role))
