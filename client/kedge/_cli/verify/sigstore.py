"""``kedge verify sigstore``: a file against its Sigstore bundle, by a trusted root that was verified now.

kedge's own verifier answers. ``--second-opinion`` lets sigstore-python answer too, by the same root: both must accept.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from kedge._cli.options import AnchorName, Json, takes_mirrors
from kedge._cli.output import read_file
from kedge._cli.verify import conclude
from kedge._cli.verify.npm import DEFAULT_ROOT, TrustedRoot, trusted_root_keys
from kedge.documents import blame_user, format_time
from kedge.errors import InputError, Reason, Refusal, VerificationError
from kedge.registries import Checked, Checklist, KeySet, KeyStatus
from kedge.registries.sigstore import (
    BundleVerifier,
    Content,
    Expected,
    ManagedKey,
    Outcome,
    SignedFile,
    read_bundles,
    verify_file,
)

MAX_FILE_BYTES = 1 << 30
MAX_BUNDLE_BYTES = 16 << 20
MAX_KEY_BYTES = 1 << 16


@takes_mirrors
def sigstore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file that was signed.")],
    bundle: Annotated[
        Path,
        typer.Option(
            "--bundle", metavar="BUNDLE", help="Its Sigstore bundle, or bundles, one per line.", show_default=False
        ),
    ],
    identity: Annotated[
        str | None,
        typer.Option(metavar="WHO", help="Whom the certificate must name: a URL, an address.", show_default=False),
    ] = None,
    identity_regexp: Annotated[
        str | None,
        typer.Option(metavar="RE", help="A regular expression for all of that name.", show_default=False),
    ] = None,
    issuer: Annotated[
        str | None, typer.Option(metavar="URL", help="Who must vouch for that identity.", show_default=False)
    ] = None,
    issuer_regexp: Annotated[
        str | None, typer.Option(metavar="RE", help="A regular expression for all of the issuer.", show_default=False)
    ] = None,
    repo: Annotated[
        str | None,
        typer.Option(metavar="OWNER/NAME", help="The GitHub repository that it was built from.", show_default=False),
    ] = None,
    owner: Annotated[
        str | None,
        typer.Option(metavar="OWNER", help="The owner on GitHub of that repository.", show_default=False),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The public key that signed it (PEM), in place of an identity.", show_default=False
        ),
    ] = None,
    second_opinion: Annotated[
        bool, typer.Option("--second-opinion", help="Require that sigstore-python accepts it too (extra: sigstore).")
    ] = False,
    anchor: AnchorName = None,
    trusted_root: TrustedRoot = DEFAULT_ROOT,
    json: Json = False,
) -> None:
    """Verify a file against its Sigstore bundle.

    The trusted root comes from the verified repository; no other network is asked. Exit status 3: refused. 2: the
    bundle, or an option, cannot be read.
    """
    expected = Expected(
        identity=identity,
        identity_pattern=_pattern("--identity-regexp", identity_regexp),
        issuer=issuer,
        issuer_pattern=_pattern("--issuer-regexp", issuer_regexp),
        repository=_github("--repo", repo, "[A-Za-z0-9-]+/[A-Za-z0-9._-]+", "owner/name"),
        owner=_github("--owner", owner, "[A-Za-z0-9-]+", "an owner's name"),
    )
    _require_signer(expected, key)
    if second_opinion and (identity is None or issuer is None):
        raise InputError("--second-opinion requires --identity and --issuer, which sigstore-python compares exactly")
    data, served = read_file(file, MAX_FILE_BYTES), read_file(bundle, MAX_BUNDLE_BYTES)
    managed = None
    if key is not None:
        with blame_user(str(key)):
            managed = ManagedKey.from_bytes(read_file(key, MAX_KEY_BYTES, what="public key"))
    with blame_user(str(bundle)):
        bundles = read_bundles(served)
    keys, trust = trusted_root_keys(trusted_root, anchor)
    with blame_user(keys.target):
        verifier = BundleVerifier(keys)
    found = verifier.verify_any(bundles, Content.of_bytes(data), expected, managed=managed)
    opinion = ""
    if second_opinion:
        _require_nothing_revoked(keys)
        other = verify_file(keys.document, served, data, name=str(bundle), identity=identity or "", issuer=issuer or "")
        opinion = f" and sigstore-python {other.version}"
    conclude(_checklist(file, found, keys, opinion), trust, everything=True, json=json)


def _pattern(option: str, text: str | None) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text is not None else None
    except (re.error, RecursionError, OverflowError) as error:
        raise InputError(f"{option}: {text!a} is not a regular expression: {error}") from error


def _github(option: str, text: str | None, pattern: str, expected: str) -> str | None:
    if text is not None and re.fullmatch(pattern, text) is None:
        raise InputError(f"{option}: must be {expected}, not {text[:200]!a}")
    return text


def _require_signer(expected: Expected, key: Path | None) -> None:
    """Check that the options say who must have signed, in one way."""
    named = expected != Expected()
    if key is not None and named:
        raise InputError("--key is trusted itself: it takes no identity, issuer, repository or owner")
    if key is not None:
        return
    hint = "--identity WHO --issuer URL, --repo OWNER/NAME, --owner OWNER, or --key FILE"
    if expected.identity is None and expected.identity_pattern is None:
        if expected.repository is None and expected.owner is None:
            raise InputError("who must have signed it is not stated", hint=hint)
        return
    if expected.issuer is None and expected.issuer_pattern is None and expected.repository is None:
        raise InputError("an identity requires the issuer that vouches for it", hint=hint)


def _require_nothing_revoked(keys: KeySet) -> None:
    """sigstore-python knows of no revocation beside the document, so that it must not see one that is revoked."""
    for key in keys.keys:
        if key.status is KeyStatus.REVOKED:
            refusal = Refusal(reason=Reason.REVOKED_KEY, file=keys.target, found=key.id)
            text = f"{keys.target}: holds {key.id}, which was revoked, and sigstore-python would believe it"
            raise VerificationError(text, refusal=refusal)


def _checklist(file: Path, found: SignedFile, keys: KeySet, opinion: str) -> Checklist:
    signed = found.signed
    who = signed.identity
    facts = {
        "identity": who.subject if who is not None else None,
        "issuer": who.issuer if who is not None else None,
        "key": signed.managed,
        "at": format_time(signed.at),
        "log_index": signed.place.index,
        "predicate_type": found.predicate_type,
    }
    by = f"{who.subject}, for whom {who.issuer} vouches" if who is not None else f"the key {signed.managed}"
    checked = Checked(
        name=str(file),
        outcome=Outcome.VERIFIED,
        detail=f"signed by {by}; log entry {signed.place.index}",
        is_fault=False,
        facts=facts,
    )
    return Checklist(
        kind="sigstore",
        subject=str(file),
        things=("file", "files"),
        good=frozenset({Outcome.VERIFIED}),
        items=(checked,),
        basis=(
            ("verified by", f"kedge{opinion}"),
            ("trusted root", f"{keys.target} of {keys.registry}"),
        ),
        remarks=("What the signer meant by signing, the signature does not say.",),
    )
