"""Where an entry comes from, by the text that package managers write for it: a registry, git, a folder, a URL.

What is fetched without a check of its digest (git, folders) must be told from what is bound by it, so that every text
that a package manager takes for the former is told apart: also ``https://github.com/x/y``, which npm clones.

Source: npm-package-arg and hosted-git-info; Yarn's and Bun's resolvers.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from kedge.documents import DocumentError
from kedge.registries.npm.locked import LockedPackage, Skip

_GIT = re.compile(r"(git([+:@]|\+?ssh:)|ssh:|(github|gitlab|bitbucket|gist|sourcehut):)", re.IGNORECASE)
_SHORTHAND = re.compile(r"[^@/:.~#][^@/:#]*/[^#]+(#|$)")
_LOCAL = re.compile(
    r"(file|link|portal|root|exec):|\.{0,2}/|~/|[A-Za-z]:[\\/]|[^:]*\.(tgz|tar\.gz|tar)$", re.IGNORECASE
)
_GIT_HOSTS = ("github.com", "gitlab.com", "bitbucket.org", "gist.github.com", "git.sr.ht", "codeload.github.com")


def told_apart(text: str) -> Skip | None:
    """Say why this source is no registry; None if it may be one (a version, a range, a tag, an alias)."""
    if text.startswith("workspace:"):
        return Skip.WORKSPACE
    if text.lower().startswith(("http:", "https:")):
        return Skip.GIT if is_git_host(text) else Skip.REMOTE
    if _GIT.match(text):
        return Skip.GIT
    if _LOCAL.match(text):
        return Skip.LOCAL if is_inside(text) else Skip.OUTSIDE
    return Skip.GIT if _SHORTHAND.match(text) else None


def of_archive(text: str) -> Skip | None:
    """Say why ``resolved`` is not the address of an archive whose digest is checked; None if it is."""
    if not text.lower().startswith(("http:", "https:")):
        return told_apart(text) or Skip.UNKNOWN
    return Skip.GIT if is_git_host(text) else None


def is_git_host(url: str) -> bool:
    """Whether package managers take the URL for a repository on a host that they know; a registry there has ``/-/``."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return True
    return (parts.hostname or "").removeprefix("www.") in _GIT_HOSTS and "/-/" not in parts.path


def is_inside(text: str, folder: str = "") -> bool:
    """Whether a path, as package managers write it, leads from ``folder`` to something inside of the project."""
    path = unquote(re.sub(r"^(file|link|portal|root|exec):(//)?", "", text, flags=re.IGNORECASE)).partition("::")[0]
    path = path.partition("#")[0]
    if path.startswith(("/", "~")) or "\\" in path or re.match(r"[A-Za-z]:", path):
        return False
    return posixpath.normpath(posixpath.join(folder, path)).partition("/")[0] != ".."


def split_spec(text: str) -> tuple[str, str]:
    """Split ``name@rest``, where the name may begin with ``@``; the rest is empty where there is none."""
    at = text.find("@", 1)
    return (text, "") if at < 0 else (text[:at], text[at + 1 :])


def odd(name: str, place: str, error: DocumentError) -> LockedPackage:
    """An entry that cannot be read: a fault of its own, and not of the whole file."""
    return LockedPackage(name=name or place, version="", where=(place,), skip=Skip.UNKNOWN, unbound=str(error))


def all_fields(table: Mapping[str, Any], known: frozenset[str], path: str) -> None:
    """Check that an entry has no field whose meaning is not known here.

    Raises:
        DocumentError: it has one.
    """
    for name in table:
        if name not in known:
            raise DocumentError(path, f"has the field {name[:60]!a}, which is not known here")
