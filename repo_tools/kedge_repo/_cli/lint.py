"""``kedge-repo lint``: what would go wrong with key documents, before anybody signs them; also run by other verbs.

``kedge-repo lint policy``: what the thresholds guarantee, and a way to guarantee more.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from kedge._cli import PLAIN
from kedge.errors import ExitCode, InputError
from kedge.registries import Finding, Severity, find_registry
from kedge_repo._cli.options import (
    AsJson,
    EventName,
    WorkspaceFolder,
    answer,
    answer_json,
    open_workspace,
    present,
    say,
)
from kedge_repo.audit import Guarantee, lint_policy, lint_signed, propose
from kedge_repo.events import own_request, read_signed
from kedge_repo.signing import (
    DocumentChange,
    exit_code,
    fetch_live,
    lint_change,
    lint_keys,
    lint_live,
    lint_sarif,
    lint_table,
    request_changes,
    signed_version,
    workspace_documents,
)
from kedge_repo.workspace import Policy, RolePolicy, Workspace, find_key_document, read_file, replace_file

app = typer.Typer(**PLAIN, help="Say what would go wrong with key documents, before anybody signs them.")

AcceptFindings = Annotated[
    bool,
    typer.Option("--accept-lint-errors", help="Go on although lint says that this key document breaks its clients."),
]


@app.callback(invoke_without_command=True)
def lint(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="A key document that is in no event yet.")
    ] = None,
    registry: Annotated[
        str | None,
        typer.Option("--registry", metavar="ID", help="Only this registry; with --file, whose keys it holds."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="URL|FILE", help="What the registry itself serves, to compare with."),
    ] = None,
    sarif: Annotated[
        Path | None, typer.Option("--sarif", metavar="FILE", help="Write the findings as SARIF, for code hosts.")
    ] = None,
    event: EventName = None,
    folder: WorkspaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Check the key documents and keys of the open event, or else of what is signed, or one FILE.

    Exit 5 with findings; a note is none.
    """
    if context.invoked_subcommand is not None:
        return
    now = present()
    workspace = open_workspace(folder)
    changes, keys = _changes(workspace, file, registry, event)
    if against is not None and len(changes) != 1:
        raise InputError(
            f"lint: --against compares one key document, and there are {len(changes)}", hint="choose it with --registry"
        )
    findings = [*keys, *(finding for change in changes for finding in lint_change(change, now=now))]
    if against is not None and changes[0].new is not None:
        live = fetch_live(against)
        findings += lint_live(changes[0].document, changes[0].new, live, now=now, file=against)
    if sarif is not None:
        replace_file(sarif, (json.dumps(lint_sarif(findings), indent=2) + "\n").encode())
    paths = [change.document.path for change in changes]
    if as_json:
        answer_json(lint_table(paths, findings))
    else:
        answer(*_lines(findings), f"{len(findings)} findings in {', '.join(paths) or 'no key document'}")
    raise typer.Exit(exit_code(findings))


def require_lint(changes: Sequence[DocumentChange], *, now: datetime, accept_errors: bool) -> None:
    """Print what lint finds, and end the command with exit 5 where it is an error, unless that was accepted."""
    findings = [finding for change in changes for finding in lint_change(change, now=now)]
    say(*_lines(findings))
    if not accept_errors and any(finding.severity is Severity.ERROR for finding in findings):
        say("kedge-repo: lint found errors: nothing was done", "hint: mend the key document, or --accept-lint-errors")
        raise typer.Exit(ExitCode.FAULTS)


def _changes(
    workspace: Workspace, file: Path | None, registry: str | None, event: str | None
) -> tuple[tuple[DocumentChange, ...], tuple[Finding, ...]]:
    """The key documents to be checked, and what is wrong with the keys of metadata, where all is asked for."""
    if file is not None:
        return (_of_file(workspace, file, registry),), ()
    if event is not None or workspace.events():
        verified = own_request(workspace, event=event)
        changes, keys = request_changes(verified), lint_keys(verified.signed, verified.request.payloads)
    else:
        signed = read_signed(workspace)
        changes, keys = workspace_documents(workspace, signed), lint_keys(signed)
    if registry is None:
        return changes, keys
    changes = tuple(change for change in changes if change.document.registry == registry)
    if not changes:
        raise InputError(f"--registry: no key document of {registry} is signed here, or changed in the event")
    return changes, ()


def _of_file(workspace: Workspace, file: Path, registry: str | None) -> DocumentChange:
    if registry is None:
        raise InputError("lint: --file goes with --registry ID, whose keys it holds")
    path = find_registry(registry).target_path(registry)
    document = find_key_document(path)
    if document is None:
        raise InputError(f"--registry: {registry} has no key document")
    old = signed_version(workspace, read_signed(workspace), path)
    custom = old[1] if old is not None else None
    return DocumentChange(document=document, old=old, new=(read_file(file, what="key document"), custom))


def _lines(findings: Iterable[Finding]) -> list[str]:
    lines: list[str] = []
    for finding in findings:
        lines.append(f"{finding.severity}: {finding.place}: {finding.message} [{finding.rule}]")
        if finding.hint is not None:
            lines.append(f"  hint: {finding.hint}")
    return lines


@app.command("policy")
def policy(
    propose_: Annotated[
        bool, typer.Option("--propose", help="Say which keys and threshold of root would guarantee both kinds.")
    ] = False,
    minimum: Annotated[
        int, typer.Option("--minimum", metavar="K", min=1, help="With --propose: how many signatures of each kind.")
    ] = 2,
    lost: Annotated[
        int, typer.Option("--lost-keys", metavar="N", min=0, help="With --propose: how many keys may be lost.")
    ] = 1,
    folder: WorkspaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Say how many post-quantum and classical signatures each role's threshold guarantees. Exit 5 below the minimum."""
    workspace = open_workspace(folder)
    wish = workspace.policy()
    keys = workspace.keys(wish)
    findings = lint_policy(wish, keys)
    if as_json:
        answer_json(lint_table([], findings))
    else:
        answer(*(_line(finding) for finding in findings))
    if propose_:
        root = wish.roles["root"]
        now = Guarantee.of((keys[name] for name in root.keyholders), root.threshold)
        say(*_plan(wish, root, now, propose(now, minimum=minimum, lost=lost), minimum))
    raise typer.Exit(exit_code(findings))


def require_guarantees(workspace: Workspace) -> None:
    """End the command with exit 5 where the signed metadata guarantees less than the policy states."""
    findings = lint_signed(workspace.policy(), workspace.signed())
    if findings:
        say(*(_line(finding) for finding in findings), "kedge-repo: nothing was published")
        raise typer.Exit(ExitCode.FAULTS)


def _line(finding: Finding) -> str:
    if finding.severity is Severity.NOTE:
        return f"{finding.place}: {finding.message}"
    return f"{finding.severity}: {finding.place}: {finding.message} [{finding.rule}]"


def _plan(wish: Policy, root: RolePolicy, now: Guarantee, then: Guarantee, minimum: int) -> list[str]:
    if then == now:
        return [f"root guarantees {minimum} of either kind already"]
    added = then.post_quantum - now.post_quantum, then.classical - now.classical
    names = [f"pq-{number}" for number in range(1, added[0] + 1)]
    more = [f"classical-{number}" for number in range(1, added[1] + 1)]
    lines = [f"now:      {now.describe()}", f"proposed: {then.describe()}"]
    lines += [f"  kedge-repo key new {name}.pem --algorithm ml-dsa-44" for name in names]
    lines += [f"  kedge-repo key new {name}.pem" for name in more]
    lines += [f"  kedge-repo key add {name} {name}.pem.pub --role root" for name in (*names, *more)]
    lines += [
        "sign and publish that root; then wait until every client verifies ML-DSA: kedge and python-tuf do (with",
        "cryptography 48 or later), tuf-js 5 and @sigstore/tuf 4 skip such keys, go-tuf 2.4 refuses the root",
        f"  kedge-repo role set root --threshold {then.threshold}",
        "from then on tuf-js and @sigstore/tuf refuse the repository too; and state it in kedge-repo.toml, so that",
        f"publish refuses less: roles.root.min_post_quantum = {minimum}, roles.root.min_classical = {minimum}",
    ]
    if wish.roles["targets"].keyholders == root.keyholders:
        lines.append("targets has the same keyholders: do the same with --role targets")
    return lines
