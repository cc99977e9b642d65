"""An in-toto statement: of which files, by name and digest, it says what.

Two kinds of statement matter here: that a registry published a file, and how it was built (SLSA provenance v0.2 and
v1). A provenance's own text is written by the build: it counts where it adds to what the certificate says, and it is
refused where it says something else.

Sources: in-toto attestation Statement v0.1 and v1; SLSA provenance v0.2 and v1; npm's and PyPI's publish attestations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kedge.document import Fields, load_json

__all__ = ["PAYLOAD_TYPE", "Provenance", "Statement", "Subject", "read_provenance"]

PAYLOAD_TYPE = "application/vnd.in-toto+json"
_TYPES = ("https://in-toto.io/Statement/v0.1", "https://in-toto.io/Statement/v1")
SLSA = ("https://slsa.dev/provenance/v0.2", "https://slsa.dev/provenance/v1")
"""The predicate types that say how something was built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A file that a statement is about: its name and its digests, in hexadecimal digits by algorithm."""

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
    """Read what a statement says of the build; nothing, if it is no SLSA provenance.

    Raises:
        DocumentError: what it says there is not of the kind that its type has.
    """
    if statement.predicate is None or statement.predicate_type not in SLSA:
        return Provenance()
    fields = Fields(statement.predicate, "predicate")
    return _read_v02(fields) if statement.predicate_type == SLSA[0] else _read_v1(fields)


def _subject(fields: Fields) -> Subject:
    digests = fields.table("digest")
    found = {
        name: digests.text(name, pattern="[0-9a-f]{2,256}", expected="hexadecimal digits") for name in digests.names()
    }
    return Subject(name=fields.text("name"), digests=found)


def _read_v02(fields: Fields) -> Provenance:
    invocation = fields.table("invocation") if "invocation" in fields else Fields({})
    source = invocation.table("configSource") if "configSource" in invocation else Fields({})
    uri = source.optional("uri", source.text)
    digest = source.table("digest") if "digest" in source else Fields({})
    return Provenance(
        builder=_builder(fields),
        repository=_repository(uri),
        commit=digest.optional("sha1", digest.text),
        workflow=source.optional("entryPoint", source.text),
    )


def _read_v1(fields: Fields) -> Provenance:
    definition = fields.table("buildDefinition") if "buildDefinition" in fields else Fields({})
    external = definition.table("externalParameters") if "externalParameters" in definition else Fields({})
    workflow = external.table("workflow") if isinstance(_value(external, "workflow"), dict) else Fields({})
    sources = definition.tables("resolvedDependencies") if "resolvedDependencies" in definition else []
    digest = sources[0].table("digest") if sources and "digest" in sources[0] else Fields({})
    return Provenance(
        builder=_builder(fields.table("runDetails") if "runDetails" in fields else Fields({})),
        repository=_repository(workflow.optional("repository", workflow.text)),
        commit=digest.optional("gitCommit", digest.text),
        workflow=workflow.optional("path", workflow.text),
    )


def _builder(fields: Fields) -> str | None:
    builder = fields.table("builder") if "builder" in fields else Fields({})
    return builder.optional("id", builder.text)


def _repository(uri: str | None) -> str | None:
    """``https://github.com/o/r`` out of ``git+https://github.com/o/r@refs/tags/v1`` or ``….git``."""
    if uri is None:
        return None
    scheme, found, rest = uri.removeprefix("git+").partition("://")
    return f"{scheme}{found}{rest.partition('@')[0]}".removesuffix(".git")


def _value(fields: Fields, name: str) -> object:
    return name in fields and fields.optional(name, fields.table)
