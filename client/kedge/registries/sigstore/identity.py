"""Who must have signed a file, as people state it: exactly, by a regular expression, or by a repository or its owner.

- A regular expression must match all of the text: ``https://github.com/o/`` alone does not match ``…/o/r``.
- ``repository`` and ``owner`` are GitHub's, and compared without regard to case, as GitHub does. They are read from the
  claim of the source repository, which GitHub's token service makes, so that service must be the issuer.
- A key that the user gave needs no identity: the key is what is trusted.

Sources: ``cosign verify-blob --certificate-identity-regexp``; ``gh attestation verify --repo, --owner``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kedge.errors import Reason
from kedge.registries.sigstore.bundle import Part, refuse
from kedge.registries.sigstore.certificate import GITHUB, Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a certificate must say. Each field that is not None must be met; patterns are regular expressions."""

    identity: str | None = None
    identity_pattern: re.Pattern[str] | None = None
    issuer: str | None = None
    issuer_pattern: re.Pattern[str] | None = None
    repository: str | None = None
    owner: str | None = None

    def require(self, found: Identity) -> None:
        """Check whom a verified certificate names.

        Raises:
            VerificationError: somebody else; the text says what was expected and what was found.
        """
        by_github = self.repository is not None or self.owner is not None
        issuer = self.issuer or (GITHUB if by_github and self.issuer_pattern is None else None)
        for what, said, exact, pattern in (
            ("issuer", found.issuer, issuer, self.issuer_pattern),
            ("identity", found.subject, self.identity, self.identity_pattern),
        ):
            if exact is not None and said != exact:
                raise _other(what, said, exact)
            if pattern is not None and pattern.fullmatch(said) is None:
                raise _other(what, said, f"a match for {pattern.pattern}")
        repository = (found.repository or "").casefold()
        if self.repository is not None and repository != f"https://github.com/{self.repository}".casefold():
            raise _other("source repository", found.repository, f"https://github.com/{self.repository}")
        if self.owner is not None and not repository.startswith(f"https://github.com/{self.owner}/".casefold()):
            raise _other("source repository", found.repository, f"one of https://github.com/{self.owner}")


def _other(what: str, found: str | None, expected: str) -> Exception:
    problem = f"the certificate's {what} is {(found or 'not stated')[:300]!a}, expected {expected[:300]!a}"
    return refuse(Part.IDENTITY, problem, reason=Reason.CONTENT, expected=expected, found=found or "")
