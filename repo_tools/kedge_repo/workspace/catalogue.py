"""The registry catalogue: public keys of package registries as facts, each with its source and date.

One JSON file a registry ships inside the package (``_catalogue/<registry>.json``); ``kedge-repo init --registry``
makes targets of them. An entry holds the registry's key document itself (JSON and how its bytes are laid out, a text,
or base64 of any bytes), so that the target has the very bytes that the source published.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from kedge.documents import DocumentError, Fields, blame_user, load_json
from kedge.errors import InputError
from kedge_repo.workspace.metadata import check_target_path, digest

CATALOGUE_FORMAT = "kedge.catalogue/1"


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
    """The registries that the shipped catalogue knows."""
    return tuple(sorted(_names(_folder(), "")))


def catalogue_entry(registry: str) -> CatalogueEntry:
    """The shipped entry of ``registry``.

    Raises:
        InputError: the catalogue has none.
    """
    if registry not in catalogue_names():
        raise InputError(f'the catalogue has no registry "{registry}"; it has {", ".join(catalogue_names())}')
    with blame_user(f"catalogue entry {registry}"):
        return CatalogueEntry.from_bytes((_folder() / f"{registry}.json").read_bytes())


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
