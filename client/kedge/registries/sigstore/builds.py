"""Where something was built, out of a provenance that was verified: who says what, and that nobody contradicts.

Two speak. The *service* that ran the build told the certificate authority which repository, commit and workflow it was:
that is in the certificate. The *build* wrote the statement: what stands there alone is the build's own word, and what
stands there against the certificate is refused.

A builder's name is the build's word too. It is *backed* where the certificate says the same: the runner's kind on
GitHub, or the workflow that signed, which is how reusable builders are named.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kedge.document import format_time
from kedge.errors import Reason
from kedge.registries.sigstore.faults import Part, refuse
from kedge.registries.sigstore.statement import Provenance, read_provenance
from kedge.registries.sigstore.verify import LogPlace, SignedStatement

__all__ = ["Build", "read_build"]

_RUNNERS = "https://github.com/actions/runner/"


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
