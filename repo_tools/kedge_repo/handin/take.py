"""Taking a hand-in: checked under the workspace's lock, kept as an event, and merged if nobody else has to sign.

Where the delegation asks for the repository's signature beside the registry's (two owners), the event stays open with
what was handed in, and the maintainers sign it as any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kedge.errors import InputError
from kedge.findings import Finding
from kedge_repo.event import Base, Event
from kedge_repo.eventfiles import save_event
from kedge_repo.handin.check import check_hand_in
from kedge_repo.handin.file import HandIn
from kedge_repo.maintain import Merged, merge_event, unmet
from kedge_repo.signed import SignedMetadata
from kedge_repo.standing import open_roles, read_signed
from kedge_repo.workspace import Workspace

__all__ = ["Taken", "take_hand_in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What became of a hand-in. ``merged`` is None where more signatures are needed first, or with a dry run."""

    event: str
    role: str
    version: int
    changes: tuple[str, ...]
    findings: tuple[Finding, ...]
    merged: Merged | None


def take_hand_in(
    workspace: Workspace, hand_in: HandIn, *, now: datetime, file: str = "hand-in", dry_run: bool = False
) -> Taken:
    """Take a hand-in within the policy, or refuse it and change nothing; ``dry_run`` only says what would be.

    Raises:
        InputError: nothing is taken for this role, or an open event changes it.
        VerificationError: it is refused; the text says why.
        StoreError: the workspace cannot be locked or written.
    """
    with workspace.lock():
        signed = read_signed(workspace)
        _check_open(workspace, signed, hand_in, file)
        held = {
            path: workspace.target(path)
            for payload in hand_in.request.payloads
            if payload.role in signed.delegated
            for path in signed.delegated[payload.role].signed.targets
        }
        checked = check_hand_in(hand_in, signed, workspace.policy(), held, now=now, file=file)
        event = Event(
            name=hand_in.request.event,
            reason=_one_line(hand_in.request.reason),
            opened=now,
            base=Base.of(signed),
            changes=checked.changes,
            payloads=(checked.payload,),
            targets=checked.targets,
            signatures={checked.payload.sha256: checked.signatures},
        )
        if event.name in workspace.events():
            raise InputError(f"{file}: the event {event.name} is open already")
        due = not unmet(event.progress(signed))
        if not dry_run:
            save_event(workspace, event)
    merged = merge_event(workspace, event=event.name, now=now) if due and not dry_run else None
    return Taken(
        event=event.name,
        role=checked.payload.role,
        version=checked.payload.version,
        changes=checked.changes,
        findings=checked.findings,
        merged=merged,
    )


def _check_open(workspace: Workspace, signed: SignedMetadata, hand_in: HandIn, file: str) -> None:
    roles = {payload.role for payload in hand_in.request.payloads}
    for name, changed in open_roles(workspace, signed).items():
        if roles & set(changed):
            raise InputError(
                f"{file}: the event {name} changes {', '.join(sorted(roles & set(changed)))} already",
                hint="merge or cancel it first",
            )


def _one_line(reason: str) -> str:
    return "".join(sign for sign in reason if sign.isprintable()).strip() or "hand-in"
