"""A feed's certificates as NuGet takes them: ``trustedSigners`` in a ``nuget.config``, with validation required.

Where a fingerprint stands matters: one under ``<repository>`` matches a repository's signature or counter-signature,
one under ``<author>`` an author's own. NuGet compares neither the service index that was signed nor any time that it
states here; ``kedge verify nuget`` does.

Source: NuGet "trustedSigners section", ``AllowListVerificationProvider``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import quoteattr

from kedge.documents import blame_served
from kedge.errors import InputError, Reason, Refusal, VerificationError
from kedge.registries import Exported, KeySet, KeyStatus, RegistryKey, Source
from kedge.registries.nuget.registry import AUTHOR, REPOSITORY, Feed, NuGet, read_feed

_PLAIN_INDEX = "/v3/index.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class NuGetExporter:
    """A ``nuget.config``, as ``kedge keys export`` finds it (:class:`kedge.registries.export.Exporter`)."""

    summary: str = "a nuget.config that trusts these certificates and requires signatures"
    default_registry: str | None = "nuget/api.nuget.org"
    appended_to: str | None = None

    def export(self, sources: Sequence[Source], *, with_retired: bool) -> Exported:
        """Put the certificates of feeds into a ``nuget.config``.

        Raises:
            VerificationError: no certificate is left to export (``no-keys``), or a key document was changed meanwhile.
            InputError: one of the registries is no NuGet feed.
        """
        chosen: list[RegistryKey] = []
        left_out: list[RegistryKey] = []
        notes: list[str] = []
        lines: list[str] = []
        for source in sources:
            selection = _select(source.keys, with_retired=with_retired)
            feed = _feed(source)
            chosen += selection.chosen
            left_out += selection.left_out
            notes += selection.notes
            lines += _signers(source.keys, feed, selection.chosen)
            if feed.service_index is None:
                notes.append(f"{source.keys.registry}: no service index is signed for; {_index(feed)} is assumed")
        notes.append("NuGet merges configuration files: this one adds to a user's list and takes nothing from it")
        return Exported(
            content=_document(lines).encode(), keys=tuple(chosen), left_out=tuple(left_out), notes=tuple(notes)
        )


nuget_config = NuGetExporter()


@dataclass(slots=True)
class _Selection:
    chosen: list[RegistryKey] = field(default_factory=list)
    left_out: list[RegistryKey] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _select(keys: KeySet, *, with_retired: bool) -> _Selection:
    NuGet().target_path(keys.registry)  # another kind of registry is the user's mistake, and no missing certificate
    found = _Selection()
    for key in keys.keys:
        if not {REPOSITORY, AUTHOR} & set(key.usages):
            continue  # time stamp authorities: NuGet takes those of the operating system
        why = None
        if key.status is KeyStatus.REVOKED:
            why = "it was revoked"
        elif key.status is KeyStatus.RETIRED and not with_retired:
            why = "it has expired; packages that it signed will not be installed any more"
        if why is None:
            found.chosen.append(key)
        else:
            found.left_out.append(key)
            found.notes.append(f"{key.id} of {key.registry} is left out: {why}")
    if not found.chosen:
        refusal = Refusal(reason=Reason.NO_KEYS, file=keys.target)
        raise VerificationError(f"{keys.registry}: no certificate is left to export", refusal=refusal)
    return found


def _feed(source: Source) -> Feed:
    target = source.fetch(source.keys.target)
    with blame_served(source.keys.target):
        return read_feed(source.keys.registry, target.custom)


def _index(feed: Feed) -> str:
    return feed.service_index or f"https://{feed.host}{_PLAIN_INDEX}"


def _signers(keys: KeySet, feed: Feed, chosen: Sequence[RegistryKey]) -> list[str]:
    name = keys.registry.removeprefix("nuget/")
    repository = [key for key in chosen if REPOSITORY in key.usages]
    lines: list[str] = []
    if repository:
        lines.append(f"    <repository name={quoteattr(name)} serviceIndex={quoteattr(_index(feed))}>")
        lines += [_certificate(key) for key in repository]
        lines.append("    </repository>")
    for author, members in _by_author(chosen, feed.authors).items():
        lines.append(f"    <author name={quoteattr(author)}>")
        lines += [_certificate(key) for key in members]
        lines.append("    </author>")
    return lines


def _by_author(chosen: Sequence[RegistryKey], authors: Mapping[str, str]) -> dict[str, list[RegistryKey]]:
    found: dict[str, list[RegistryKey]] = {}
    for key in chosen:
        if AUTHOR in key.usages:
            found.setdefault(authors[key.id], []).append(key)
    return found


def _certificate(key: RegistryKey) -> str:
    return f'      <certificate fingerprint="{key.id.upper()}" hashAlgorithm="SHA256" allowUntrustedRoot="false" />'


def _document(signers: Sequence[str]) -> str:
    if not signers:
        raise InputError("nuget-config: there is nothing to export")
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<configuration>",
        "  <config>",
        '    <add key="signatureValidationMode" value="require" />',
        "  </config>",
        "  <trustedSigners>",
        *signers,
        "  </trustedSigners>",
        "</configuration>",
    ]
    return "\n".join(lines) + "\n"
