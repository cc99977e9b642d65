"""``kedge-repo event``: how far a signing event has come, and what moves it on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from kedge._cli import PLAIN
from kedge.documents import blame_user, format_time
from kedge.errors import InputError
from kedge_repo._cli.lint import AcceptFindings, require_lint
from kedge_repo._cli.options import (
    AsJson,
    EventName,
    SampleFile,
    WorkspaceFolder,
    answer,
    answer_json,
    columns,
    open_sample,
    open_workspace,
    present,
    say,
)
from kedge_repo.events import (
    EventStatus,
    GroupStatus,
    Imported,
    RawSignature,
    cancel_event,
    choose_event,
    event_status,
    import_raw,
    import_responses,
    merge_event,
    new_event,
    own_request,
)
from kedge_repo.signing import Response, request_changes, request_code, review_request, review_table
from kedge_repo.workspace import read_file, replace_file

app = typer.Typer(
    **PLAIN, help="Signing events: new, status, review, export, import, merge, cancel.", no_args_is_help=True
)


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for those who sign.")],
    folder: WorkspaceFolder = None,
) -> None:
    """Open a signing event; changes are made in it until it is merged or cancelled."""
    answer(new_event(open_workspace(folder), name, reason, now=present()).name)


@app.command("status")
def status(event: EventName = None, folder: WorkspaceFolder = None, as_json: AsJson = False) -> None:
    """Show who signed and who is missing."""
    found = event_status(open_workspace(folder), event=event)
    if as_json:
        answer_json(_value(found))
    else:
        answer(*_lines(found))


@app.command("review")
def review(
    sample: SampleFile = None, event: EventName = None, folder: WorkspaceFolder = None, as_json: AsJson = False
) -> None:
    """Show in words what the event changes, what follows from it, and its request code."""
    workspace = open_workspace(folder)
    verified = own_request(workspace, event=event)
    found = review_request(verified, now=present(), sample=open_sample(sample), life=workspace.policy().life())
    if as_json:
        answer_json(review_table(found))
    else:
        answer(*found.lines(width=columns()))


@app.command("export")
def export(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to (default: <event>.request.json).")
    ] = None,
    accept_lint_errors: AcceptFindings = False,
    event: EventName = None,
    folder: WorkspaceFolder = None,
) -> None:
    """Write the event's signing request: one file, to be handed to keyholders."""
    workspace = open_workspace(folder)
    verified = own_request(workspace, event=event)
    require_lint(request_changes(verified), now=present(), accept_errors=accept_lint_errors)
    request = verified.request
    path = out or Path(f"{request.event}.request.json")
    replace_file(path, request.to_bytes())
    say(f"request code: {request_code(request)}")
    answer(str(path))


@app.command("import")
def import_(
    files: Annotated[list[Path] | None, typer.Argument(metavar="FILE...", help="Responses from keyholders.")] = None,
    raw: Annotated[
        Path | None,
        typer.Option("--raw", metavar="FILE", help="Instead: the bytes of one signature, as openssl writes."),
    ] = None,
    role: Annotated[str | None, typer.Option("--role", metavar="ROLE", help="With --raw: what was signed.")] = None,
    keyid: Annotated[
        str | None, typer.Option("--keyid", metavar="ID", help="With --raw: the key, by keyid or fingerprint.")
    ] = None,
    event: EventName = None,
    folder: WorkspaceFolder = None,
) -> None:
    """Take in responses, or one bare signature; every signature is verified."""
    workspace = open_workspace(folder)
    if raw is not None:
        if files or role is None or keyid is None:
            raise InputError("event import: --raw FILE goes with --role and --keyid, and without responses")
        data = read_file(raw, what="signature", max_bytes=100_000)
        tell_imported(import_raw(workspace, RawSignature(file=str(raw), data=data, role=role, key=keyid), event=event))
        return
    if not files or role is not None or keyid is not None:
        raise InputError("event import: name responses, or one signature with --raw FILE --role ROLE --keyid ID")
    responses = []
    for file in files:
        data = read_file(file, what="response")
        with blame_user(str(file)):
            responses.append((str(file), Response.from_bytes(data)))
    tell_imported(import_responses(workspace, responses))


@app.command("merge")
def merge(event: EventName = None, folder: WorkspaceFolder = None) -> None:
    """Make an event that has all its signatures part of the signed metadata."""
    merged = merge_event(open_workspace(folder), event=event, now=present())
    if merged.versions:
        say(f"merged event {merged.event}; sign snapshot and timestamp with kedge-repo online")
    else:
        say(f"merged event {merged.event}: the policy has changed, nothing that is signed")
    answer(*(f"{role} version {version}" for role, version in merged.versions.items()))


@app.command("cancel")
def cancel(
    event: EventName = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    folder: WorkspaceFolder = None,
) -> None:
    """Throw an event away, with its signatures."""
    workspace = open_workspace(folder)
    if not yes:
        name = choose_event(workspace, event)
        signatures = len([*workspace.event_folder(name).glob("signatures/*/[!.]*")])
        raise InputError(f"event {name}: would be lost, with {signatures} signatures", hint="say so with --yes")
    answer(cancel_event(workspace, event=event))


def tell_imported(imported: Imported) -> None:
    """Print what came in; the answer is a line for each signature."""
    answer(*(f"{role}: signed by {keyholder}" for role, keyholder in imported.added))
    for role, keyholder in imported.held:
        say(f"{role}: the signature of {keyholder} was there already")
    if imported.due:
        say(f"event {imported.event} has all its signatures: merge it with kedge-repo event merge")
    else:
        say(f"event {imported.event} needs more signatures: see kedge-repo event status")


def _lines(found: EventStatus) -> Iterator[str]:
    yield f"event {found.name}, opened {format_time(found.opened)}"
    yield f"reason: {found.reason}"
    yield from (f"- {change}" for change in found.changes)
    for role in found.roles:
        yield ""
        yield f"{role.role} version {role.version}"
        yield from (f"  {line}" for group in role.groups for line in _group(group))
    yield ""
    if not found.changes:
        yield "nothing has been changed in it yet"
    else:
        yield "all signatures are here: merge it" if found.due else "more signatures are needed"


def _group(group: GroupStatus) -> Iterator[str]:
    yield f"{len(group.have)} of {group.threshold} that {group.asked_by} asks for"
    yield f"  signed:  {', '.join(group.have) or 'nobody'}"
    if group.missing:
        yield f"  {'missing' if group.need else 'not yet'}: {', '.join(group.missing)}"


def _value(found: EventStatus) -> dict[str, object]:
    return {
        "format": "kedge.event-status/1",
        "name": found.name,
        "reason": found.reason,
        "opened": format_time(found.opened),
        "changes": list(found.changes),
        "due": found.due,
        "roles": [
            {
                "role": role.role,
                "version": role.version,
                "payload_sha256": role.payload_sha256,
                "groups": [
                    {
                        "asked_by": group.asked_by,
                        "threshold": group.threshold,
                        "have": list(group.have),
                        "missing": list(group.missing),
                        "need": group.need,
                    }
                    for group in role.groups
                ],
            }
            for role in found.roles
        ],
    }
