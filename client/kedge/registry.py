"""What a registry's module must offer, and how the module of a registry is found.

A registry's id is the folder of its target: ``<npm-host>``, ``hex/hexpm``. Its first segment names the module where a
module of that name is installed (entry-point group ``kedge.registries``); every other id is npm's, whose ids are hosts.
The client knows registries by this protocol only, so that another ecosystem is another entry point and no change here.
A name that two packages offer is refused: which code judges signatures is never a matter of import order.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, cast

from kedge.document import DocumentError, blame_served
from kedge.errors import Reason, Refusal, StoreError, VerificationError
from kedge.keys import KeySet

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["GROUP", "NoKeysError", "Registry", "find_registry", "read_served_keys"]

GROUP = "kedge.registries"
DEFAULT = "npm"


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


def find_registry(registry: str) -> Registry:
    """Give the module that reads the keys of ``registry``.

    Raises:
        StoreError: the module cannot be loaded, or two installed packages offer one under the same name.
    """
    first = registry.partition("/")[0]
    candidates = _offered(first) or _offered(DEFAULT)
    if not candidates:
        text = f"no module for npm registries is installed (entry-point group {GROUP})"
        raise StoreError(text, hint="install kedge again")
    if len(candidates) > 1:
        values = " and ".join(sorted(candidates))
        name = next(iter(candidates.values())).name
        raise StoreError(f"two installed packages offer the registry module {name}: {values}", hint="uninstall one")
    return _load(*candidates.values())


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


def _offered(name: str) -> dict[str, EntryPoint]:
    """Every entry point of this name, by what it points to: one package found twice on the path counts once."""
    from importlib.metadata import entry_points  # heavy, and needed for keys only

    return {entry.value: entry for entry in entry_points(group=GROUP, name=name)}


def _load(entry: EntryPoint) -> Registry:
    try:
        kind = entry.load()
    except (ImportError, AttributeError) as error:
        package = entry.dist.name if entry.dist else "an unknown package"
        raise StoreError(f"the registry module {entry.name} of {package} cannot be loaded: {error}") from error
    # An entry point is untyped by nature; each module of ours is checked against the protocol by a test.
    return cast("Registry", kind())
