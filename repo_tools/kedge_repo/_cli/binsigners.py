"""The keys of a role's hash bins, for the verbs that sign them at once."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer
from securesystemslib.signer import Signer

from kedge_repo._cli.options import passphrase_source, protection_of
from kedge_repo.bins.update import require_bins
from kedge_repo.signers import open_keyholders, open_signer
from kedge_repo.workspace import Workspace

__all__ = ["BinKeys", "bin_signers"]

BinKeys: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--key", metavar="URI", help="A key of the bins (default: the locations that the policy has)."),
]


def bin_signers(
    workspace: Workspace, role: str, keys: list[str] | None, passphrase_fd: int | None, *, unencrypted: bool
) -> tuple[Signer, ...]:
    """The signers that ``--key`` names, or those of the bins' keyholders.

    Raises:
        InputError: the role has no bins, or a key cannot be opened.
        FetchError: a key service could not be reached, or refused.
    """
    secret, protection = passphrase_source(passphrase_fd), protection_of(unencrypted)
    if keys:
        return tuple(open_signer(uri, secret, protection=protection) for uri in keys)
    delegation, _ = require_bins(workspace, role)
    return open_keyholders(workspace, delegation.policy.keyholders, secret, protection=protection)
