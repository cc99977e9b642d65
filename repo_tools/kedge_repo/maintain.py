"""What maintainers do with a workspace between two publications. Each function is one command, for programs as well.

Every change lands in a signing event: with none open one is opened, with several the caller says which. Everything here
takes the workspace's lock to write, reads afresh under it, and writes nothing unless all of it is right. How signatures
come in stands in :mod:`kedge_repo.collect`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from kedge.document import blame_user
from kedge.errors import InputError, ThresholdError
from kedge_repo.event import Base, Event
from kedge_repo.eventfiles import discard_event, save_event
from kedge_repo.plan import Plan, View
from kedge_repo.standing import Standing, choose_event, stand
from kedge_repo.threshold import Progress
from kedge_repo.workspace import Workspace

__all__ = ["Change", "Merged", "Wish", "cancel_event", "change", "merge_event", "unmet"]

Wish = Callable[[View], Plan]
"""What is wanted, as a function of :mod:`kedge_repo.plan` with its arguments bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a change came to. ``dropped`` lists whose signatures it cost: (role, keyholder)."""

    event: Event
    opened: bool
    changes: tuple[str, ...]
    dropped: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """An event that became part of the signed metadata: role versions, and target paths that changed."""

    event: str
    versions: Mapping[str, int]
    targets: tuple[str, ...]


def change(
    workspace: Workspace,
    wish: Wish,
    *,
    now: datetime,
    event: str | None = None,
    reason: str | None = None,
    drop_signatures: bool = False,
) -> Change:
    """Make a change and keep it in an event: ``change(ws, lambda view: plan.add_target(view, path, data), now=…)``.

    Raises:
        InputError: the change is not possible, several events are open, or it would drop signatures that were collected
            and ``drop_signatures`` was not given.
        StoreError: the workspace cannot be locked or written.
    """
    with workspace.lock():
        standing = stand(workspace, event)
        plan = wish(standing.view(now))
        before = standing.event or _opened(standing, plan, reason, now)
        dropped = tuple((role, standing.owner(keyid)) for role, keyid in before.dropped_by(plan))
        if dropped and not drop_signatures:
            whose = ", ".join(f"{who} on {role}" for role, who in dropped)
            raise InputError(
                f"event {before.name}: this change would drop signatures already collected: {whose}",
                hint="say so with --drop-signatures, or merge the event first",
            )
        changed = before.apply(plan)
        save_event(workspace, changed)
    return Change(event=changed, opened=standing.event is None, changes=plan.changes, dropped=dropped)


def merge_event(workspace: Workspace, *, event: str | None = None) -> Merged:
    """Make an event that has all its signatures part of the signed metadata.

    An interrupted merge is completed by merging again.

    Raises:
        ThresholdError: signatures are missing; the text says whose.
        InputError: there is no such event, or it no longer fits the signed metadata.
        VerificationError: the metadata with the event merged would not verify.
    """
    with workspace.lock():
        # Verified below with the event on top: by itself, what an interrupted merge left behind may not verify.
        standing = stand(workspace, choose_event(workspace, event), signed=workspace.signed())
        current = standing.open_event()
        missing = unmet(current.progress(standing.signed))
        if missing:
            raise _threshold_error(standing, current, missing)
        _write_merged(standing, current)
        discard_event(workspace, current.name)
    return Merged(
        event=current.name,
        versions={role: payload.version for role, payload in current.payloads.items()},
        targets=tuple(current.targets),
    )


def cancel_event(workspace: Workspace, *, event: str | None = None) -> str:
    """Throw an event away, with its signatures; its name is returned.

    Raises:
        InputError: there is no such event.
        StoreError: the workspace cannot be locked or written.
    """
    with workspace.lock():
        name = choose_event(workspace, event)
        if name not in workspace.events():
            raise InputError(f'there is no open event "{name}"')
        discard_event(workspace, name)
    return name


def unmet(found: Mapping[str, tuple[Progress, ...]]) -> dict[str, tuple[Progress, ...]]:
    """The roles and groups that still need signatures."""
    return {role: short for role, parts in found.items() if (short := tuple(part for part in parts if part.need))}


def _opened(standing: Standing, plan: Plan, reason: str | None, now: datetime) -> Event:
    text = (reason or plan.changes[0].split(": ")[0]).strip()
    if not text or not text.isprintable():
        raise InputError("--reason: must be one line of printable text")
    slug = re.sub(r"[^a-z0-9]+", "-", plan.changes[0].split(": ")[0].lower()).strip("-")[:60].strip("-")
    return Event(name=f"{now:%Y-%m-%d}-{slug}", reason=text, opened=now, base=Base.of(standing.signed))


def _write_merged(standing: Standing, event: Event) -> None:
    with blame_user(f"event {event.name}"):
        files = {role: item.with_signatures(event.signatures[role]) for role, item in event.payloads.items()}
    standing.signed.with_roles(files).verify()
    workspace = standing.workspace
    for path, data in event.targets.items():
        if data is not None:
            workspace.write_target(path, data)
    for role, parsed in files.items():
        workspace.write_metadata(event.payloads[role].file, parsed.data)
    for path, data in event.targets.items():
        if data is None:
            workspace.remove_target(path)
    for keyholder, pem in event.keys.items():
        workspace.write_key(standing.policy.keyholders[keyholder].public, pem)
    if event.policy_text is not None:
        workspace.write_policy(event.policy_text)


def _threshold_error(standing: Standing, event: Event, missing: Mapping[str, tuple[Progress, ...]]) -> ThresholdError:
    parts = [
        f"{role} version {event.payloads[role].version} has {len(part.have)} of {part.group.threshold} that "
        f"{part.group.delegator} asks for, missing: {', '.join(standing.owner(keyid) for keyid in part.missing)}"
        for role, groups in missing.items()
        for part in groups
    ]
    return ThresholdError(
        f"event {event.name}: more signatures are needed: {'; '.join(parts)}",
        hint="hand the missing keyholders the request that kedge-repo event export writes",
    )
