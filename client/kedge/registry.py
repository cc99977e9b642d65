"""What a registry's module must offer, and how the module of a registry is found.

A registry's id is the folder of its target: ``<npm-host>``, ``hex/hexpm``. Its first segment names the module where a
module of that name is installed (entry-point group ``kedge.registries``); every other id is npm's, whose ids are hosts.
The client knows registries by this protocol only, so that another ecosystem is another entry point and no change here.
A name that two packages offer is refused: which code judges signatures is never a matter of import order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol, cast, runtime_checkable

from kedge.document import DocumentError, Fields, blame_served
from kedge.errors import Reason, Refusal, StoreError, VerificationError
from kedge.extensions import find_extension, load_extension
from kedge.findings import Finding
from kedge.keys import KeySet, TimeBasis

__all__ = [
    "GROUP",
    "KEYID",
    "LiveRegistry",
    "NoKeysError",
    "Registry",
    "find_registry",
    "read_custom",
    "read_served_keys",
]

GROUP = "kedge.registries"
DEFAULT = "npm"
KEYID = r"[!-~]{1,200}"
"""What a keyid may be: an opaque text of up to 200 visible ASCII characters."""


class NoKeysError(DocumentError):
    """A key document is in order and names no key at all: a fault of its own, never "nothing to check"."""


class Registry(Protocol):
    """One kind of registry: where its key document stands, and how to read it."""

    @property
    def name(self) -> str:
        """The module's name, as in its entry point."""

    def target_path(self, registry: str) -> str:
        """Give the target path of the key document of ``registry``.

        Raises:
            InputError: the id is not one that this kind of registry can have.
        """

    def parse(self, data: bytes, *, registry: str, custom: Mapping[str, Any] | None, now: datetime) -> KeySet:
        """Read a key document; ``custom`` is what the TUF target says beside it, ``now`` the reference time.

        Raises:
            DocumentError: the document, or ``custom``, is not what it should be.
            NoKeysError: the document names no key.
        """

    def lint(self, old: KeySet | None, new: KeySet) -> tuple[Finding, ...]:
        """Say what would go wrong with ``new`` in place of ``old`` (None: there was no document). Pure.

        Both have been parsed, so what no client could read never comes here; ``KeySet.document`` holds their bytes.
        """


@runtime_checkable
class LiveRegistry(Protocol):
    """What a module offers beside :class:`Registry` where the registry itself serves its keys in another form.

    A module that does not has registries that serve the key document.
    """

    def parse_live(self, data: bytes, *, registry: str, now: datetime) -> KeySet:
        """Read what the registry itself serves.

        Raises:
            DocumentError: it is not that.
        """


def find_registry(registry: str) -> Registry:
    """Give the module that reads the keys of ``registry``.

    Raises:
        StoreError: the module cannot be loaded, or two installed packages offer one under the same name.
    """
    first = registry.partition("/")[0]
    what = "the registry module"
    entry = find_extension(GROUP, first, what=what) if first else None
    entry = entry or find_extension(GROUP, DEFAULT, what=what)
    if entry is None:
        text = f"no module for npm registries is installed (entry-point group {GROUP})"
        raise StoreError(text, hint="install kedge again")
    # An entry point is untyped by nature; each module of ours is checked against the protocol by a test.
    return cast("Registry", load_extension(entry, what=what)())


def read_served_keys(
    module: Registry, data: bytes, *, registry: str, custom: Mapping[str, Any] | None, now: datetime
) -> KeySet:
    """Read a key document that a repository served: what is wrong with it is the repository's fault.

    Raises:
        VerificationError: the document cannot be read (``malformed``) or names no key (``no-keys``).
        InputError: ``registry`` is not an id that the module knows.
    """
    target = module.target_path(registry)
    with blame_served(target):
        try:
            return module.parse(data, registry=registry, custom=custom, now=now)
        except NoKeysError as error:
            refusal = Refusal(reason=Reason.NO_KEYS, file=target)
            raise VerificationError(f"{target}: {error}", refusal=refusal) from error


def read_custom(custom: Mapping[str, Any] | None) -> tuple[tuple[str, ...], TimeBasis | None]:
    """Read ``custom.kedge`` of a key document's target: revoked keyids, and the time basis if there is one.

    Raises:
        DocumentError: it is not what it should be, or of a newer version.
    """
    outer = Fields({} if custom is None else custom, "custom")
    if "kedge" not in outer:
        return (), None
    ours = outer.table("kedge")
    if ours.integer("v", minimum=1) != 1:
        ours.fail("v", "must be 1: a newer kedge is needed to read this")
    revoked = ours.optional("revoked", ours.texts) or ()
    for index, keyid in enumerate(revoked):
        if re.fullmatch(KEYID, keyid) is None:
            raise DocumentError(f"{ours.at('revoked')}[{index}]", "must be a keyid, up to 200 visible ASCII characters")
    expected = "one of " + ", ".join(TimeBasis)
    basis = ours.optional("time_basis", ours.text, pattern="|".join(TimeBasis), expected=expected)
    ours.end()
    return revoked, TimeBasis(basis) if basis else None
