"""What a registry's module must offer, and how the module of a registry is found.

A registry's id is the folder of its target: ``<npm-host>``, ``hex/hexpm``. Its first segment names the module where a
module of that name is installed (entry-point group ``kedge.registries``); every other id is npm's, whose ids are hosts.
The client knows registries by this protocol only, so that another ecosystem is another entry point and no change here.
A name that two packages offer is refused: which code judges signatures is never a matter of import order.

What a check of a document found: values that a person reads, and that a machine can sort.

A finding is no refusal. Whoever looked goes on to the end, and the worst finding decides the exit status.

Which keys a new key document no longer holds, for the lint of any kind of registry.

Entry points: how parts that are found by name are found, ours and those of other packages alike.

A name that two packages offer is refused: which code judges signatures is never a matter of import order. What cannot
be loaded is this machine's fault, and named with the package that brought it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from kedge.documents import DocumentError, Fields, blame_served
from kedge.errors import Reason, Refusal, StoreError, VerificationError
from kedge.registries.keys import KeySet, RegistryKey, TimeBasis

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


class Severity(StrEnum):
    """How much a finding weighs: an error stops signing and publishing, a warning wants a look, a note is a fact."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a check found.

    ``rule`` is a stable name such as ``npm/windows-overlap``, ``place`` the file and the path inside it, as far as
    there is one (``<registry>/keys.json: keys[1].publicKey.validFor``), ``message`` what is wrong there, lower case.
    """

    rule: str
    severity: Severity
    place: str
    message: str
    hint: str | None = None


def dropped(old: KeySet | None, new: KeySet) -> list[tuple[RegistryKey, str]]:
    """Each key of ``old``, with the usage for which ``new`` has no entry of it; what was revoked may go."""
    kept = {(key.id, usage) for key in new.keys for usage in key.usages}
    before = {(key.id, usage): key for key in (old.keys if old is not None else ()) for usage in key.usages}
    lost = [entry for entry in before if entry not in kept and entry[0] not in new.revoked]
    return [(before[entry], entry[1]) for entry in lost]


BREAKAGE: tuple[type[Exception], ...] = (ImportError, AttributeError)


def find_extension(group: str, name: str, *, what: str) -> EntryPoint | None:
    """Give the entry point ``name`` of ``group``, or None; ``what`` names the part in messages (``"the command"``).

    Raises:
        StoreError: two installed packages offer it.
    """
    from importlib.metadata import entry_points  # heavy, and not needed by every use of the library

    # By what it points to: one package that is found twice on the path counts once.
    offered = {entry.value: entry for entry in entry_points(group=group, name=name)}
    if len(offered) > 1:
        values = " and ".join(sorted(offered))
        raise StoreError(f"two installed packages offer {what} {name}: {values}", hint="uninstall one")
    return next(iter(offered.values()), None)


def names_of_extensions(group: str) -> list[str]:
    """The names that any installed package offers in ``group``, sorted."""
    from importlib.metadata import entry_points

    return sorted({entry.name for entry in entry_points(group=group)})


def load_extension(entry: EntryPoint, *, what: str, breakage: tuple[type[Exception], ...] = BREAKAGE) -> Any:
    """Import what an entry point names; ``breakage`` is what its import may end in.

    Raises:
        StoreError: it cannot be loaded.
    """
    try:
        return entry.load()
    except breakage as error:
        package = entry.dist.name if entry.dist else "an unknown package"
        fault = f"{type(error).__name__}: {error}"
        raise StoreError(f"{what} {entry.name} of {package} cannot be loaded: {fault}") from error


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
