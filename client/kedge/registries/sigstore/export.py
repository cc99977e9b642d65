"""A verified trusted root in the forms that Sigstore's clients read.

Each is made of bytes that were verified a moment ago. Whoever reads the file takes it as it is: no client looks again,
so it ages from then on, and the notes say so.

A key that was revoked beside the document is still *in* the document: a form that would have to carry it is refused.

Sources: ``cosign verify --trusted-root``, sigstore-go ``root.NewTrustedRootFromPath``; sigstore-python
``--trust-config``; ``gh attestation verify --custom-trusted-root``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kedge.documents import blame_served, format_time
from kedge.errors import InputError, Reason, Refusal, VerificationError
from kedge.registries import Exported, KeyStatus, Source
from kedge.registries.sigstore.reference import client_trust_config
from kedge.registries.sigstore.registry import SIGNING_CONFIG


@dataclass(frozen=True, slots=True, kw_only=True)
class SigstoreExporter:
    """One form of a trusted root, as ``kedge keys export`` finds it (:class:`kedge.registries.export.Exporter`)."""

    summary: str
    render: Callable[[Sequence[Source]], str]
    several: bool = False
    default_registry: str | None = "sigstore"
    appended_to: str | None = None

    def export(self, sources: Sequence[Source], *, with_retired: bool) -> Exported:
        """Put trusted roots into this form.

        Raises:
            VerificationError: a key in it was revoked (``revoked-key``), or the signing config is not to be had.
            InputError: the registries are not Sigstore instances, too many, or retired keys are to be left out.
        """
        for source in sources:
            _require_exportable(source)
        if len(sources) > 1 and not self.several:
            raise InputError(
                f"this form holds one trusted root, not {len(sources)}", hint="sigstore-jsonl holds several"
            )
        if not with_retired:
            raise InputError(
                "--without-retired: a trusted root keeps what has ended: what was signed then needs it",
                hint="its clients hold each key to its own time",
            )
        return Exported(
            content=self.render(sources).encode(),
            keys=tuple(key for source in sources for key in source.keys.keys),
            notes=tuple(
                f"{source.keys.target} as of {format_time(source.keys.reference_time)}: the tool that reads this file "
                "does not ask again, so export it anew after each refresh"
                for source in sources
            ),
        )


def _require_exportable(source: Source) -> None:
    keys = source.keys
    if keys.registry.partition("/")[0] != "sigstore":
        raise InputError(f"{keys.registry} is no Sigstore instance: its keys have no such form", hint="name sigstore")
    revoked = [key.id for key in keys.keys if key.status is KeyStatus.REVOKED]
    if revoked:
        refusal = Refusal(reason=Reason.REVOKED_KEY, file=keys.target, found=revoked[0])
        text = f"{keys.target}: holds {revoked[0]}, which was revoked, and this form cannot say so"
        raise VerificationError(text, refusal=refusal, hint="its maintainers must take the entry out of the document")


def _as_it_is(sources: Sequence[Source]) -> str:
    return sources[0].keys.document.decode()


def _lines(sources: Sequence[Source]) -> str:
    lines = [json.dumps(json.loads(source.keys.document), separators=(",", ":")) for source in sources]
    return "".join(f"{line}\n" for line in lines)


def _client_config(sources: Sequence[Source]) -> str:
    (source,) = sources
    path = source.keys.target.removesuffix("trusted_root.json") + SIGNING_CONFIG
    with blame_served(path):
        return client_trust_config(source.keys.document, source.fetch(path).data)


trusted_root_json = SigstoreExporter(summary="trusted_root.json, byte for byte (cosign, sigstore-go)", render=_as_it_is)
trusted_root_jsonl = SigstoreExporter(
    summary="a trusted root a line (gh attestation verify --custom-trusted-root)", render=_lines, several=True
)
client_config = SigstoreExporter(
    summary="trusted root and signing config in one file (sigstore-python --trust-config)", render=_client_config
)
