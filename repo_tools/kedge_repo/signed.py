"""The signed metadata of a repository as one value: what is true until the next event is merged.

Invariants:

- Root versions are complete from the first; a gap would strand every client behind it.
- :meth:`SignedMetadata.verify` holds the set to the same rules as a client does, expiry apart: an expired role must be
  seen, not hidden, by those who are about to renew it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tuf.api.metadata import Key, Root, Snapshot, Targets, Timestamp

from kedge.errors import Reason, Refusal, VerificationError
from kedge.metadata import Parsed, require_threshold
from kedge_repo.payload import digest

__all__ = ["FORMER_FIELD", "SignedMetadata", "delegated_roles", "verify_roots"]

FORMER_FIELD = "x-kedge-former-until"
"""In a snapshot: when the last timestamp that names an earlier snapshot expires."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedMetadata:
    """Every root, and the newest version of every other role; empty before the first ceremony."""

    roots: tuple[Parsed[Root], ...] = ()
    targets: Parsed[Targets] | None = None
    delegated: Mapping[str, Parsed[Targets]] = field(default_factory=dict)
    snapshot: Parsed[Snapshot] | None = None
    timestamp: Parsed[Timestamp] | None = None

    @property
    def root(self) -> Parsed[Root] | None:
        """The newest root."""
        return self.roots[-1] if self.roots else None

    @property
    def root_sha256(self) -> str:
        """The digest of the newest root's payload; empty before the first ceremony."""
        return digest(self.roots[-1].payload) if self.roots else ""

    def role(self, name: str) -> Parsed[Root] | Parsed[Targets] | None:
        """The newest signed version of root, targets or a delegated role."""
        if name == Root.type:
            return self.root
        return self.targets if name == Targets.type else self.delegated.get(name)

    def everything(self) -> dict[str, Parsed[Any]]:
        """The newest version of every role that has one, by role name."""
        top: dict[str, Parsed[Any] | None] = {
            "root": self.root,
            "targets": self.targets,
            **self.delegated,
            "snapshot": self.snapshot,
            "timestamp": self.timestamp,
        }
        return {name: parsed for name, parsed in top.items() if parsed is not None}

    def keys(self) -> dict[str, Key]:
        """Every key that the newest root, targets and delegated roles list, by keyid."""
        found: dict[str, Key] = dict(self.root.signed.keys) if self.root else {}
        for parsed in (self.targets, *self.delegated.values()):
            if parsed is not None and parsed.signed.delegations is not None:
                found.update(parsed.signed.delegations.keys)
        return found

    def with_roles(self, files: Iterable[tuple[str, Parsed[Root] | Parsed[Targets]]]) -> SignedMetadata:
        """The set with newer versions of some roles; roots are added to the chain unless they stand there already."""
        roots = list(self.roots)
        found: dict[str, Parsed[Targets]] = {}
        for name, parsed in files:
            if isinstance(parsed.signed, Root):
                roots = [root for root in roots if root.signed.version < parsed.signed.version]
                roots.append(parsed)
            else:
                found[name] = parsed
        targets = found.pop(Targets.type, self.targets)
        return replace(self, roots=tuple(roots), targets=targets, delegated={**self.delegated, **found})

    def verify(self) -> None:
        """Check the root chain, and that targets and the delegated roles reach their thresholds under it.

        Raises:
            VerificationError: they do not; the text names the file.
        """
        if self.root is None:
            return
        verify_roots(self.roots)
        if self.targets is None:
            return
        require_threshold(self.root.signed, Targets.type, self.targets)
        for name, parsed in self.delegated.items():
            require_threshold(self.targets.signed, name, parsed)


def delegated_roles(targets: Targets) -> tuple[str, ...]:
    """The names of the roles that ``targets`` delegates to, in order of trust."""
    roles = targets.delegations.roles if targets.delegations is not None else None
    return tuple(roles or ())


def verify_roots(roots: tuple[Parsed[Root], ...]) -> None:
    """Check that each root is signed by itself and by the one before it, and that no version is left out.

    Raises:
        VerificationError: a link is broken.
    """
    for index, root in enumerate(roots):
        before = roots[index - 1] if index else None
        expected = before.signed.version + 1 if before else root.signed.version
        if root.signed.version != expected:
            refusal = Refusal(
                reason=Reason.VERSION,
                file=root.file,
                role=Root.type,
                expected=str(expected),
                found=str(root.signed.version),
            )
            raise VerificationError(
                f"{root.file}: is version {root.signed.version}, expected {expected}", refusal=refusal
            )
        if before is not None:
            require_threshold(before.signed, Root.type, root)
        require_threshold(root.signed, Root.type, root)
