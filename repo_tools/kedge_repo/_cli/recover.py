"""``kedge-repo recover``: keys are lost or stolen; what is still possible, and the event that does it.

A recovery, and its rehearsal, as the JSON object that ``--json`` answers with, ``kedge.recovery/1``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from tuf.api.metadata import Key

from kedge.documents import blame_user
from kedge.errors import ExitCode, InputError
from kedge_repo._cli.options import (
    AsJson,
    WorkspaceFolder,
    answer,
    answer_json,
    open_workspace,
    present,
    say,
    table,
    tell_others,
)
from kedge_repo.audit import (
    Harm,
    Recovery,
    Rehearsal,
    TargetCopy,
    Verdict,
    plan_recovery,
    recovery_plan,
    rehearse_recovery,
)
from kedge_repo.events import change, read_signed, signed_view
from kedge_repo.workspace import Workspace, parse_public_key, read_file


def recovery_table(recovery: Recovery, rehearsal: Rehearsal | None, event: str | None) -> dict[str, Any]:
    """The object; ``event`` is the one that was opened, if one was."""
    return {
        "format": "kedge.recovery/1",
        "repository": recovery.repository,
        "lost": sorted(recovery.harm.lost),
        "stolen": sorted(recovery.harm.stolen),
        "verdict": recovery.verdict.value,
        "roles": [
            {
                "role": role.role,
                "bins": role.bins,
                "threshold": role.threshold,
                "holders": list(role.holders),
                "able": list(role.able),
                "thieves": list(role.thieves),
                "can_sign": role.can_sign,
                "thief_can": role.thief_can,
            }
            for role in recovery.roles
        ],
        "rotated": list(recovery.rotated),
        "dropped": list(recovery.dropped),
        "wanted": list(recovery.wanted),
        "changes": list(recovery.changes),
        "needs": [
            {
                "role": need.role,
                "version": need.version,
                "asked_by": need.asked_by,
                "threshold": need.threshold,
                "able": list(need.able),
                "enough": need.enough,
            }
            for need in recovery.needs
        ],
        "steps": list(recovery.steps),
        "event": event,
        "rehearsal": None if rehearsal is None else _rehearsal(rehearsal),
    }


def _rehearsal(rehearsal: Rehearsal) -> dict[str, Any]:
    return {
        "as_expected": rehearsal.as_expected,
        "acts": [
            {
                "what": act.what,
                "as_expected": act.as_expected,
                "sights": [
                    {"client": sight.client, "accepted": sight.accepted, "saw": sight.saw} for sight in act.sights
                ],
            }
            for act in rehearsal.acts
        ],
    }


_VERDICTS = {
    Verdict.RECOVERABLE: "it can be set right, by the steps below",
    Verdict.NEEDS_KEYS: "it can be set right, once there are new keys",
    Verdict.RACE: "the thief alone can replace root: no order of steps is certain to win",
    Verdict.NEW_ANCHOR: "root can never be signed again: this repository has to begin anew",
}


def recover(
    lost: Annotated[
        list[str] | None, typer.Option("--lost", metavar="NAME", help="A keyholder who cannot sign any more.")
    ] = None,
    stolen: Annotated[
        list[str] | None, typer.Option("--stolen", metavar="NAME", help="A keyholder whose key a thief has as well.")
    ] = None,
    new_key: Annotated[
        list[str] | None,
        typer.Option("--new-key", metavar="NAME=FILE", help="The new public key of one of them; else taken out."),
    ] = None,
    open_event: Annotated[bool, typer.Option("--open", help="Open the event that does it.")] = False,
    play: Annotated[
        bool, typer.Option("--rehearse", help="Play it through on a copy with throw-away keys, with real clients.")
    ] = False,
    folder: WorkspaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Say what is still possible after keys were lost or stolen, in which order, and open the event that does it.

    Exit 5 where no event of this repository can set it right, or where a rehearsal did not come as expected.
    """
    workspace = open_workspace(folder)
    harm = Harm(lost=frozenset(lost or ()), stolen=frozenset(stolen or ()))
    keys = _new_keys(new_key or [])
    now = present()
    found = plan_recovery(signed_view(workspace, now), harm, keys)
    rehearsal = _rehearse(workspace, harm) if play else None
    event = None
    if open_event:
        event = _open(workspace, found, keys)
    if as_json:
        answer_json(recovery_table(found, rehearsal, event))
    else:
        answer(*_lines(found), *(_played(rehearsal) if rehearsal is not None else ()))
        if event is not None:
            say(f"opened event {event}: hand out its request with kedge-repo event export")
    if rehearsal is not None and not rehearsal.as_expected:
        raise typer.Exit(ExitCode.FAULTS)
    raise typer.Exit(found.exit_code)


def _new_keys(given: list[str]) -> dict[str, Key]:
    found: dict[str, Key] = {}
    for text in given:
        name, equals, file = text.partition("=")
        if not equals or not name or not file:
            raise InputError(f"--new-key: must be NAME=FILE, not {text[:80]}")
        if name in found:
            raise InputError(f"--new-key: {name} was given twice")
        data = read_file(Path(file), what="public key", max_bytes=100_000)
        with blame_user(file):
            found[name] = parse_public_key(data)
    return found


def _open(workspace: Workspace, found: Recovery, keys: dict[str, Key]) -> str:
    if found.verdict is Verdict.NEW_ANCHOR:
        raise InputError("recover: no event can do it, for root can never be signed again")
    if found.wanted:
        raise InputError(
            f"recover: new keys are needed first, of {', '.join(found.wanted)}", hint="give them with --new-key"
        )
    opened = change(
        workspace,
        lambda view: recovery_plan(view, found.rotated, found.dropped, keys),
        now=present(),
        reason=found.harm.reason,
        apart=True,
    )
    tell_others(opened)
    return opened.event.name


def _rehearse(workspace: Workspace, harm: Harm) -> Rehearsal:
    signed = read_signed(workspace)
    roles = [*signed.delegated.values(), *([signed.targets] if signed.targets is not None else [])]
    targets = [
        TargetCopy(path=path, data=workspace.target(path), custom=target.custom)
        for parsed in roles
        for path, target in parsed.signed.targets.items()
    ]
    with tempfile.TemporaryDirectory(prefix="kedge-rehearsal-") as folder:
        return rehearse_recovery(Path(folder), workspace.policy_text(), targets, harm, now=present())


def _lines(found: Recovery) -> Iterator[str]:
    yield f"repository {found.repository}: {found.harm.reason}"
    yield _VERDICTS[found.verdict]
    yield ""
    yield from table(
        (
            role.role,
            f"{role.threshold} of {len(role.holders)}",
            f"{len(role.able)} can still sign",
            _thief(len(role.thieves), role.thief_can, role.power),
        )
        for role in found.roles
    )
    yield ""
    yield from (f"{number}. {step}" for number, step in enumerate(found.steps, 1))


def _thief(count: int, alone: bool, power: str) -> str:
    if not count:
        return "no key of it is stolen"
    return f"the thief can {power}" if alone else f"the thief has {count}, too few"


def _played(rehearsal: Rehearsal) -> Iterator[str]:
    yield ""
    yield "rehearsal, on a copy with throw-away keys:"
    for act in rehearsal.acts:
        yield f"  {'✓' if act.as_expected else '✗'} {act.what}"
        yield from (f"      {sight.client}: {sight.saw}" for sight in act.sights)
    yield "it came as expected" if rehearsal.as_expected else "it did NOT come as expected"
