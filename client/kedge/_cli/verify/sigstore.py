"""``kedge verify sigstore``: sigstore-python's own answer about a bundle, by a trusted root that was verified now.

sigstore-python, told to stay offline, reads a trusted root from its cache as it lies there. Here the root comes through
TUF each time, from the anchor on; the rest of the answer is sigstore-python's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kedge._cli.options import AnchorName, Json, takes_mirrors
from kedge._cli.output import read_file
from kedge._cli.verify import conclude
from kedge._cli.verify.npm import DEFAULT_ROOT, TrustedRoot, trusted_root_keys
from kedge.errors import Reason, Refusal, VerificationError
from kedge.registries import Checked, Checklist, KeySet, KeyStatus
from kedge.registries.sigstore import FileSigned, Outcome, verify_file

MAX_FILE_BYTES = 1 << 30
MAX_BUNDLE_BYTES = 16 << 20


@takes_mirrors
def sigstore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file that was signed.")],
    bundle: Annotated[
        Path, typer.Option("--bundle", metavar="BUNDLE", help="Its Sigstore bundle.", show_default=False)
    ],
    identity: Annotated[
        str, typer.Option(metavar="WHO", help="Whom the certificate must name: a URL, an address.", show_default=False)
    ],
    issuer: Annotated[str, typer.Option(metavar="URL", help="Who must vouch for that identity.", show_default=False)],
    anchor: AnchorName = None,
    trusted_root: TrustedRoot = DEFAULT_ROOT,
    json: Json = False,
) -> None:
    """Verify a file against its Sigstore bundle, with sigstore-python (extra: sigstore).

    The trusted root comes from the verified repository; no other network is asked. Exit status 3: refused.
    """
    data, signature = read_file(file, MAX_FILE_BYTES), read_file(bundle, MAX_BUNDLE_BYTES)
    keys, trust = trusted_root_keys(trusted_root, anchor)
    _require_nothing_revoked(keys)
    signed = verify_file(keys.document, signature, data, name=str(bundle), identity=identity, issuer=issuer)
    conclude(_checklist(file, signed, keys), trust, everything=True, json=json)


def _require_nothing_revoked(keys: KeySet) -> None:
    """sigstore-python knows of no revocation beside the document, so that it must not see one that is revoked."""
    for key in keys.keys:
        if key.status is KeyStatus.REVOKED:
            refusal = Refusal(reason=Reason.REVOKED_KEY, file=keys.target, found=key.id)
            text = f"{keys.target}: holds {key.id}, which was revoked, and sigstore-python would believe it"
            raise VerificationError(text, refusal=refusal)


def _checklist(file: Path, signed: FileSigned, keys: KeySet) -> Checklist:
    facts = {
        "identity": signed.identity,
        "issuer": signed.issuer,
        "log_index": signed.log_index,
        "predicate_type": signed.predicate_type,
    }
    checked = Checked(
        name=str(file),
        outcome=Outcome.VERIFIED,
        detail=f"signed by {signed.identity}, for whom {signed.issuer} vouches; log entry {signed.log_index}",
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
            ("verified by", f"sigstore-python {signed.version}"),
            ("trusted root", f"{keys.target} of {keys.registry}"),
        ),
        remarks=("This is sigstore-python's answer. What the signer meant by signing, it does not say.",),
    )
