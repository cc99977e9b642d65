"""Who published a file, by its certificate; and whether that is who was expected.

The publisher that an index names beside an attestation is the index's word. It is compared, and never taken.

Sources: PEP 740 (publisher objects); the policies of the package pypi-attestations for GitHub, GitLab and Google.
"""

from __future__ import annotations

from kedge.registries.sigstore.builds import Build
from kedge.registries.sigstore.expectations import Publisher

__all__ = ["is_published_by", "publisher_of"]

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
