"""The lint of key documents, and of the keys in metadata: what would go wrong, said before anybody signs or publishes.

What is wrong inside a document the registry's own module says, by comparing it with the one that it replaces. Here
stands what holds for every registry: that clients can read it at all, that it does not vanish, and how it compares with
what the registry itself serves today. Pure, but for :func:`fetch_live`, which reads a URL or a file.

The findings of a lint as the JSON object that ``--json`` answers with, ``kedge.lint/1``, and as SARIF.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from tuf.api.metadata import Root, Targets

from kedge.documents import DocumentError, blame_user, format_time
from kedge.errors import ExitCode, InputError, StoreError
from kedge.registries import Finding, KeySet, KeyStatus, LiveRegistry, SarifResult, Severity, sarif_log
from kedge.transport import Deadline, Mirror, open_mirror
from kedge.tuf import Area, Fetch, Parsed
from kedge_repo.signing.key_rules import request_key_faults
from kedge_repo.signing.keyholder import VerifiedRequest
from kedge_repo.workspace import (
    KeyDocument,
    Payload,
    SignedMetadata,
    Workspace,
    file_name,
    find_key_document,
    read_file,
)

MAX_LIVE_BYTES = 10_000_000

RULES: Mapping[str, str] = {
    "document/unreadable": "Clients cannot read the key document.",
    "document/removed": "The registry's key document would be gone.",
    "metadata/keyid": "A keyid is not the digest of its key, or names none.",
    "metadata/material-changed": "A keyid is another key than it was in something that was signed before.",
    "metadata/one-key-twice": "A role lists one key under two keyids, and python-tuf counts it twice.",
    "metadata/online-key-in-root": "A key that signs snapshot or timestamp may sign root.",
    "live/missing-key": "The registry serves a key that the document does not hold.",
    "live/other-key": "The registry serves another key under this keyid.",
    "live/other-end": "The registry states another end of the key's validity.",
    "live/not-served": "The registry does not serve a key that the document calls active.",
    "live/revoked-key": "The registry still serves a revoked key.",
}
"""The rules that hold for every registry; those of a registry's module bear its name."""

Version = tuple[bytes, Mapping[str, Any] | None]
"""One version of a key document: its bytes, and ``custom`` of its target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentChange:
    """A key document before and after; ``old`` is None for a first one, ``new`` for one that goes."""

    document: KeyDocument
    old: Version | None
    new: Version | None


def lint_change(change: DocumentChange, *, now: datetime) -> tuple[Finding, ...]:
    """What would go wrong with one change, judged at ``now``."""
    document = change.document
    if change.new is None:
        text = f"the keys of {document.registry} would no longer be served: every client of it is refused"
        return (_finding("document/removed", Severity.WARNING, document, text),)
    try:
        new = document.read(*change.new, now=now)
    except (DocumentError, InputError) as error:
        return (_finding("document/unreadable", Severity.ERROR, document, str(error)),)
    old = None
    if change.old is not None:
        try:
            old = document.read(*change.old, now=now)
        except (DocumentError, InputError, StoreError):
            old = None  # it is being replaced: what matters is whether the new one can be read
    return document.module.lint(old, new)


def lint_keys(signed: SignedMetadata, payloads: Sequence[Payload] = ()) -> tuple[Finding, ...]:
    """What is wrong with the keys that metadata lists: in ``payloads``, or else in the newest that is signed."""
    if payloads:
        faults = request_key_faults(payloads, signed)
    else:
        top = [Payload.of(Root.type, signed.root.signed)] if signed.root is not None else []
        rest = {**({Targets.type: signed.targets} if signed.targets is not None else {}), **signed.delegated}
        newest = (*top, *(Payload.of(name, parsed.signed) for name, parsed in rest.items()))
        faults = request_key_faults(newest, replace(signed, roots=signed.roots[:-1], targets=None, delegated={}))
    return tuple(
        Finding(
            rule=f"metadata/{fault.rule}",
            severity=Severity.ERROR,
            place=file_name(fault.role, fault.version),
            message=fault.message,
        )
        for fault in faults
    )


def lint_live(document: KeyDocument, new: Version, live: bytes, *, now: datetime, file: str) -> tuple[Finding, ...]:
    """How a document compares with what the registry serves itself; ``file`` names that answer.

    Raises:
        InputError: the answer cannot be read as one of this registry.
    """
    try:
        keys = document.read(*new, now=now)
    except DocumentError:
        return ()  # which is a finding already
    with blame_user(file):
        served = _read_live(document, live, now)
    return tuple(_compare_live(document, keys, served))


def request_changes(verified: VerifiedRequest) -> tuple[DocumentChange, ...]:
    """The key documents that a verified signing request changes."""
    old: dict[str, Mapping[str, Any] | None] = {}
    new: dict[str, Mapping[str, Any] | None] = {}
    for payload in verified.request.payloads:
        before = verified.signed.role(payload.role)
        if isinstance(payload.signed, Root):
            continue
        if before is not None and isinstance(before.signed, Targets):
            old |= {path: target.custom for path, target in before.signed.targets.items()}
        new |= {path: target.custom for path, target in payload.signed.targets.items()}
    return tuple(
        DocumentChange(
            document=document,
            old=None if change.old is None else (change.old, old.get(change.path)),
            new=None if change.new is None else (change.new, new.get(change.path)),
        )
        for change in verified.request.targets
        if (document := find_key_document(change.path)) is not None
    )


def workspace_documents(workspace: Workspace, signed: SignedMetadata) -> tuple[DocumentChange, ...]:
    """The key documents that are signed in a workspace, each as if it were the first.

    Raises:
        InputError: the bytes of one are not there.
    """
    paths = sorted(path for parsed in _target_roles(signed) for path in parsed.signed.targets)
    return tuple(
        DocumentChange(document=document, old=None, new=signed_version(workspace, signed, path))
        for path in paths
        if (document := find_key_document(path)) is not None
    )


def signed_version(workspace: Workspace, signed: SignedMetadata, path: str) -> Version | None:
    """The target at ``path`` as it is signed in a workspace, or None where there is none.

    Raises:
        InputError: its bytes are not there.
    """
    for parsed in _target_roles(signed):
        if path in parsed.signed.targets:
            return workspace.target(path), parsed.signed.targets[path].custom
    return None


def _target_roles(signed: SignedMetadata) -> list[Parsed[Targets]]:
    return [*signed.delegated.values(), *([signed.targets] if signed.targets is not None else [])]


def fetch_live(place: str, *, timeout_s: float = 30.0) -> bytes:
    """Read what a registry serves, from a URL or a file.

    Raises:
        InputError: there is no such file, or the URL cannot be used.
        FetchError: the URL gives no answer in time.
        VerificationError: the answer is too long, or leads elsewhere.
    """
    parts = urlsplit(place)
    if parts.scheme not in {"http", "https"}:
        return read_file(Path(place), what="answer of the registry", max_bytes=MAX_LIVE_BYTES)
    base, _, name = place.rpartition("/")
    transport = open_mirror(Mirror(url=base, metadata="", targets=""))
    try:
        request = Fetch(Area.METADATA, quote(unquote(name), safe=""), MAX_LIVE_BYTES)
        data = transport.get(request, Deadline(timeout_s))
    finally:
        transport.close()
    if not isinstance(data, bytes):
        raise InputError(f"{place}: there is nothing there", hint="name the registry's keys endpoint, or a file")
    return data


def exit_code(findings: Iterable[Finding]) -> ExitCode:
    """5 where something is wrong, a note apart."""
    found = any(finding.severity is not Severity.NOTE for finding in findings)
    return ExitCode.FAULTS if found else ExitCode.DONE


def _read_live(document: KeyDocument, live: bytes, now: datetime) -> KeySet:
    if isinstance(document.module, LiveRegistry):
        return document.module.parse_live(live, registry=document.registry, now=now)
    return document.module.parse(live, registry=document.registry, custom=None, now=now)


def _compare_live(document: KeyDocument, keys: KeySet, served: KeySet) -> Iterator[Finding]:
    ours = {key.id: key for key in reversed(keys.keys)}
    for key in served.keys:
        mine = ours.get(key.id)
        if key.id in keys.revoked:
            if key.status is KeyStatus.ACTIVE:
                text = f"the registry still serves {key.id}, which the document revokes"
                yield _finding("live/revoked-key", Severity.WARNING, document, text)
        elif mine is None:
            active = key.status is KeyStatus.ACTIVE
            what = "signs with" if active else "still serves the retired key"
            text = f"the registry {what} {key.id}, which the document does not hold"
            severity = Severity.ERROR if active else Severity.WARNING
            yield _finding("live/missing-key", severity, document, text)
        elif mine.material != key.material:
            text = f"the registry serves another key as {key.id}"
            yield _finding("live/other-key", Severity.ERROR, document, text)
        elif mine.valid_until != key.valid_until:
            ends = [format_time(end) if end is not None else "open" for end in (mine.valid_until, key.valid_until)]
            text = f"{key.id} ends {ends[0]} in the document, and {ends[1]} at the registry"
            yield _finding("live/other-end", Severity.WARNING, document, text)
    known = {key.id for key in served.keys}
    for keyid in dict.fromkeys(key.id for key in keys.keys if key.status is KeyStatus.ACTIVE and key.id not in known):
        text = f"the registry does not serve {keyid}, which the document calls active"
        yield _finding("live/not-served", Severity.WARNING, document, text)


def _finding(rule: str, severity: Severity, document: KeyDocument, message: str) -> Finding:
    return Finding(rule=rule, severity=severity, place=document.path, message=message)


def lint_table(documents: Sequence[str], findings: Sequence[Finding]) -> dict[str, Any]:
    """The object; ``documents`` are the target paths that were looked at."""
    return {
        "format": "kedge.lint/1",
        "documents": list(documents),
        "exit_code": int(exit_code(findings)),
        "findings": [finding_table(finding) for finding in findings],
    }


def finding_table(finding: Finding) -> dict[str, Any]:
    """One finding."""
    return {
        "rule": finding.rule,
        "severity": finding.severity.value,
        "place": finding.place,
        "message": finding.message,
        "hint": finding.hint,
    }


def lint_sarif(findings: Iterable[Finding]) -> dict[str, Any]:
    """The log of one run."""
    findings = list(findings)
    rules = {finding.rule: f"A rule of the registry module {finding.rule.partition('/')[0]}." for finding in findings}
    results = [_result(finding) for finding in findings]
    return sarif_log("kedge-repo lint", {**rules, **RULES}, results, exit_code=int(exit_code(findings)))


def _result(finding: Finding) -> SarifResult:
    path, _, inside = finding.place.partition(": ")
    return SarifResult(
        rule=finding.rule,
        level=finding.severity.value,
        message=f"{finding.place}: {finding.message}",
        uri=f"{'metadata' if finding.rule.startswith('metadata/') else 'targets'}/{path}",
        line=None,
        subject=inside or path,
        kind="member",
        identity=f"{finding.rule} {finding.place} {finding.message}",
    )
