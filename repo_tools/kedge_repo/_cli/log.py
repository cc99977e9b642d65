"""``kedge-repo log``: the repository's log, its key, and the policy that clients hold it to."""

from __future__ import annotations

from typing import Annotated

import typer

from kedge._cli import PLAIN
from kedge.documents import DocumentError
from kedge.errors import InputError
from kedge.tlog import LogPolicy, VerifierKey
from kedge_repo._cli.options import WorkspaceFolder, answer, open_workspace, say
from kedge_repo.publish import verifier_key
from kedge_repo.workspace import Workspace

app = typer.Typer(
    **PLAIN, help="The log of every root, targets role and key event, which witnesses watch.", no_args_is_help=True
)


@app.command("key")
def key(folder: WorkspaceFolder = None) -> None:
    """Print the log's verifier key, for witnesses to know it by."""
    answer(_key(open_workspace(folder)).to_text())


@app.command("policy")
def policy(
    witness: Annotated[
        list[str],
        typer.Option("--witness", metavar="'NAME VKEY URL'", help="A witness, and where it takes checkpoints; repeat."),
    ],
    quorum: Annotated[int, typer.Option("--quorum", metavar="K", help="How many of them must sign.")],
    folder: WorkspaceFolder = None,
) -> None:
    """Print a log policy (C2SP tlog-policy) of this log and these witnesses.

    It counts once it is signed: kedge-repo target add tlog/policy FILE.
    """
    names = [text.partition(" ")[0] for text in witness]
    lines = [f"log {_key(open_workspace(folder)).to_text()}"]
    lines += [f"witness {text}" for text in witness]
    lines += [f"group witnesses {quorum} {' '.join(names)}", "quorum witnesses"]
    text = "".join(f"{line}\n" for line in lines)
    try:
        LogPolicy.from_bytes(text.encode())
    except DocumentError as error:
        raise InputError(f"--witness, --quorum: {error}") from error
    answer(*lines)
    say("next: keep this in a file, then: kedge-repo target add tlog/policy FILE")


def _key(workspace: Workspace) -> VerifierKey:
    wish = workspace.policy().log
    if wish is None:
        raise InputError(
            "kedge-repo.toml: log: is missing", hint='add [log] with origin = "example.com/keys" and keyholder = "NAME"'
        )
    return verifier_key(wish.origin, workspace.keys(workspace.policy())[wish.keyholder])
