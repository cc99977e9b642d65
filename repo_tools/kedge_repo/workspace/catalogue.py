"""The registry catalogue: public keys of package registries as facts, each with its source and date.

One JSON file a registry ships inside the package (``_catalogue/<registry>.json``); ``kedge-repo init --registry``
makes targets of them. An entry holds the registry's key document itself (JSON and how its bytes are laid out, a text,
or base64 of any bytes), so that the target has the very bytes that the source published.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.resources import files
from typing import Any

from kedge.documents import DocumentError, Fields, blame_user, load_json
from kedge.errors import InputError
from kedge.registries import find_registry, names_of_extensions
from kedge.registries.pub import listing_path
from kedge.tlog import POLICY_TARGET
from kedge_repo.workspace.metadata import check_target_path, digest

CATALOGUE_FORMAT = "kedge.catalogue/1"
_ALSO = {"sigstore": "sigstore/public-good"}
"""Ids under which clients look for an entry in other repositories, and would look for it in a new one too."""
_MODULES = "kedge.registries"
_LIKENESS = 0.85


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where an entry's facts come from."""

    what: str
    date: str
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueEntry:
    """One registry: the target that carries its keys, and the bytes and ``custom`` of that target.

    ``beside`` are further targets, paths and bytes: the same keys in a form for readers that are not kedge.
    """

    registry: str
    ecosystem: str
    target: str
    target_bytes: bytes
    custom: dict[str, Any] | None
    sources: tuple[Source, ...]
    beside: tuple[tuple[str, bytes], ...] = ()

    @classmethod
    def from_bytes(cls, data: bytes) -> CatalogueEntry:
        """Read an entry.

        Raises:
            DocumentError: it is not one; the path leads to the fault.
        """
        value = load_json(data)
        fields = Fields(value)
        fields.format(CATALOGUE_FORMAT)
        target = _target(fields)
        form, target_bytes = _read_document(fields, value)
        custom = None
        if "custom" in fields:
            fields.table("custom")
            custom = value["custom"]
        sources = tuple(_source(item) for item in fields.tables("sources"))
        entry = cls(
            registry=fields.text("registry"),
            ecosystem=fields.text("ecosystem"),
            target=target,
            target_bytes=target_bytes,
            custom=custom,
            sources=sources,
            beside=tuple(_beside(item, target) for item in fields.optional("beside", fields.tables) or ()),
        )
        fields.end()
        recorded = {source.sha256 for source in sources if source.sha256}
        if recorded and digest(entry.target_bytes) not in recorded:
            fields.fail(form, "does not give the bytes whose sha256 any of its sources names")
        return entry


def catalogue_names() -> tuple[str, ...]:
    """The registries that the shipped catalogue knows, by every id that it has an entry for."""
    return tuple(sorted({*_names(_folder(), ""), *_ALSO}))


def catalogue_entry(registry: str) -> CatalogueEntry:
    """The shipped entry of ``registry``; under another id of the same registry, with the targets where that has them.

    Raises:
        InputError: the catalogue has none.
    """
    if registry in _ALSO:
        entry = catalogue_entry(_ALSO[registry])
        target = find_registry(registry).target_path(registry)
        beside = tuple((_sibling(target, path), data) for path, data in entry.beside)
        return replace(entry, registry=registry, target=target, beside=beside)
    if registry not in catalogue_names():
        raise InputError(f'the catalogue has no registry "{registry}"; it has {", ".join(catalogue_names())}')
    with blame_user(f"catalogue entry {registry}"):
        return CatalogueEntry.from_bytes((_folder() / f"{registry}.json").read_bytes())


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPath:
    """What the ecosystems know of a target path: whether one of them reads it, and the nearest other that is read.

    ``nearest`` of a path that is read is one of the catalogue, where the two differ by a slip of the keys.
    """

    is_read: bool
    nearest: str | None


def known_path(path: str) -> KnownPath:
    """Say whether any ecosystem reads the target ``path``, and what else may be meant.

    Raises:
        StoreError: a registry's module cannot be loaded.
    """
    entries = [catalogue_entry(name) for name in catalogue_names()]
    listed = [target for entry in entries for target in (entry.target, *(beside for beside, _ in entry.beside))]
    if path in listed or path == POLICY_TARGET:
        return KnownPath(is_read=True, nearest=None)
    if path in _read_for(path.rpartition("/")[0], entries) or _is_listing(path):
        return KnownPath(is_read=True, nearest=next((other for other in listed if _is_slip(path, other)), None))
    modules = sorted({entry.ecosystem for entry in entries} | set(names_of_extensions(_MODULES)))
    folder = path.rpartition("/")[0]
    _, slash, rest = folder.partition("/")
    others = {other for module in modules for other in _read_for(f"{module}{slash}{rest}", entries)}
    near = get_close_matches(path, (*listed, POLICY_TARGET), 1, _LIKENESS)
    near = near or get_close_matches(path, sorted({*_read_for(folder, entries), *others, *listed}), 1, 0.6)
    return KnownPath(is_read=False, nearest=next(iter(near), None))


def _read_for(registry: str, entries: Sequence[CatalogueEntry]) -> tuple[str, ...]:
    """The target of a registry, and what may stand beside it; nothing where there can be no such registry."""
    module = find_registry(registry)
    first = registry.partition("/")[0]
    if module.name != first and not any(sign in first for sign in ".:"):
        return ()  # whatever no module claims is npm's, whose registries are hosts
    try:
        target = module.target_path(registry)
    except InputError:
        return ()
    names = (path for entry in entries if entry.ecosystem == module.name for path, _ in entry.beside)
    return (target, *dict.fromkeys(_sibling(target, path) for path in names))


def _is_listing(path: str) -> bool:
    """Whether it is where a pub registry's signed listing of a package stands."""
    registry, between, file = path.rpartition("/packages/")
    if not between or registry.partition("/")[0] != "pub" or not file.endswith(".json"):
        return False
    try:
        find_registry(registry).target_path(registry)
        return listing_path(registry, file.removesuffix(".json")) == path
    except InputError:
        return False


def _is_slip(path: str, other: str) -> bool:
    """Whether two letters were swapped, or one or two are others."""
    return len(path) == len(other) and sum(one != two for one, two in zip(path, other, strict=True)) <= 2


def _sibling(target: str, path: str) -> str:
    folder, slash, _ = target.rpartition("/")
    return f"{folder}{slash}{path.rpartition('/')[2]}"


def _folder() -> Any:
    return files("kedge_repo") / "_catalogue"


def _names(folder: Any, prefix: str) -> Iterator[str]:
    for item in folder.iterdir():
        if item.is_dir():
            yield from _names(item, f"{prefix}{item.name}/")
        elif item.name.endswith(".json"):
            yield f"{prefix}{item.name.removesuffix('.json')}"


def _read_document(fields: Fields, value: Any) -> tuple[str, bytes]:
    forms = [name for name in ("document", "text", "base64") if name in fields]
    if len(forms) != 1:
        raise DocumentError("", "must hold one of document, text and base64")
    if forms == ["text"]:
        return "text", fields.text("text").encode()
    if forms == ["base64"]:
        return "base64", fields.base64("base64")
    layout = fields.optional("layout", fields.text, pattern="compact|indent-4", expected='"compact" or "indent-4"')
    fields.table("document")
    return "document", _lay_out(value["document"], layout or "compact")


def _lay_out(document: Any, layout: str) -> bytes:
    if layout == "indent-4":
        return (json.dumps(document, indent=4) + "\n").encode()
    return json.dumps(document, separators=(",", ":")).encode()


def _target(fields: Fields) -> str:
    target = fields.text("target")
    try:
        check_target_path(target)
    except DocumentError as error:
        fields.fail("target", error.problem)
    return target


def _beside(fields: Fields, of: str) -> tuple[str, bytes]:
    target = _target(fields)
    if target.rpartition("/")[0] != of.rpartition("/")[0] or target == of:
        fields.fail("target", f"must stand beside {of}, in the same folder")
    content = fields.text("text").encode()
    fields.end()
    return target, content


def _source(fields: Fields) -> Source:
    source = Source(
        what=fields.text("what"),
        date=fields.text("date", pattern=r"\d{4}-\d\d-\d\d", expected="a date such as 2025-01-27"),
        sha256=fields.optional("sha256", fields.sha256),
    )
    fields.end()
    return source
