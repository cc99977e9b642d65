"""``kedge-repo hand-in``: a registry's own keyholders prepare and sign their role, and the repository takes it."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from kedge._cli import PLAIN
from kedge.documents import blame_user, load_json
from kedge.errors import ExitCode, InputError, KedgeError
from kedge_repo._cli.lint import AcceptFindings, require_lint
from kedge_repo._cli.options import (
    AcceptKeyFault,
    AllowUnencrypted,
    AsJson,
    PassphraseFd,
    WorkspaceFolder,
    answer,
    answer_json,
    columns,
    open_workspace,
    passphrase_source,
    present,
    protection_of,
    report,
    say,
)
from kedge_repo.events import HandIn, Taken, Wished, prepare, read_published, take_hand_in
from kedge_repo.signing import (
    Request,
    Response,
    TrustedRoot,
    finding_table,
    open_signer,
    request_changes,
    require_right_keys,
    review_request,
    sign_request,
    verify_request,
)
from kedge_repo.workspace import Workspace, read_file, replace_file

app = typer.Typer(**PLAIN, help="Hand in a delegated role's next version: new, pack, take.", no_args_is_help=True)


@app.command("new")
def new(
    place: Annotated[str, typer.Argument(metavar="URL|DIR", help="The published repository.")],
    root: Annotated[Path, typer.Option("--root", metavar="FILE", help="A root of it that you trust.")],
    role: Annotated[str, typer.Option("--role", metavar="ROLE", help="The delegated role whose keys you hold.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for those who sign and who take it.")],
    target: Annotated[
        list[str] | None, typer.Option("--target", metavar="PATH=FILE", help="Put this file at this target path.")
    ] = None,
    custom: Annotated[
        list[str] | None, typer.Option("--custom", metavar="PATH=FILE", help="The target's custom, a JSON object.")
    ] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", metavar="PATH", help="Remove this target.")] = None,
    expiry_days: Annotated[
        int, typer.Option("--expiry-days", metavar="N", min=1, max=3660, help="How long it lasts.")
    ] = 182,
    key: Annotated[
        str | None, typer.Option("--key", metavar="URI", help="Sign at once, where your key alone is enough.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Sign what is shown without being asked.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to.")] = None,
    accept_lint_errors: AcceptFindings = False,
    accept_key_fault: AcceptKeyFault = None,
    passphrase_fd: PassphraseFd = None,
    unencrypted: AllowUnencrypted = False,
) -> None:
    """Prepare the role's next version from nothing but what is published; with nothing named, renew it.

    With --key the result is the file to hand in. Without, it is a request that each keyholder signs with kedge-repo
    sign, and kedge-repo hand-in pack makes one file of it and the responses.
    """
    trusted = TrustedRoot(data=read_file(root, what="root", max_bytes=1_000_000), file=str(root))
    now = present()
    published = read_published(place, trusted.data, role, now=now)
    wished = Wished(put=_files(target), remove=tuple(remove or ()), customs=_customs(custom))
    with blame_user("--target"):
        request = prepare(published, role, wished, reason=reason, expiry=timedelta(days=expiry_days), now=now)
    verified = verify_request(request, trusted, file=place)
    require_lint(request_changes(verified), now=now, accept_errors=accept_lint_errors)
    shown = review_request(verified, now=now)
    if key is None:
        path = out or Path(f"{request.event}.request.json")
        replace_file(path, request.to_bytes())
        say(f"request code: {verified.code}")
        answer(str(path))
        return
    say(*shown.lines(width=columns()), "")
    require_right_keys(verified, accept=accept_key_fault or ())
    _confirm(yes)
    signer = open_signer(key, passphrase_source(passphrase_fd), protection=protection_of(unencrypted))
    path = out or Path(f"{request.event}.json")
    replace_file(
        path,
        HandIn(request=request, responses=(sign_request(verified, signer, accept=accept_key_fault or ()),)).to_bytes(),
    )
    answer(str(path))


@app.command("pack")
def pack(
    request: Annotated[Path, typer.Argument(metavar="REQUEST", help="The request that hand-in new wrote.")],
    responses: Annotated[list[Path], typer.Argument(metavar="RESPONSE...", help="What its keyholders answered.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to.")] = None,
) -> None:
    """Make one file of a request and its responses, to be handed in."""
    with blame_user(str(request)):
        asked = Request.from_bytes(read_file(request, what="request"))
    answers = []
    for file in responses:
        with blame_user(str(file)):
            answers.append(Response.from_bytes(read_file(file, what="response")))
        if answers[-1].event != asked.event:
            raise InputError(f"{file}: answers {answers[-1].event}, and {request} asks for {asked.event}")
    path = out or Path(f"{asked.event}.json")
    replace_file(path, HandIn(request=asked, responses=tuple(answers)).to_bytes())
    answer(str(path))


@app.command("take")
def take(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Hand-ins; each is judged by itself.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would become of them.")] = False,
    folder: WorkspaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Take hand-ins within the policy, refuse the others; one that has all its signatures is merged at once.

    Exit 6 where a hand-in waits for the repository's own signature; what was refused comes first.
    """
    workspace = open_workspace(folder)
    taken: list[tuple[Path, Taken]] = []
    refused: list[tuple[Path, KedgeError]] = []
    for file in files:
        try:
            taken.append((file, _take(workspace, file, dry_run)))
        except KedgeError as error:
            refused.append((file, error))
            report(error)
    if as_json:
        answer_json(_value(taken, refused))
    else:
        answer(*(line for file, item in taken for line in _lines(file, item, dry_run)))
    raise typer.Exit(_exit_code(taken, refused, dry_run))


def _take(workspace: Workspace, file: Path, dry_run: bool) -> Taken:
    data = read_file(file, what="hand-in")
    with blame_user(str(file)):
        hand_in = HandIn.from_bytes(data)
    return take_hand_in(workspace, hand_in, now=present(), file=str(file), dry_run=dry_run)


def _exit_code(taken: list[tuple[Path, Taken]], refused: list[tuple[Path, KedgeError]], dry_run: bool) -> int:
    if refused:
        codes = {int(error.exit_code) for _, error in refused}
        return next(code for code in (3, 4, 5, 1, 2, 6) if code in codes)
    waiting = any(item.merged is None for _, item in taken)
    return ExitCode.MORE_SIGNATURES if waiting and not dry_run else ExitCode.DONE


def _lines(file: Path, item: Taken, dry_run: bool) -> list[str]:
    state = "would be taken" if dry_run else "merged" if item.merged is not None else "waits for more signatures"
    lines = [f"{file}: {item.role} version {item.version} {state}", *(f"  {change}" for change in item.changes)]
    lines += [f"  {finding.severity}: {finding.place}: {finding.message} [{finding.rule}]" for finding in item.findings]
    if item.merged is None and not dry_run:
        lines.append(f"  sign it as well: kedge-repo sign --event {item.event}")
    return lines


def _value(taken: list[tuple[Path, Taken]], refused: list[tuple[Path, KedgeError]]) -> dict[str, object]:
    return {
        "format": "kedge.hand-ins/1",
        "taken": [
            {
                "file": str(file),
                "event": item.event,
                "role": item.role,
                "version": item.version,
                "merged": item.merged is not None,
                "changes": list(item.changes),
                "findings": [finding_table(finding) for finding in item.findings],
            }
            for file, item in taken
        ],
        "refused": [
            {"file": str(file), "exit_code": int(error.exit_code), "message": error.message} for file, error in refused
        ],
    }


def _files(given: list[str] | None) -> dict[str, bytes]:
    return {path: read_file(file, what="file") for path, file in _pairs("--target", given)}


def _customs(given: list[str] | None) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = {}
    for path, file in _pairs("--custom", given):
        with blame_user(str(file)):
            value = load_json(read_file(file, what="file", max_bytes=1_000_000))
        if not isinstance(value, dict):
            raise InputError(f"{file}: must be a JSON object")
        found[path] = value
    return found


def _pairs(option: str, given: list[str] | None) -> list[tuple[str, Path]]:
    found: dict[str, Path] = {}
    for text in given or []:
        path, equals, file = text.partition("=")
        if not equals or not path or not file:
            raise InputError(f"{option}: must be PATH=FILE, not {text[:80]}")
        if path in found:
            raise InputError(f"{option}: {path} was given twice")
        found[path] = Path(file)
    return list(found.items())


def _confirm(yes: bool) -> None:
    if yes:
        return
    if not os.isatty(0):
        raise InputError("hand-in new: there is no terminal to ask on", hint="look at what is shown, then give --yes")
    if not typer.confirm("This is what you want to sign?", err=True):
        say("nothing was signed")
        raise typer.Exit(1)
