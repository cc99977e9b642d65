"""``kedge-repo online``: sign snapshot and timestamp; as a job, when it is due, with what follows from it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from securesystemslib.signer import Signer

from kedge.documents import format_time
from kedge.errors import InputError, KedgeError
from kedge_repo._cli.options import (
    AllowUnencrypted,
    PassphraseFd,
    WorkspaceFolder,
    answer,
    open_workspace,
    passphrase_source,
    present,
    protection_of,
    say,
)
from kedge_repo._cli.publish import write_log
from kedge_repo.publish import (
    Destination,
    Upkeep,
    destinations_of,
    keep_online,
    metrics,
    online_keyholders,
    sign_online,
)
from kedge_repo.signing import open_keyholders, open_signer
from kedge_repo.workspace import Workspace, replace_file


def online(
    key: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="URI", help="An online key (default: the locations that the policy has)."),
    ] = None,
    at_least: Annotated[
        int,
        typer.Option(
            "--at-least", metavar="N", min=1, max=999_999_999, help="The lowest version: above what a thief has taken."
        ),
    ] = 1,
    job: Annotated[
        bool, typer.Option("--job", help="Sign only what is due, publish it, and try again what fails.")
    ] = False,
    metrics_file: Annotated[
        Path | None, typer.Option("--metrics", metavar="FILE", help="With --job: write how it went, for Prometheus.")
    ] = None,
    accept_clock_behind: Annotated[
        bool,
        typer.Option(
            "--accept-clock-behind", help="Sign although the last timestamp was issued later than this clock says."
        ),
    ] = False,
    passphrase_fd: PassphraseFd = None,
    unencrypted: AllowUnencrypted = False,
    folder: WorkspaceFolder = None,
) -> None:
    """Sign a timestamp, and a snapshot where something changed, with the online keys; and bins that need it."""
    workspace = open_workspace(folder)
    if metrics_file is not None and not job:
        raise InputError("online: --metrics goes with --job")
    secret, protection = passphrase_source(passphrase_fd), protection_of(unencrypted)

    def signers() -> tuple[Signer, ...]:
        if key:
            return tuple(open_signer(uri, secret, protection=protection) for uri in key)
        return open_keyholders(workspace, online_keyholders(workspace), secret, protection=protection)

    if job:
        _run_job(
            workspace,
            signers,
            metrics_file,
            log=lambda places: write_log(workspace, places, now=present(), secret=secret, protection=protection),
        )
        return
    made = sign_online(workspace, signers(), now=present(), at_least=at_least, accept_clock_behind=accept_clock_behind)
    if made.bins:
        say(f"{made.bins} bins signed again")
    if made.bins_due:
        say(f"note: {made.bins_due} bins are to be signed again, and none of their keys was given")
    answer(
        f"snapshot version {made.snapshot} ({'new' if made.snapshot_is_new else 'kept'})",
        f"timestamp version {made.timestamp}, valid until {format_time(made.expires)}",
    )


def _run_job(
    workspace: Workspace,
    signers: Callable[[], tuple[Signer, ...]],
    metrics_file: Path | None,
    *,
    log: Callable[[Sequence[Destination]], None],
) -> None:
    started = present()
    try:
        places = destinations_of(workspace)
        done = keep_online(workspace, signers(), places, now=present, pause=time.sleep, before=log)
    except KedgeError as error:
        _write_metrics(metrics_file, None, error, started)
        raise
    _write_metrics(metrics_file, done, None, started)
    if done.adopted:
        say("took up what is published")
    say("nothing due" if done.due is None else f"signed, for {done.due}")
    say(*(f"published to {place}" for place in done.published))
    answer(f"timestamp version {done.timestamp}, valid until {format_time(done.expires)}")


def _write_metrics(file: Path | None, done: Upkeep | None, error: KedgeError | None, started: datetime) -> None:
    if file is not None:
        replace_file(file, metrics(done, error, started=started))
