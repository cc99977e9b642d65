"""A pub registry as a source of packages: ``pub/<host>/source.json``, and where the signed listings of packages stand.

The document (``kedge.pub-source/1``) says under which URLs a lock file may name this registry. pub itself takes a
mirror for another source: what is locked behind ``PUB_HOSTED_URL`` bears the mirror's URL, and differs from what
everybody else locks. Here a mirror that the keyholders list is the same source, because the same signed listings are
asked for either way. Without the document only the registry's own URL is meant.

There is no key in it: no key of pub's exists. Listings are signed as TUF targets, ``pub/<host>/packages/<name>.json``,
by whatever role the repository delegates them to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from kedge.documents import DocumentError, Fields, load_json
from kedge.errors import InputError
from kedge.registries import Finding, KeySet, Severity, read_custom
from kedge.registries.pub.listing import NAME

FORMAT = "kedge.pub-source/1"
MAX_URLS = 1_000
_HOST = r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*"
# What pub itself takes for the same source.
_SAME = {"https://pub.dev": ("https://pub.dartlang.org",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PubSource:
    """Under which URLs a registry is known: its own, others of its own, and its mirrors'."""

    url: str
    aliases: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()

    def names(self, url: str) -> bool:
        """Whether a lock file that names ``url`` means this registry."""
        return url.rstrip("/") in (self.url, *self.aliases, *self.mirrors)


class Pub:
    """The registry module of pub registries (Dart, Flutter)."""

    name = "pub"

    def target_path(self, registry: str) -> str:
        """Give the target path of a registry's document: ``pub/<host><path>/source.json``.

        Raises:
            InputError: the id is not ``pub/``, a host and perhaps a path.
        """
        _host(registry)
        return f"{registry}/source.json"

    def parse(self, data: bytes, *, registry: str, custom: Mapping[str, Any] | None, now: datetime) -> KeySet:
        """Read the document of ``registry``; it holds no keys.

        Raises:
            DocumentError: the document or ``custom`` is not what it should be.
            InputError: ``registry`` is not an id of a pub registry.
        """
        target = self.target_path(registry)
        revoked, _ = read_custom(custom)
        read_source(data)
        return KeySet.of_document(data, registry=registry, target=target, keys=(), now=now, revoked=revoked)

    def lint(self, old: KeySet | None, new: KeySet) -> tuple[Finding, ...]:
        """Say what would go wrong with ``new`` in place of ``old``: lock files that would name no source any more."""
        if old is None:
            return ()
        before, after = read_source(old.document), read_source(new.document)
        lost = [url for url in (before.url, *before.aliases, *before.mirrors) if not after.names(url)]
        return tuple(
            Finding(
                rule="pub/url-dropped",
                severity=Severity.ERROR if url == before.url else Severity.WARNING,
                place=new.target,
                message=f"{url} is no longer this source: lock files that name it would not verify any more",
                hint="keep it among the aliases or the mirrors",
            )
            for url in lost
        )


def read_source(data: bytes) -> PubSource:
    """Read a ``kedge.pub-source/1``.

    Raises:
        DocumentError: it is none; the path leads to the fault.
    """
    fields = Fields(load_json(data))
    fields.format(FORMAT)
    source = PubSource(
        url=_url(fields.text("url"), "url"),
        aliases=_urls(fields, "aliases"),
        mirrors=_urls(fields, "mirrors"),
    )
    fields.end()
    return source


def default_source(registry: str) -> PubSource:
    """What is known of a registry without a document: ``https://`` and its id's host.

    Raises:
        InputError: the id is not one of a pub registry.
    """
    url = f"https://{_host(registry)}"
    return PubSource(url=url, aliases=_SAME.get(url, ()))


def listing_path(registry: str, package: str) -> str:
    """The target path of a package's signed listing.

    Raises:
        InputError: there can be no package of that name.
    """
    if re.fullmatch(NAME, package, re.ASCII) is None:
        raise InputError(f"{package[:80]!r} is no name of a package")
    return f"{registry}/packages/{package}.json"


def _host(registry: str) -> str:
    module, _, host = registry.partition("/")
    if module != "pub" or re.fullmatch(_HOST, host, re.ASCII) is None:
        shown = registry if registry.isprintable() else ascii(registry)
        raise InputError(f"{shown[:200]} is not a pub registry's id: expected pub/, a host and perhaps a path")
    return host


def _urls(fields: Fields, name: str) -> tuple[str, ...]:
    texts = fields.optional(name, fields.texts) or ()
    if len(texts) > MAX_URLS:
        fields.fail(name, f"holds {len(texts)} URLs, at most {MAX_URLS} are read")
    return tuple(_url(text, f"{name}[{index}]") for index, text in enumerate(texts))


def _url(text: str, path: str) -> str:
    if re.fullmatch(r"https?://[!-~]{1,2000}", text) is None or text.endswith("/") or not urlsplit(text).hostname:
        raise DocumentError(path, "must be a URL with a host and without a last slash")
    return text
