"""``kedge-repo role set``, ``renew`` and ``delegate``: thresholds, periods, new versions, delegations."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from kedge._cli import PLAIN
from kedge.errors import InputError
from kedge_repo._cli.options import DropSignatures, EventName, OnTop, Reason, WorkspaceFolder, change
from kedge_repo.bins import bit_length_for
from kedge_repo.events import DELEGATION_EXPIRY, Plan, View, plan_delegation, plan_renewal, plan_role
from kedge_repo.workspace import BinsPolicy, Content, DelegationPolicy

app = typer.Typer(**PLAIN, help="Set the threshold and the periods of a role.", no_args_is_help=True)


@app.command("set")
def set_role(
    role: Annotated[
        str, typer.Argument(metavar="ROLE", help="root, targets, snapshot, timestamp or a delegated role.")
    ],
    threshold: Annotated[int | None, typer.Option("--threshold", metavar="N", help="How many must sign.")] = None,
    expiry_days: Annotated[
        int | None, typer.Option("--expiry-days", metavar="N", help="How long its next versions last.")
    ] = None,
    signing_days: Annotated[
        int | None, typer.Option("--signing-days", metavar="N", help="How long before the end signing begins.")
    ] = None,
    event: EventName = None,
    reason: Reason = None,
    drop_signatures: DropSignatures = False,
    on_top: OnTop = False,
    folder: WorkspaceFolder = None,
) -> None:
    """Change a role's threshold or periods, in the policy and where it is signed."""
    if threshold is None and expiry_days is None and signing_days is None:
        raise InputError("role set: say what: --threshold, --expiry-days or --signing-days")
    change(
        folder,
        lambda view: plan_role(view, role, threshold=threshold, expiry_days=expiry_days, signing_days=signing_days),
        event=event,
        reason=reason,
        drop_signatures=drop_signatures,
        on_top=on_top,
    )


def renew(
    roles: Annotated[list[str], typer.Argument(metavar="ROLE...", help="root, targets, or delegated roles.")],
    event: EventName = None,
    reason: Reason = None,
    drop_signatures: DropSignatures = False,
    folder: WorkspaceFolder = None,
) -> None:
    """Sign roles again with a new expiry, and nothing else changed."""
    change(
        folder,
        lambda view: plan_renewal(view, roles),
        event=event,
        reason=reason,
        drop_signatures=drop_signatures,
    )


def delegate(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="The role, such as registry.npmjs.org.")],
    keyholder: Annotated[
        list[str] | None, typer.Option("--keyholder", metavar="NAME", help="Who signs it; once for each.")
    ] = None,
    threshold: Annotated[int | None, typer.Option("--threshold", metavar="N", help="How many of them (1).")] = None,
    path: Annotated[
        list[str] | None, typer.Option("--path", metavar="PATTERN", help="What it may sign (default: ROLE/*).")
    ] = None,
    expiry_days: Annotated[
        int | None, typer.Option("--expiry-days", metavar="N", help="How long a version lasts (182).")
    ] = None,
    signing_days: Annotated[
        int | None, typer.Option("--signing-days", metavar="N", help="How long before the end signing begins (31).")
    ] = None,
    terminating: Annotated[
        bool | None, typer.Option("--terminating/--not-terminating", help="Whether roles after it are not asked.")
    ] = None,
    bins_for: Annotated[
        int | None,
        typer.Option("--bins-for", metavar="N", min=1, help="Hash bins instead of a list, as many as N targets want."),
    ] = None,
    bit_length: Annotated[
        int | None, typer.Option("--bit-length", metavar="B", help="Hash bins, 2 ** B of them.")
    ] = None,
    bin_keyholder: Annotated[
        list[str] | None, typer.Option("--bin-keyholder", metavar="NAME", help="Who signs the bins, online.")
    ] = None,
    bin_content: Annotated[
        Content | None,
        typer.Option("--bin-content", help="Who publishes the targets' bytes: the workspace, or others elsewhere."),
    ] = None,
    event: EventName = None,
    reason: Reason = None,
    drop_signatures: DropSignatures = False,
    folder: WorkspaceFolder = None,
) -> None:
    """Delegate paths to a role, or change a delegation; what is not named stays as it is."""
    bits = bit_length_for(bins_for) if bins_for is not None else bit_length

    def wish(view: View) -> Plan:
        before = view.policy.delegations.get(role)
        if before is None and not keyholder:
            raise InputError(f"delegate {role}: say who signs it, with --keyholder NAME")
        return plan_delegation(
            view,
            DelegationPolicy(
                name=role,
                keyholders=tuple(keyholder or (before.keyholders if before else ())),
                threshold=threshold or (before.threshold if before else 1),
                expiry=_days(expiry_days, before.expiry if before else timedelta(days=DELEGATION_EXPIRY.expiry_days)),
                signing=_days(
                    signing_days, before.signing if before else timedelta(days=DELEGATION_EXPIRY.signing_days)
                ),
                paths=tuple(path or (before.paths if before else (f"{role}/*",))),
                terminating=(before.terminating if before else True) if terminating is None else terminating,
                bins=_bins(role, before.bins if before else None, bits, bin_keyholder or [], bin_content),
            ),
        )

    change(folder, wish, event=event, reason=reason, drop_signatures=drop_signatures)


def _bins(
    role: str, before: BinsPolicy | None, bits: int | None, holders: list[str], content: Content | None
) -> BinsPolicy | None:
    if before is None and bits is None and not holders and content is None:
        return None
    if before is None and (bits is None or not holders or content is None):
        raise InputError(f"delegate {role}: bins ask for --bins-for or --bit-length, --bin-keyholder and --bin-content")
    return BinsPolicy(
        name=role,
        keyholders=tuple(holders) or (before.keyholders if before else ()),
        threshold=before.threshold if before else 1,
        expiry=before.expiry if before else timedelta(days=DELEGATION_EXPIRY.expiry_days),
        signing=before.signing if before else timedelta(days=DELEGATION_EXPIRY.signing_days),
        bit_length=bits or (before.bit_length if before else 1),
        content=content or (before.content if before else Content.ELSEWHERE),
    )


def _days(days: int | None, usual: timedelta) -> timedelta:
    return usual if days is None else timedelta(days=days)
