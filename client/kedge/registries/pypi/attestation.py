"""The provenance of one distribution file (PEP 740): attestations by its publisher, each a Sigstore signature.

Every attestation that is served must verify and be about this file, by name and by digest. One of them at least must be
by whoever is expected; what others say beside it is noted.

Source: PEP 740; ``GET /integrity/PROJECT/VERSION/FILENAME/provenance``; attestations publish v1 and SLSA provenance v1.

Who published a file, by its certificate; and whether that is who was expected.

The publisher that an index names beside an attestation is the index's word. It is compared, and never taken.

Sources: PEP 740 (publisher objects); the policies of the package pypi-attestations for GitHub, GitLab and Google.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kedge.documents import DocumentError, Fields, load_json
from kedge.errors import Reason
from kedge.registries.pypi.locked import parse_filename
from kedge.registries.sigstore import (
    PAYLOAD_TYPE,
    SLSA,
    Build,
    Bundle,
    BundleVerifier,
    Part,
    Publisher,
    Statement,
    read_build,
    refuse,
)

_SERVICES = {
    "GitHub": ("https://token.actions.githubusercontent.com", "https://github.com/", "/.github/workflows/"),
    "GitLab": ("https://gitlab.com", "https://gitlab.com/", "//"),
}
_GOOGLE = "https://accounts.google.com"


def publisher_of(build: Build) -> Publisher | None:
    """The publisher that a certificate names; None, if it is of no kind that publishes on PyPI."""
    if build.issuer == _GOOGLE:
        return Publisher(kind="Google", email=build.signer)
    for kind, (issuer, host, below) in _SERVICES.items():
        if build.issuer != issuer or build.repository is None or not build.repository.startswith(host):
            continue
        # The workflow's address ends with what it ran at: its name is what stands between repository and that.
        workflow, at, ref = (build.workflow or "").removeprefix(f"{build.repository}{below}").rpartition("@")
        if not at or workflow.startswith("https://") or ref not in (build.ref, build.commit):
            return None
        return Publisher(kind=kind, repository=build.repository.removeprefix(host), workflow=workflow)
    return None


def is_published_by(found: Publisher, expected: Publisher) -> bool:
    """Whether two publishers are the same: repositories are compared without regard to case, as their hosts do."""
    if (found.kind, found.workflow, found.email) != (expected.kind, expected.workflow, expected.email):
        return False
    return (found.repository or "").casefold() == (expected.repository or "").casefold()


PUBLISH = "https://docs.pypi.org/attestations/publish/v1"
KINDS = (PUBLISH, SLSA[1])
MAX_ATTESTATIONS = 32
_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """One verified attestation: its kind, who signed it by the certificate, and where that was built."""

    kind: str
    publisher: Publisher | None
    build: Build


def verify_provenance(data: bytes, *, filename: str, sha256: str, verifier: BundleVerifier) -> tuple[Attestation, ...]:
    """Verify all that an index serves as the provenance of a file.

    Raises:
        DocumentError: it is no provenance.
        VerificationError: something in it is not to be trusted, or about another file.
        StoreError: something on this machine is missing that the check needs.
    """
    value = load_json(data)
    fields = Fields(value)
    if fields.integer("version", minimum=1) != 1:
        fields.fail("version", "must be 1: a newer kedge is needed to read this")
    found: list[Attestation] = []
    for entry, served in zip(fields.tables("attestation_bundles"), value["attestation_bundles"], strict=True):
        claimed = _claimed(entry.table("publisher"))
        for attestation, each in zip(entry.tables("attestations"), served["attestations"], strict=True):
            if len(found) == MAX_ATTESTATIONS:
                fields.fail("attestation_bundles", f"must hold at most {MAX_ATTESTATIONS} attestations")
            found.append(_verify(attestation, each, filename, sha256, verifier))
            _require_agreement(claimed, found[-1].publisher)
    if not found:
        fields.fail("attestation_bundles", "must hold an attestation")
    return tuple(found)


def _verify(fields: Fields, served: Any, filename: str, sha256: str, verifier: BundleVerifier) -> Attestation:
    if fields.integer("version", minimum=1) != 1:
        fields.fail("version", "must be 1: a newer kedge is needed to read this")
    found = verifier.verify_statement(Bundle.from_value(_as_bundle(fields, served), fields.path))
    _require_about(found.statement, filename, sha256)
    build = read_build(found)
    return Attestation(kind=found.statement.predicate_type, publisher=publisher_of(build), build=build)


def _as_bundle(fields: Fields, served: Any) -> dict[str, Any]:
    """The same signature, in the form of a Sigstore bundle."""
    material, envelope = fields.table("verification_material"), fields.table("envelope")
    material.tables("transparency_entries")
    return {
        "mediaType": _BUNDLE,
        "verificationMaterial": {
            "certificate": {"rawBytes": material.text("certificate")},
            "tlogEntries": served["verification_material"]["transparency_entries"],
        },
        "dsseEnvelope": {
            "payloadType": PAYLOAD_TYPE,
            "payload": envelope.text("statement"),
            "signatures": [{"sig": envelope.text("signature")}],
        },
    }


def _require_about(statement: Statement, filename: str, sha256: str) -> None:
    if statement.predicate_type not in KINDS:
        problem = f"is of the kind {statement.predicate_type[:200]}, expected {' or '.join(KINDS)}"
        raise refuse(Part.STATEMENT, problem, reason=Reason.CONTENT)
    if len(statement.subjects) != 1 or not _is_same_file(statement.subjects[0].name, filename):
        found = ", ".join(subject.name for subject in statement.subjects)[:300]
        raise refuse(Part.SUBJECT, f"is {found}, expected {filename}", reason=Reason.CONTENT, found=found)
    stated = statement.subjects[0].digests.get("sha256", "")
    if stated != sha256:
        problem = f"is sha256 {stated[:80] or 'not stated'}, and {sha256} is locked"
        raise refuse(Part.DIGEST, problem, reason=Reason.CONTENT, expected=sha256, found=stated)


def _is_same_file(name: str, filename: str) -> bool:
    """Whether two names mean one file: projects' names may be written in several ways."""
    try:
        return parse_filename(name) == parse_filename(filename)
    except ValueError:
        return False


def _claimed(fields: Fields) -> Publisher:
    return Publisher(
        kind=fields.text("kind"),
        repository=_optional(fields, "repository"),
        workflow=_optional(fields, "workflow") or _optional(fields, "workflow_filepath"),
        email=_optional(fields, "email"),
    )


def _optional(fields: Fields, name: str) -> str | None:
    try:
        return fields.optional(name, fields.text)
    except DocumentError:
        return None  # null, where this kind of publisher has no such thing


def _require_agreement(claimed: Publisher, found: Publisher | None) -> None:
    """Check that the index does not name another publisher than the certificate does."""
    if found is not None and not is_published_by(found, claimed):
        problem = f"the index names the publisher {claimed.text}, and the certificate {found.text}"
        raise refuse(Part.IDENTITY, problem, reason=Reason.CONFLICT, expected=found.text, found=claimed.text)
