"""An in-toto statement: of which files, by name and digest, it says what.

Two kinds of statement matter here: that a registry published a file, and how it was built (SLSA provenance v0.2 and
v1). A provenance's own text is written by the build: it counts where it adds to what the certificate says, and it is
refused where it says something else.

Sources: in-toto attestation Statement v0.1 and v1; SLSA provenance v0.2 and v1; npm's and PyPI's publish attestations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kedge.documents import Fields, load_json
from kedge.errors import Reason
from kedge.registries.sigstore.bundle import Part, refuse
from kedge.registries.sigstore.content import Content

PAYLOAD_TYPE = "application/vnd.in-toto+json"
_TYPES = ("https://in-toto.io/Statement/v0.1", "https://in-toto.io/Statement/v1")
SLSA = ("https://slsa.dev/provenance/v0.2", "https://slsa.dev/provenance/v1")
"""The predicate types that say how something was built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A file that a statement is about: its name, empty where none is stated, and its digests in hexadecimal digits."""

    name: str
    digests: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """The statement. ``predicate`` is what it says; None where there is nothing beside its type."""

    subjects: tuple[Subject, ...]
    predicate_type: str
    predicate: dict[str, Any] | None

    @classmethod
    def from_bytes(cls, data: bytes) -> Statement:
        """Read a statement.

        Raises:
            DocumentError: it is none; the path leads to the fault.
        """
        document = load_json(data)
        fields = Fields(document)
        kind = fields.text("_type")
        if kind not in _TYPES:
            fields.fail("_type", f"must be one of {', '.join(_TYPES)}")
        predicate = document.get("predicate")
        if predicate is not None and not isinstance(predicate, dict):
            fields.fail("predicate", "must be a table")
        subjects = tuple(_subject(entry) for entry in fields.tables("subject"))
        if not subjects:
            fields.fail("subject", "must not be empty")
        return cls(subjects=subjects, predicate_type=fields.text("predicateType"), predicate=predicate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What a build says of itself; None where its statement does not say it in a form that is known."""

    builder: str | None = None
    repository: str | None = None
    commit: str | None = None
    workflow: str | None = None


def read_provenance(statement: Statement) -> Provenance:
    """Read what a statement says of the build; nothing where it is no SLSA provenance, or says it in another form."""
    said = statement.predicate
    if statement.predicate_type == SLSA[0]:
        source = ("invocation", "configSource")
        return Provenance(
            builder=_text(said, "builder", "id"),
            repository=_repository(_text(said, *source, "uri")),
            commit=_text(said, *source, "digest", "sha1"),
            workflow=_text(said, *source, "entryPoint"),
        )
    if statement.predicate_type == SLSA[1]:
        workflow = ("buildDefinition", "externalParameters", "workflow")
        return Provenance(
            builder=_text(said, "runDetails", "builder", "id"),
            repository=_repository(_text(said, *workflow, "repository")),
            commit=_text(said, "buildDefinition", "resolvedDependencies", 0, "digest", "gitCommit"),
            workflow=_text(said, *workflow, "path"),
        )
    return Provenance()


def _subject(fields: Fields) -> Subject:
    digests = fields.table("digest")
    found = {
        name: digests.text(name, pattern="[0-9a-f]{2,256}", expected="hexadecimal digits") for name in digests.names()
    }
    name = fields.text("name", empty=True) if "name" in fields else ""
    return Subject(name=name, digests=found)


def require_subject(statement: Statement, content: Content) -> None:
    """Check that a statement is about the bytes in ``content``: every digest of one subject that can be checked.

    Raises:
        VerificationError: it is about other files (``content``).
    """
    for subject in statement.subjects:
        stated = {name: value for name, value in subject.digests.items() if content.can_digest(name)}
        if stated and all(content.digest(name).value.hex() == value for name, value in stated.items()):
            return
    named = ", ".join(subject.name or "a file without a name" for subject in statement.subjects[:3])[:300]
    raise refuse(Part.SUBJECT, f"is {named}, none with the bytes of this file", reason=Reason.CONTENT, found=named)


def _text(value: Any, *path: str | int) -> str | None:
    """The text at the end of a path into a document whose form is the build's own; None where there is none."""
    for step in path:
        if isinstance(value, dict) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int):
            value = value[step] if len(value) > step else None
        else:
            return None
    return value if isinstance(value, str) and value else None


def _repository(uri: str | None) -> str | None:
    """``https://github.com/o/r`` out of ``git+https://github.com/o/r@refs/tags/v1`` or ``….git``."""
    if uri is None:
        return None
    scheme, found, rest = uri.removeprefix("git+").partition("://")
    return f"{scheme}{found}{rest.partition('@')[0]}".removesuffix(".git")
