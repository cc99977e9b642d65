"""What the verifiers of provenance share: the trusted root that they go by, and what the user expects of packages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from kedge._cli.clients import open_client
from kedge._cli.infile import read_file
from kedge._cli.verify.npm_inputs import find_speaker
from kedge.anchor import Anchor
from kedge.document import blame_user
from kedge.errors import InputError
from kedge.keys import KeySet
from kedge.registries.sigstore.document import Sigstore
from kedge.registries.sigstore.expectations import Expectations, NpmRule
from kedge.trust import Trust

__all__ = ["DEFAULT_ROOT", "TrustedRoot", "read_expectations", "speaker", "trusted_root_keys"]

DEFAULT_ROOT = "sigstore"
MAX_POLICY_BYTES = 1 << 20


def _check_instance(instance: str) -> str:
    Sigstore().target_path(instance)
    return instance


TrustedRoot = Annotated[
    str,
    typer.Option(
        "--trusted-root",
        metavar="ID",
        help="The Sigstore instance whose logs and builds are believed.",
        callback=_check_instance,
    ),
]


def read_expectations(file: Path | None, everyone: NpmRule | None = None) -> Expectations:
    """Read the user's file, if there is one; ``everyone`` is what the command line asks of every npm package.

    Raises:
        InputError: it cannot be read.
    """
    found = Expectations()
    if file is not None:
        data = read_file(file, MAX_POLICY_BYTES)
        with blame_user(str(file)):
            found = Expectations.from_toml(data)
    if everyone is None or not everyone.asks:
        return found
    return replace(found, npm=(*found.npm, everyone))


def speaker(issuer: str, anchor: str | None, instance: str) -> Anchor | None:
    """The anchor that speaks for an issuer; for the Sigstore instance, where the named one does not, whichever does.

    Raises:
        InputError: the id is none, there is no anchor of that name, or two claim the registry.
    """
    named = find_speaker(issuer, anchor)
    return named if named is not None or issuer != instance else find_speaker(issuer, None)


def trusted_root_keys(instance: str, anchor: str | None) -> tuple[KeySet, Trust]:
    """Refresh, and give the trusted root of a Sigstore instance with the trust that it stands on.

    Raises:
        InputError: no anchor speaks for the instance.
        KedgeError: trust, or the trusted root, cannot be had or is refused.
    """
    found = speaker(instance, anchor, instance)
    if found is None:
        raise InputError(f"{instance}: no anchor speaks for it", hint="kedge anchor list shows the anchors")
    with open_client(found) as client:
        return client.registry_keys(instance), client.trust
