"""Asks an index, or a mirror of it, which files a project has, and for the provenance of a file.

What an index says of a file's digest is used to find the file's name, and for nothing else: what is verified is bound
to the digest that is locked.

Sources: the simple repository API (PEP 503, 691, 740); ``GET /integrity/PROJECT/VERSION/FILENAME/provenance``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from html import unescape
from urllib.parse import quote, urlsplit

from kedge.errors import FetchError, InputError
from kedge.transport import Deadline, Transport
from kedge.tuf import Area, Fetch

MAX_LISTING_BYTES = 64 << 20
MAX_PROVENANCE_BYTES = 4 << 20
_ANCHOR = re.compile(r"<a\s([^<>]*+)>", re.IGNORECASE)
_HREF = re.compile(r"(?<![^\s\"'])href\s*+=\s*+[\"']([^\"']++)[\"']", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class IndexFile:
    """A file as an index lists it: its name, and the SHA-256 that the index states."""

    filename: str
    sha256: str | None


def base_of(url: str) -> str:
    """What stands before ``/simple`` in an index's URL.

    Raises:
        InputError: it is no URL of an index.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment or parts.username:
        hint = "give the one that pip takes, without credentials: https://HOST/simple"
        shown = "what is given" if parts.username or parts.password else ascii(url[:200])
        raise InputError(f"{shown} is no URL of an index", hint=hint)
    return url.rstrip("/").removesuffix("/simple")


def read_listing(data: bytes) -> tuple[IndexFile, ...]:
    """Read a project's page, in JSON or HTML; what is no file is left out."""
    if data.lstrip()[:1] == b"{":
        try:
            entries = json.loads(data).get("files")
        except (ValueError, RecursionError):
            return ()
        listed = entries if isinstance(entries, list) else []
        return tuple(_from_json(entry) for entry in listed if isinstance(entry, dict))
    text = data.decode("utf-8", errors="replace")
    links = (_HREF.search(tag[1]) for tag in _ANCHOR.finditer(text))
    return tuple(_from_link(unescape(link[1])) for link in links if link is not None)


class Index:
    """An index that is reached over a transport; all that is asked shares one deadline."""

    def __init__(self, transport: Transport, *, timeout_s: float) -> None:
        """Ask over ``transport``, for ``timeout_s`` seconds in all."""
        self._transport = transport
        self._deadline = Deadline(timeout_s)
        self._listed: dict[str, tuple[IndexFile, ...] | FetchError] = {}

    @property
    def source(self) -> str:
        """Where it is asked, as messages name it."""
        return self._transport.source

    def find(self, project: str, sha256: str) -> str | None:
        """The name of a project's file with this digest; None, if the index lists none.

        Raises:
            FetchError: the project's page cannot be had.
        """
        if project not in self._listed:
            self._listed[project] = self._list(project)
        listed = self._listed[project]
        if isinstance(listed, FetchError):
            raise listed
        return next((file.filename for file in listed if file.sha256 == sha256), None)

    def provenance(self, project: str, version: str, filename: str) -> bytes | None:
        """The provenance of a file; None, if the index has none.

        Raises:
            FetchError: it cannot be had.
        """
        path = "/".join(quote(part, safe="") for part in ("integrity", project, version, filename, "provenance"))
        return self._get(path, MAX_PROVENANCE_BYTES)

    def _list(self, project: str) -> tuple[IndexFile, ...] | FetchError:
        try:
            data = self._get(f"simple/{quote(project, safe='')}/", MAX_LISTING_BYTES)
        except FetchError as error:
            return error
        return read_listing(data) if data is not None else ()

    def _get(self, path: str, max_bytes: int) -> bytes | None:
        answer = self._transport.get(Fetch(Area.TARGETS, path, max_bytes), self._deadline)
        return answer if isinstance(answer, bytes) else None


def _from_json(entry: dict[str, object]) -> IndexFile:
    hashes, name = entry.get("hashes"), entry.get("filename")
    digest = hashes.get("sha256") if isinstance(hashes, dict) else None
    return IndexFile(name if isinstance(name, str) else "", digest if isinstance(digest, str) else None)


def _from_link(href: str) -> IndexFile:
    address, _, fragment = href.partition("#")
    digest = fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else None
    return IndexFile(address.partition("?")[0].rpartition("/")[2], digest)
