"""The keys that a run judges with: from verified targets only, each issuer's asked for once, renewed at most once.

A registry's own keys endpoint is never asked: there is no code here that could. Where nobody signed for a registry's
keys the answer is :class:`NoKeys`, and its packages are ``no-keys``; every other failure ends the run before anything
is judged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TypeVar

from kedge.errors import Reason, VerificationError
from kedge.registries import KeySet
from kedge.tuf import Trust


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """An issuer's keys, and the anchor and trust that they stand on."""

    keys: KeySet
    anchor: str
    trust: Trust


@dataclass(frozen=True, slots=True, kw_only=True)
class NoKeys:
    """There are no keys for an issuer; ``detail`` says why."""

    issuer: str
    detail: str


class Named(Protocol):
    """A trust anchor, as far as it is looked at here."""

    @property
    def name(self) -> str:
        """Its name."""
        ...


class KeySource(Protocol):
    """What gives verified keys: a :class:`kedge.TrustClient`."""

    @property
    def trust(self) -> Trust:
        """How far trust reaches; refreshed first where it has not been."""
        ...

    def registry_keys(self, registry: str) -> KeySet:
        """The verified keys of one registry."""
        ...

    def refresh(self) -> Trust:
        """Update the trusted metadata."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


A = TypeVar("A", bound=Named)


class KeyRing:
    """Gets issuers' keys. ``speaker`` finds the anchor that is trusted for an issuer, or None."""

    def __init__(self, speaker: Callable[[str], A | None], open_source: Callable[[A], KeySource]) -> None:
        """Start with no keys; ``open_source`` is called once for each anchor."""
        self._sources: dict[str, KeySource] = {}

        def find(issuer: str) -> tuple[str, KeySource] | None:
            anchor = speaker(issuer)
            if anchor is None:
                return None
            if anchor.name not in self._sources:
                self._sources[anchor.name] = open_source(anchor)
            return anchor.name, self._sources[anchor.name]

        self._find = find
        self._renewed = False
        self.issued: dict[str, Issued | NoKeys] = {}

    def get(self, issuer: str) -> Issued | NoKeys:
        """Give an issuer's keys.

        Raises:
            ExpiredError: trust is older than the policy allows.
            VerificationError: something served must not be trusted.
            FetchError: the repository cannot be reached, and nothing unexpired is stored.
            InputError: the issuer is no registry's id, or two anchors claim it.
        """
        if issuer not in self.issued:
            self.issued[issuer] = self._get(issuer)
        return self.issued[issuer]

    def renew(self) -> bool:
        """Refresh once in a run, as far as this run's answers came from state; say whether any keys are others now.

        Raises:
            KedgeError: as :meth:`get`.
        """
        if self._renewed:
            return False
        self._renewed = True
        before = {name: _digest(each) for name, each in self.issued.items()}
        for source in self._sources.values():
            if not source.trust.refreshed:
                source.refresh()
        for issuer in before:
            self.issued[issuer] = self._get(issuer)
        return before != {name: _digest(each) for name, each in self.issued.items()}

    def close(self) -> None:
        """Close the clients' connections."""
        for source in self._sources.values():
            source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _get(self, issuer: str) -> Issued | NoKeys:
        found = self._find(issuer)
        if found is None:
            return NoKeys(issuer=issuer, detail=f"no anchor speaks for {issuer}")
        anchor, source = found
        try:
            keys = source.registry_keys(issuer)
        except VerificationError as error:
            if error.refusal.reason not in (Reason.NOT_FOUND, Reason.NO_KEYS):
                raise
            return NoKeys(issuer=issuer, detail=error.message)
        return Issued(keys=keys, anchor=anchor, trust=source.trust)


def _digest(issued: Issued | NoKeys) -> object:
    return (issued.keys.sha256, issued.keys.keys, issued.keys.revoked) if isinstance(issued, Issued) else None
