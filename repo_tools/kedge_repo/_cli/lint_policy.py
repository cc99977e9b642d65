"""``kedge-repo lint policy``: what the thresholds guarantee, and a way to guarantee more."""

from __future__ import annotations

from typing import Annotated

import typer

from kedge.errors import ExitCode
from kedge.findings import Finding, Severity
from kedge_repo._cli.options import AsJson, WorkspaceFolder, open_workspace
from kedge_repo._cli.output import answer, answer_json, say
from kedge_repo.guarantees import Guarantee, lint_policy, lint_signed, propose
from kedge_repo.lint import exit_code
from kedge_repo.lintjson import lint_table
from kedge_repo.policy import Policy, RolePolicy
from kedge_repo.workspace import Workspace

__all__ = ["policy", "require_guarantees"]


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
