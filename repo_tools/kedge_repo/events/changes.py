"""What maintainers do with a workspace between two publications. Each function is one command, for programs as well.

Every change lands in a signing event: with none open one is opened, with several the caller says which. Everything here
takes the workspace's lock to write, reads afresh under it, and writes nothing unless all of it is right. How signatures
come in stands in :mod:`kedge_repo.events.signatures`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain, count

from kedge.documents import blame_user
from kedge.errors import InputError, KedgeError, ThresholdError
from kedge_repo.events.event import Base, Event, Signing, discard_event, record_signing, save_event
from kedge_repo.events.open_event import (
    Standing,
    choose_event,
    open_roles,
    read_signed,
    stale_events,
    stand,
    without_event,
)
from kedge_repo.events.plan import Plan, View
from kedge_repo.signing import Progress
from kedge_repo.workspace import Payload, SignedMetadata, Workspace, check_name

_MAX_TOPIC = 40

Wish = Callable[[View], Plan]
"""What is wanted, as a function of :mod:`kedge_repo.plan` with its arguments bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a change came to. ``dropped`` lists whose signatures it cost: (role, keyholder).

    ``rivals`` are other open events that change one of its roles: (event, role). Whichever is merged first, the others
    no longer fit. ``stale`` are open events that no longer fit already.
    """

    event: Event
    opened: bool
    changes: tuple[str, ...]
    dropped: tuple[tuple[str, str], ...]
    rivals: tuple[tuple[str, str], ...] = ()
    stale: tuple[str, ...] = ()


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
    on_top: bool = False,
    apart: bool = False,
) -> Change:
    """Make a change and keep it in an event: ``change(ws, lambda view: plan.add_target(view, path, data), now=…)``.

    With ``on_top``, a root that the event changes already keeps its payload and its signatures: the change makes one
    more root version after it. With ``apart``, it opens an event of its own, whatever is open. Stale events are
    passed over: with no other open, one is opened.

    Raises:
        InputError: the change is not possible, several events are open, or it would drop signatures that were collected
            and ``drop_signatures`` was not given.
        StoreError: the workspace cannot be locked or written.
    """
    with workspace.lock():
        signed = read_signed(workspace)
        stale = stale_events(workspace, signed)
        if apart or (event is None and set(workspace.events()) == set(stale)):
            standing = without_event(workspace, signed)
        else:
            standing = stand(workspace, event, signed=signed)
        plan = wish(standing.view(now, on_top=on_top))
        before = standing.event or _opened(standing, plan, reason, now)
        if before.is_empty:
            before = replace(before, base=Base.of(standing.signed))
        with blame_user(f"event {before.name}"):
            changed = before.apply(plan, standing.signed)
        dropped = tuple((role, standing.owner(keyid)) for role, keyid in before.lost_against(changed))
        if dropped and not drop_signatures:
            whose = ", ".join(f"{who} on {role}" for role, who in dropped)
            other = ", put a root version of its own on top with --on-top" if ("root" in dict(dropped)) else ""
            raise InputError(
                f"event {before.name}: this change would drop signatures already collected: {whose}",
                hint=f"say so with --drop-signatures{other}, or merge the event first",
            )
        save_event(workspace, changed)
        roles = {payload.role for payload in plan.payloads}
        rivals = tuple(
            (name, role)
            for name, signs in open_roles(workspace, standing.signed).items()
            if name != changed.name
            for role in signs
            if role in roles
        )
    return Change(
        event=changed,
        opened=standing.event is None,
        changes=plan.changes,
        dropped=dropped,
        rivals=rivals,
        stale=stale,
    )


def new_event(workspace: Workspace, name: str, reason: str, *, now: datetime) -> Event:
    """Open an event that has no changes yet; other events may be open beside it.

    Raises:
        InputError: the name or the reason cannot be one, the name is taken, or no root is signed yet.
        VerificationError: the signed metadata does not verify.
        StoreError: the workspace cannot be locked or written.
    """
    with blame_user("NAME"):
        check_name(name)
    with workspace.lock():
        if name in workspace.events():
            raise InputError(f"event {name}: is open already")
        signed = read_signed(workspace)
        if signed.root is None:
            raise InputError("metadata/1.root.json: is missing", hint="sign and merge the first ceremony first")
        event = Event(name=name, reason=_one_line(reason), opened=now, base=Base.of(signed))
        save_event(workspace, event)
    return event


def merge_event(workspace: Workspace, *, event: str | None = None, now: datetime | None = None) -> Merged:
    """Make an event that has all its signatures part of the signed metadata.

    An interrupted merge is completed by merging again. With ``now``, how long signing took is kept for forecasts.

    Raises:
        ThresholdError: signatures are missing; the text says whose.
        InputError: there is no such event, or it no longer fits the signed metadata.
        VerificationError: the metadata with the event merged would not verify.
    """
    with workspace.lock():
        # Verified below with the event on top: by itself, what an interrupted merge left behind may not verify.
        signed = workspace.signed()
        standing = stand(workspace, choose_event(workspace, event, signed), signed=signed)
        current = standing.open_event()
        if current.is_empty:
            raise InputError(f"event {current.name}: has no changes yet, so there is nothing to merge")
        missing = unmet(current.progress(standing.signed))
        if missing:
            raise _threshold_error(standing, current, missing)
        _write_merged(standing, current)
        if now is not None and current.payloads:
            record_signing(workspace, _signing(standing, current, now))
        discard_event(workspace, current.name)
    return Merged(
        event=current.name,
        versions={role: payload.version for role, payload in current.newest().items()},
        targets=tuple(current.targets),
    )


def cancel_event(workspace: Workspace, *, event: str | None = None) -> str:
    """Throw an event away, with its signatures, whatever its state: stale or damaged; its name is returned.

    Raises:
        InputError: there is no such event, or its merge was interrupted and has to be completed.
        StoreError: the workspace cannot be locked or written.
    """
    with workspace.lock():
        name = choose_event(workspace, event)
        if name not in workspace.events():
            raise InputError(f'there is no open event "{name}"')
        _check_no_merge_begun(workspace, name)
        discard_event(workspace, name)
    return name


def _check_no_merge_begun(workspace: Workspace, name: str) -> None:
    """A merge that was cut off is completed by merging again, for which the event is needed."""
    try:
        signed = workspace.signed()
        event = stand(workspace, name, signed=signed).open_event()
        if unmet(event.progress(signed)) or not _merged_in_part(event, signed):
            return
        signed.with_roles((item.role, item.with_signatures(event.signatures[item.sha256])) for item in event.payloads)
    except KedgeError:
        return
    raise InputError(
        f"event {name}: was merged in part, and cannot be cancelled",
        hint=f"complete it with kedge-repo event merge --event {name}",
    )


def _merged_in_part(event: Event, signed: SignedMetadata) -> bool:
    files = {parsed.payload for parsed in (*signed.roots, *signed.everything().values())}
    return any(payload.data in files for payload in event.payloads)


def unmet(found: Iterable[tuple[Payload, tuple[Progress, ...]]]) -> list[tuple[Payload, tuple[Progress, ...]]]:
    """The payloads and groups that still need signatures."""
    return [(payload, short) for payload, parts in found if (short := tuple(part for part in parts if part.need))]


def _opened(standing: Standing, plan: Plan, reason: str | None, now: datetime) -> Event:
    text = _one_line(reason or plan.changes[0].split(": ")[0])
    name = event_name(plan.topic, now)
    taken = standing.workspace.events()
    free = next(each for each in chain([name], (f"{name}-{n}" for n in count(2))) if each not in taken)
    return Event(name=free, reason=text, opened=now, base=Base.of(standing.signed))


def event_name(topic: str, now: datetime) -> str:
    """A name for an event about ``topic``: the day, and as many of its words as fit, none of them cut.

    A single word that is too long for that is left out, and the name is ``<day>-change``.
    """
    name = ""
    for word in re.findall(r"[a-z0-9]+", topic.lower()):
        longer = f"{name}-{word}" if name else word
        if len(longer) > _MAX_TOPIC:
            break
        name = longer
    return f"{now:%Y-%m-%d}-{name or 'change'}"


def _one_line(reason: str) -> str:
    text = reason.strip()
    if not text or not text.isprintable():
        raise InputError("--reason: must be one line of printable text")
    return text


def _write_merged(standing: Standing, event: Event) -> None:
    with blame_user(f"event {event.name}"):
        files = [(item, item.with_signatures(event.signatures[item.sha256])) for item in event.payloads]
    files.sort(key=lambda entry: entry[0].version)
    standing.signed.with_roles((item.role, parsed) for item, parsed in files).verify()
    workspace = standing.workspace
    for path, data in event.targets.items():
        if data is not None:
            workspace.write_target(path, data)
    for item, parsed in files:
        workspace.write_metadata(item.file, parsed.data)
    for path, data in event.targets.items():
        if data is None:
            workspace.remove_target(path)
    for keyholder, pem in event.keys.items():
        workspace.write_key(standing.policy.keyholders[keyholder].public, pem)
    if event.policy_text is not None:
        former = workspace.policy().keyholders.values()
        workspace.write_policy(event.policy_text)
        kept = {keyholder.public for keyholder in standing.policy.keyholders.values()}
        for public in {keyholder.public for keyholder in former} - kept:
            workspace.remove_key(public)


def _signing(standing: Standing, event: Event, now: datetime) -> Signing:
    keyids = {keyid for signatures in event.signatures.values() for keyid in signatures}
    return Signing(
        event=event.name,
        reason=event.reason,
        opened=min(event.opened, now),
        merged=now,
        roles=tuple(event.newest()),
        keyholders=tuple(sorted(standing.owner(keyid) for keyid in keyids)),
    )


def _threshold_error(
    standing: Standing, event: Event, missing: Iterable[tuple[Payload, tuple[Progress, ...]]]
) -> ThresholdError:
    parts = [
        f"{payload.role} version {payload.version} has {len(part.have)} of {part.group.threshold} that "
        f"{part.group.delegator} asks for, missing: {', '.join(standing.owner(keyid) for keyid in part.missing)}"
        for payload, groups in missing
        for part in groups
    ]
    return ThresholdError(
        f"event {event.name}: more signatures are needed: {'; '.join(parts)}",
        hint="hand the missing keyholders the request that kedge-repo event export writes",
    )
