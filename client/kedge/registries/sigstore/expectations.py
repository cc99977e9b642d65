"""What a user expects of packages' provenance: a file of the user's own (``kedge.provenance/1``).

Who may publish a package is the verifier's knowledge. What an index or a mirror says about it is what is being judged,
and never taken. The first rule that fits a package counts, so that the particular stands before the general.

::

    format = "kedge.provenance/1"

    [[npm]]
    package = "sigstore"                # a name, @scope/*, or * for all
    provenance = "required"
    source-repository = "https://github.com/sigstore/sigstore-js"
    builder = "https://github.com/actions/runner/github-hosted"
    issuer = "https://token.actions.githubusercontent.com"  # who vouches; else the host's own

    [[pypi]]
    project = "pypi-attestations"
    publisher = { kind = "GitHub", repository = "trailofbits/pypi-attestations", workflow = "release.yml" }

    [[pypi]]
    project = "sampleproject"
    pinned = "sha256:…"                 # an earlier release's file: whoever published that

Where something was built, out of a provenance that was verified: who says what, and that nobody contradicts.

Two speak. The *service* that ran the build told the certificate authority which repository, commit and workflow it was:
that is in the certificate. The *build* wrote the statement: what stands there alone is the build's own word, and what
stands there against the certificate is refused.

A builder's name is the build's word too. It is *backed* where the certificate says the same: the runner's kind on
GitHub, or the workflow that signed, which is how reusable builders are named.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kedge.documents import Fields, format_time, load_toml
from kedge.errors import Reason
from kedge.registries.sigstore.bundle import Part, refuse
from kedge.registries.sigstore.statement import Provenance, read_provenance
from kedge.registries.sigstore.verify import LogPlace, SignedStatement

_RUNNERS = "https://github.com/actions/runner/"
ISSUERS = {
    "github.com": "https://token.actions.githubusercontent.com",
    "gitlab.com": "https://gitlab.com",
}
"""Who may vouch for builds from a host's repositories: the token issuer of that host's own build service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A build. ``issuer`` vouches for ``signer``, ``repository``, ``commit``, ``ref``, ``workflow`` and ``run``.

    ``builder`` is the build's own word, unless ``backed``. None stands for what nobody says.
    """

    issuer: str
    signer: str
    repository: str | None
    commit: str | None
    ref: str | None
    workflow: str | None
    run: str | None
    builder: str | None
    backed: bool
    at: datetime
    place: LogPlace

    def to_table(self) -> dict[str, Any]:
        """This build in ``--json``."""
        return {
            "issuer": self.issuer,
            "signer": self.signer,
            "repository": self.repository,
            "commit": self.commit,
            "workflow": self.workflow,
            "run": self.run,
            "builder": self.builder,
            "builder_backed": self.backed,
            "at": format_time(self.at),
            "log": self.place.log,
            "log_index": self.place.index,
        }


def read_build(found: SignedStatement) -> Build:
    """Read the build out of a verified statement.

    Raises:
        VerificationError: the statement was signed by a key, names no build, or contradicts its certificate.
    """
    identity = found.signed.identity
    if identity is None:
        problem = "no certificate says who built it: it was signed by a key"
        raise refuse(Part.SIGNER, problem, reason=Reason.UNKNOWN_KEY)
    said = read_provenance(found.statement)
    for what, by_build, by_service in (
        ("repository", said.repository, identity.repository),
        ("commit", said.commit, identity.commit),
    ):
        if by_build is not None and by_service is not None and by_build.casefold() != by_service.casefold():
            problem = f"the build names the {what} {by_build[:200]}, and its certificate {by_service[:200]}"
            raise refuse(Part.SOURCE, problem, reason=Reason.CONFLICT, expected=by_service, found=by_build)
    return Build(
        issuer=identity.issuer,
        signer=identity.subject,
        repository=identity.repository,
        commit=identity.commit,
        ref=identity.ref,
        workflow=identity.workflow,
        run=identity.run,
        builder=said.builder,
        backed=_is_backed(said, identity.runner, identity.subject),
        at=found.signed.at,
        place=found.signed.place,
    )


def _is_backed(said: Provenance, runner: str | None, signer: str) -> bool:
    """Whether the certificate says what the build says of its builder.

    Raises:
        VerificationError: it says the opposite.
    """
    if said.builder is None:
        return False
    if said.builder.startswith(_RUNNERS) and runner is not None:
        if said.builder.removeprefix(_RUNNERS) != runner:
            problem = f"the build names the runner {said.builder[:200]}, and its certificate says {runner[:100]}"
            raise refuse(Part.SOURCE, problem, reason=Reason.CONFLICT, expected=runner, found=said.builder)
        return True
    return said.builder in (signer, signer.partition("@")[0])


_PACKAGE = r"\*|@[^\s/@*]+/\*|(@[^\s/@*]+/)?[^\s/@*]+"
_PROJECT = r"\*|[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
_REPOSITORY = r"https://[!-~]+"
_KINDS = ("GitHub", "GitLab", "Google")


@dataclass(frozen=True, slots=True, kw_only=True)
class NpmRule:
    """What is expected of npm packages whose name fits ``package``. None: nothing is.

    ``issuer`` is who must vouch for the build; None leaves it to the host of the repository or builder.
    """

    package: str
    required: bool = False
    source_repository: str | None = None
    builder: str | None = None
    issuer: str | None = None

    @property
    def asks(self) -> bool:
        """Whether it cannot be met without a provenance."""
        return self.required or self.source_repository is not None or self.builder is not None

    def fits(self, name: str) -> bool:
        """Whether the rule is about a package of this name."""
        if self.package.endswith("/*"):
            return name.startswith(self.package[:-1])
        return self.package in ("*", name)

    def trusted_issuer(self, url: str) -> str | None:
        """Who must vouch for a build of this repository or by this builder: whom the user names, else its host's own.

        None, where neither says: then nobody is trusted for it.
        """
        match = re.match(r"https://([A-Za-z0-9.-]+)/", url)
        return self.issuer or (ISSUERS.get(match[1].lower()) if match is not None else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher:
    """Who publishes a project, as PyPI's trusted publishers are named. ``workflow`` is a file's name or path."""

    kind: str
    repository: str | None = None
    workflow: str | None = None
    email: str | None = None

    @property
    def text(self) -> str:
        """The publisher in a few words."""
        where = f"{self.repository} ({self.workflow})" if self.workflow else self.repository or self.email
        return f"{self.kind} {where}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PypiRule:
    """Who is expected to publish a project: ``publisher``, or whoever published the file of the SHA-256 ``pinned``."""

    project: str
    publisher: Publisher | None = None
    pinned: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """The file."""

    FORMAT = "kedge.provenance/1"

    npm: tuple[NpmRule, ...] = ()
    pypi: tuple[PypiRule, ...] = ()

    @classmethod
    def from_toml(cls, text: bytes) -> Expectations:
        """Read the file.

        Raises:
            DocumentError: it is not such a document; the path leads to the fault.
        """
        fields = Fields(load_toml(text))
        fields.format(cls.FORMAT)
        found = cls(
            npm=tuple(_npm(entry) for entry in (fields.tables("npm") if "npm" in fields else ())),
            pypi=tuple(_pypi(entry) for entry in (fields.tables("pypi") if "pypi" in fields else ())),
        )
        fields.end()
        return found

    def npm_rule(self, name: str) -> NpmRule | None:
        """The first rule that is about this package."""
        return next((rule for rule in self.npm if rule.fits(name)), None)

    def pypi_rule(self, project: str) -> PypiRule | None:
        """The rule about this project, by its normalized name."""
        return next((rule for rule in self.pypi if rule.project == normalized(project)), None)


def normalized(project: str) -> str:
    """A project's name as PyPI compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", project).lower()


def _npm(fields: Fields) -> NpmRule:
    package = fields.text("package", pattern=_PACKAGE, expected="a package's name, @scope/* or *")
    required = fields.optional("provenance", fields.text, pattern="required", expected='"required"') is not None
    rule = NpmRule(
        package=package,
        required=required,
        source_repository=fields.optional(
            "source-repository", fields.text, pattern=_REPOSITORY, expected="a URL such as https://github.com/o/r"
        ),
        builder=fields.optional("builder", fields.text),
        issuer=fields.optional("issuer", fields.text, pattern=_REPOSITORY, expected="a URL such as https://HOST"),
    )
    fields.end()
    return rule


def _pypi(fields: Fields) -> PypiRule:
    project = fields.text("project", pattern=_PROJECT, expected="a project's name")
    pinned = fields.optional("pinned", fields.text, pattern="sha256:[0-9a-f]{64}", expected="sha256: and 64 digits")
    if ("publisher" in fields) == (pinned is not None):
        fields.fail("publisher", "must be there, or pinned, and not both")
    rule = PypiRule(
        project=normalized(project),
        publisher=_publisher(fields.table("publisher")) if "publisher" in fields else None,
        pinned=pinned.removeprefix("sha256:") if pinned is not None else None,
    )
    fields.end()
    return rule


def _publisher(fields: Fields) -> Publisher:
    kind = fields.text("kind", pattern="|".join(_KINDS), expected=f"one of {', '.join(_KINDS)}")
    named = kind != "Google"
    publisher = Publisher(
        kind=kind,
        repository=fields.text("repository", pattern="[!-~]+/[!-~]+", expected="owner/name") if named else None,
        workflow=fields.text("workflow", pattern="[!-~]+", expected="a file's name") if named else None,
        email=None if named else fields.text("email", pattern="[!-~]+@[!-~]+", expected="an address"),
    )
    fields.end()
    return publisher
