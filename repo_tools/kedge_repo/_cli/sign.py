"""``kedge-repo sign``: sign an event of the workspace, or a request that was handed over."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from securesystemslib.signer import Signer

from kedge.documents import blame_user
from kedge.errors import InputError
from kedge_repo._cli.event import tell_imported
from kedge_repo._cli.lint import AcceptFindings, require_lint
from kedge_repo._cli.options import (
    AcceptKeyFault,
    AllowUnencrypted,
    EventName,
    PassphraseFd,
    SampleFile,
    WorkspaceFolder,
    answer,
    columns,
    open_sample,
    open_workspace,
    passphrase_source,
    present,
    protection_of,
    say,
)
from kedge_repo.events import own_request, sign_event
from kedge_repo.signing import (
    FirstCeremony,
    Request,
    TrustedRoot,
    VerifiedRequest,
    open_keyholders,
    open_signer,
    request_changes,
    require_right_keys,
    review_request,
    sign_request,
    verify_request,
)
from kedge_repo.workspace import fingerprint, read_file, replace_file


def sign(
    request: Annotated[
        Path | None, typer.Argument(metavar="[REQUEST]", help="A request file; without one, the workspace's event.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="URI", help="Your private key: file:PATH, pkcs11:..., ssh-agent:KEY, awskms:..."),
    ] = None,
    as_keyholder: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Use the key location that the policy has for NAME.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option("--root", metavar="FILE", help="A root of this repository that you trust.")
    ] = None,
    first_ceremony: Annotated[
        bool, typer.Option("--first-ceremony", help="There is no root yet: this repository begins now.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where the response goes.")] = None,
    payload_out: Annotated[
        Path | None,
        typer.Option("--payload-out", metavar="DIR", help="Sign nothing: write the bytes to be signed, a file a role."),
    ] = None,
    sample: SampleFile = None,
    yes: Annotated[bool, typer.Option("--yes", help="Sign what is shown without being asked.")] = False,
    accept_lint_errors: AcceptFindings = False,
    accept_key_fault: AcceptKeyFault = None,
    event: EventName = None,
    passphrase_fd: PassphraseFd = None,
    unencrypted: AllowUnencrypted = False,
    folder: WorkspaceFolder = None,
) -> None:
    """Show what is to be signed, in words, and sign it.

    With REQUEST, only that file, a root that you trust and your key are needed; the response is written to a file.
    """

    def signer() -> Signer:
        secret, protection = passphrase_source(passphrase_fd), protection_of(unencrypted)
        if key is not None:
            return open_signer(key, secret, protection=protection)
        return open_keyholders(open_workspace(folder), [as_keyholder or ""], secret, protection=protection)[0]

    if key is None and as_keyholder is None and payload_out is None:
        raise InputError("sign: say which key with --key URI, or --as NAME")
    workspace, life = None, None
    if request is None:
        workspace = open_workspace(folder)
        verified, life = own_request(workspace, event=event), workspace.policy().life()
    else:
        verified = _handed_over(request, root, first_ceremony)
    accept = accept_key_fault or []
    shown = review_request(verified, now=present(), sample=open_sample(sample), life=life)
    require_lint(request_changes(verified), now=present(), accept_errors=accept_lint_errors)
    say(*shown.lines(width=columns()), "")
    require_right_keys(verified, accept=accept)
    if payload_out is not None:
        _write_payloads(verified, payload_out)
        return
    _confirm(yes)
    opened = signer()
    if workspace is not None:
        tell_imported(sign_event(workspace, opened, event=verified.request.event, code=verified.code, accept=accept))
        return
    response = sign_request(verified, opened, accept=accept)
    path = out or Path(f"{response.event}.{fingerprint(opened.public_key)[:8]}.response.json")
    replace_file(path, response.to_bytes())
    answer(str(path))


def _write_payloads(verified: VerifiedRequest, folder: Path) -> None:
    for payload in verified.request.payloads:
        path = folder / f"{payload.version}.{payload.role}.payload"
        replace_file(path, payload.data)
        answer(str(path))
    say("sign a file's bytes as they are, and hand the signature to: kedge-repo event import --raw")


def _handed_over(request: Path, root: Path | None, first_ceremony: bool) -> VerifiedRequest:
    if (root is None) == (not first_ceremony):
        raise InputError(
            "sign: a request needs a root that you trust: --root FILE",
            hint="only before anything is signed at all, say --first-ceremony instead",
        )
    data = read_file(request, what="request")
    with blame_user(str(request)):
        parsed = Request.from_bytes(data)
    start: TrustedRoot | FirstCeremony = FirstCeremony.NOTHING_IS_SIGNED_YET
    if root is not None:
        start = TrustedRoot(data=read_file(root, what="root", max_bytes=1_000_000), file=str(root))
    return verify_request(parsed, start, file=str(request))


def _confirm(yes: bool) -> None:
    if yes:
        return
    if not os.isatty(0):
        raise InputError("sign: there is no terminal to ask on", hint="review the event, then sign with --yes")
    if not typer.confirm("The others were read the same code, and this is what you want to sign?", err=True):
        say("nothing was signed")
        raise typer.Exit(1)
