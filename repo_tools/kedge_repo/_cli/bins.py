"""``kedge-repo bins``: the targets in a role's hash bins, any number of them, signed online."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from securesystemslib.signer import Signer

from kedge._cli import PLAIN
from kedge.documents import format_time
from kedge.errors import InputError
from kedge_repo._cli.options import (
    AllowUnencrypted,
    AsJson,
    BinKeys,
    PassphraseFd,
    WorkspaceFolder,
    answer,
    answer_json,
    bin_signers,
    open_workspace,
    present,
    say,
)
from kedge_repo.bins import (
    Batch,
    BinStore,
    BinsUpdate,
    BinTarget,
    bit_length_for,
    folder_targets,
    in_batches,
    read_lines,
    require_bins,
    update_bins,
)
from kedge_repo.workspace import Content, Workspace, digest, read_file

app = typer.Typer(
    **PLAIN, help="The targets in a role's hash bins: import, folder, add, remove, show.", no_args_is_help=True
)

Role: TypeAlias = Annotated[str, typer.Argument(metavar="ROLE", help="The role that delegates to the bins.")]
Replace: TypeAlias = Annotated[bool, typer.Option("--replace", help="These are all: remove every other target.")]


@app.command("import")
def import_(
    role: Role,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Lines PATH LENGTH SHA256; - is stdin.")],
    replace: Replace = False,
    key: BinKeys = None,
    passphrase_fd: PassphraseFd = None,
    unencrypted: AllowUnencrypted = False,
    folder: WorkspaceFolder = None,
) -> None:
    """Add and replace targets, of which each line gives path, length and digest: any number, read as a stream.

    Lines that name what is there already change nothing. A line may end in JSON: the target's custom.
    """
    workspace = open_workspace(folder)
    _require_content(workspace, role, Content.ELSEWHERE, "use kedge-repo bins folder, which brings the bytes")
    signers = bin_signers(workspace, role, key, passphrase_fd, unencrypted=unencrypted)
    if str(file) == "-":
        _update(workspace, role, read_lines(sys.stdin.buffer, file="stdin"), signers, replace=replace)
        return
    try:
        with file.open("rb") as stream:
            _update(workspace, role, read_lines(stream, file=str(file)), signers, replace=replace)
    except FileNotFoundError as error:
        raise InputError(f"{file}: there is no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{file}: is a folder", hint=f"use kedge-repo bins folder {role} {file}") from error


@app.command("folder")
def folder_(
    role: Role,
    source: Annotated[Path, typer.Argument(metavar="DIR", help="The folder whose files are the targets.")],
    prefix: Annotated[
        str | None, typer.Option("--prefix", metavar="PATH/", help="What their paths begin with (default: ROLE/).")
    ] = None,
    replace: Replace = False,
    key: BinKeys = None,
    passphrase_fd: PassphraseFd = None,
    unencrypted: AllowUnencrypted = False,
    folder: WorkspaceFolder = None,
) -> None:
    """Add and replace the files of a folder; where the workspace keeps targets' bytes, they are copied into it."""
    workspace = open_workspace(folder)
    signers = bin_signers(workspace, role, key, passphrase_fd, unencrypted=unencrypted)
    beginning = f"{role}/" if prefix is None else prefix
    found: Iterable[BinTarget] = folder_targets(source, prefix=beginning)
    if _content(workspace, role) is Content.WORKSPACE:
        found = _copied(workspace, source, beginning, found)
    _update(workspace, role, in_batches(found), signers, replace=replace)


@app.command("add")
def add(
    role: Role,
    path: Annotated[str, typer.Argument(metavar="PATH", help="The target's path.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file that holds its bytes.")],
    key: BinKeys = None,
    passphrase_fd: PassphraseFd = None,
    unencrypted: AllowUnencrypted = False,
    folder: WorkspaceFolder = None,
) -> None:
    """Add or replace one target."""
    workspace = open_workspace(folder)
    signers = bin_signers(workspace, role, key, passphrase_fd, unencrypted=unencrypted)
    data = read_file(file, what="target")
    target = BinTarget(path=path, length=len(data), sha256=digest(data))
    target.line()
    if _content(workspace, role) is Content.WORKSPACE:
        workspace.write_target(path, data)
    _update(workspace, role, in_batches([target]), signers)


@app.command("remove")
def remove(
    role: Role,
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="The targets' paths.")],
    key: BinKeys = None,
    passphrase_fd: PassphraseFd = None,
    unencrypted: AllowUnencrypted = False,
    folder: WorkspaceFolder = None,
) -> None:
    """Remove targets."""
    workspace = open_workspace(folder)
    signers = bin_signers(workspace, role, key, passphrase_fd, unencrypted=unencrypted)
    made = _update(workspace, role, (), signers, removed=paths)
    if made.removed < len(set(paths)):
        say(f"note: {len(set(paths)) - made.removed} of these paths were in no bin")


@app.command("show")
def show(role: Role, folder: WorkspaceFolder = None, as_json: AsJson = False) -> None:
    """Show how many targets the bins hold, and when the first of them expires."""
    workspace = open_workspace(folder)
    delegation, _ = require_bins(workspace, role)
    index = BinStore(workspace=workspace, role=role).index()
    total = index.total if index is not None else 0
    largest = max(index.targets) if index is not None else 0
    expiry = format_time(index.first_expiry()) if index is not None else None
    if as_json:
        answer_json(
            {
                "format": "kedge.bins-status/1",
                "role": role,
                "bins": delegation.succinct.number_of_bins,
                "targets": total,
                "largest_bin": largest,
                "first_expiry": expiry,
                "bit_length_by_rule": bit_length_for(total),
            }
        )
        return
    answer(
        f"{role}: {total} targets in {delegation.succinct.number_of_bins} bins, {largest} in the largest",
        "nothing is signed yet" if expiry is None else f"the first bin expires on {expiry}",
    )
    wanted = bit_length_for(total)
    if wanted > delegation.succinct.bit_length:
        say(f"note: so many targets want {1 << wanted} bins: kedge-repo delegate {role} --bins-for {total}")


def _update(
    workspace: Workspace,
    role: str,
    batches: Iterable[Batch],
    signers: tuple[Signer, ...],
    *,
    removed: Iterable[str] = (),
    replace: bool = False,
) -> BinsUpdate:
    made = update_bins(workspace, role, batches, signers, now=present(), removed=removed, replace=replace)
    say(f"{made.added} added, {made.changed} changed, {made.removed} removed; {made.targets} targets")
    if made.bins:
        say(f"{made.bins} bins signed; sign snapshot and timestamp with kedge-repo online")
    answer(str(made.bins))
    return made


def _content(workspace: Workspace, role: str) -> Content:
    delegation, _ = require_bins(workspace, role)
    return delegation.policy.content


def _require_content(workspace: Workspace, role: str, content: Content, hint: str) -> None:
    found = _content(workspace, role)
    if found is not content:
        raise InputError(f'kedge-repo.toml: delegations.{role}.bins.content: is "{found.value}"', hint=hint)


def _copied(workspace: Workspace, source: Path, prefix: str, targets: Iterable[BinTarget]) -> Iterable[BinTarget]:
    for target in targets:
        data = read_file(source / target.path.removeprefix(prefix), what="target")
        if digest(data) != target.sha256:
            raise InputError(f"{source / target.path.removeprefix(prefix)}: changed while it was read")
        target.line()
        workspace.write_target(target.path, data)
        yield target
