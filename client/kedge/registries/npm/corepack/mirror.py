"""Where package managers come from: the registry that Corepack would ask, or the one that the user names.

The registry is, in this order: the option, ``COREPACK_NPM_REGISTRY``, ``.npmrc``. Its credentials are Corepack's
(``COREPACK_NPM_TOKEN``, or ``COREPACK_NPM_USERNAME`` with ``COREPACK_NPM_PASSWORD``) where it is the registry that
Corepack itself would ask, else those of ``.npmrc``; they go to the registry's own host and to no other. A packument of
a mirror may still name npm's own host for tarballs: as in Corepack, these come from the mirror.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from urllib3.util import make_headers

from kedge.errors import FetchError
from kedge.registries.npm.fetch import Asker, FetchLimits, NotServedError, Watch
from kedge.registries.npm.npmrc import DEFAULT_REGISTRY, Registries, Source

__all__ = ["PackageMirror", "choose_registry"]


def choose_registry(
    package: str, files: Sequence[Mapping[str, str]], environment: Mapping[str, str], *, registry: str | None = None
) -> Source:
    """Choose the registry that a package comes from; of ``files``, read from ``.npmrc``, the first goes first.

    Raises:
        DocumentError: its address, or its credentials, cannot be used.
    """
    corepacks = environment.get("COREPACK_NPM_REGISTRY") or None
    source = Registries.of(files, environment, registry=registry or corepacks).of_package(package)
    if not _same_host(source.url, corepacks or DEFAULT_REGISTRY):
        return source
    token = environment.get("COREPACK_NPM_TOKEN")
    user, password = (environment.get(f"COREPACK_NPM_{name}") for name in ("USERNAME", "PASSWORD"))
    if token:
        return replace(source, authorization=f"Bearer {token}")
    if user and password:
        return replace(source, authorization=make_headers(basic_auth=f"{user}:{password}")["authorization"])
    return source


class PackageMirror:
    """One registry, asked for packuments and tarballs."""

    def __init__(self, source: Source, *, limits: FetchLimits | None = None) -> None:
        """Ask ``source``."""
        self.url = source.url.rstrip("/")
        self._source = source
        self._watch = Watch(limits or FetchLimits())
        self._asker = Asker(self._watch)

    def packument(self, package: str) -> bytes | None:
        """Get what the registry says of a package; None if it has no such package.

        Raises:
            FetchError: it cannot be had.
        """
        try:
            return self._asker.packument(self._source, package)
        except NotServedError:
            return None

    def tarball(self, url: str) -> bytes:
        """Get a tarball, from the registry itself where the address is the registry's or npm's own.

        Raises:
            FetchError: it cannot be had, or the address cannot be used.
        """
        if url.startswith(DEFAULT_REGISTRY):
            url = self._source.url + url.removeprefix(DEFAULT_REGISTRY)
        folder, _, name = url.rpartition("/")
        ours = _same_host(url, self._source.url)
        if not ours and urlsplit(url).scheme != "https":
            raise FetchError(f"{url[:200]}: a tarball from another host is got over https only")
        authorization = self._source.authorization if ours else None
        return self._asker.packument(replace(self._source, url=f"{folder}/", authorization=authorization), name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._asker.close()
        self._watch.close()


def _same_host(url: str, other: str) -> bool:
    return urlsplit(url)[:2] == urlsplit(other)[:2]
