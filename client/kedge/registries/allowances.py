"""What the user allows although no registry's signature can vouch for it: by kind and source, until a day.

Whoever writes a lock file does not decide what is verified in it: an entry from git, from a URL or from a folder is a
failure. Only the user's own policy makes it an exception: ``allow = [...]`` in the user's configuration, or an option
of the command line, never a file of the project.

Invariants:

- A source that two programs could read differently (backslashes, dot segments, percent-encoded ones) is never allowed.
- An allowance that expired allows nothing.

Example::

    allowances = Allowances(entries=(parse_allowance("git=github.com/corp/*"),), today=date.today())
    allowances.find("git", "git+ssh://git@github.com/corp/tool.git#1234567")  # the allowance, or None
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from kedge.documents import Fields
from kedge.errors import InputError

KINDS = {
    "bundled": "contained in another package's archive, and not bound to it",
    "git": "a commit of a repository of source code",
    "local": "a file or a folder of this machine",
    "registry": "a package of another registry, which no key here is for",
    "remote": "an archive from a URL",
    "sdk": "a part of a tool that is installed here",
    "unknown": "anything that kedge does not know",
}
"""The kinds of sources that no registry's signature can vouch for."""

MAX_SOURCE = 2048
_SCP = re.compile(r"(?:[A-Za-z0-9._-]{1,64}@)?([A-Za-z0-9.-]{1,253}):(?!/)([^:]*)")
_SCHEME = re.compile(r"(?:[a-z]{2,10}\+)?([a-z][a-z0-9.-]{1,20})://", re.IGNORECASE)
_HOSTS = {"github": "github.com", "gitlab": "gitlab.com", "bitbucket": "bitbucket.org", "gist": "gist.github.com"}
_PORTS = {"https": 443, "http": 80, "ssh": 22, "git": 9418}


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """One exception. ``source`` is a pattern with ``*``; ``until`` is its last day, None for this run only."""

    kind: str
    source: str
    until: date | None
    reason: str

    @property
    def text(self) -> str:
        """The exception in words, as a report shows it."""
        until = f" until {self.until.isoformat()}" if self.until is not None else ""
        return f"allowed as {self.kind}={self.source}{until}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowances:
    """All exceptions of one user, as they are on one day (UTC)."""

    entries: tuple[Allowance, ...] = ()
    today: date

    def find(self, kind: str, source: str) -> Allowance | None:
        """The exception for a source of this kind, as the lock file writes it; None, if there is none today."""
        return next((each for each in self._about(kind, source) if not self._is_over(each)), None)

    def explain(self, kind: str, source: str) -> str:
        """Why there is no exception for this source, and how the user writes one."""
        over = [each for each in self._about(kind, source) if self._is_over(each)]
        if over:
            return f"the exception {over[0].kind}={over[0].source} ended on {over[0].until}"
        plain = plain_source(source)
        if plain is None:
            return "no exception can name this source, since programs read it differently"
        return f"no registry's signature can vouch for it; to allow it: --allow '{kind}={plain}'"

    def _about(self, kind: str, source: str) -> Iterator[Allowance]:
        plain = plain_source(source)
        for each in self.entries:
            if plain is not None and each.kind == kind and fnmatchcase(plain, each.source):
                yield each

    def _is_over(self, allowance: Allowance) -> bool:
        return allowance.until is not None and allowance.until < self.today


def read_allowances(fields: Fields) -> tuple[Allowance, ...]:
    """Read ``allow = [{ kind = …, source = …, until = …, reason = … }]`` of a table; none where it has no ``allow``.

    Raises:
        DocumentError: an entry lacks something, or names a kind that there is not.
    """
    return tuple(_read(entry) for entry in (fields.tables("allow") if "allow" in fields else []))


def parse_allowance(text: str) -> Allowance:
    """Read ``KIND=SOURCE`` of the command line, which counts for this run.

    Raises:
        InputError: it is no such text.
    """
    kind, equals, source = text.partition("=")
    if not equals or kind not in KINDS or not _is_pattern(source):
        hint = f"KIND=SOURCE, where KIND is {', '.join(KINDS)}, and SOURCE such as github.com/corp/*"
        raise InputError(f"--allow {text[:200]}: is no exception", hint=hint)
    return Allowance(kind=kind, source=source, until=None, reason="--allow")


def plain_source(source: str) -> str | None:
    """A source without scheme, user, fragment and ``.git``: ``github.com/corp/tool``; a path as it is.

    None, if programs could read it in several ways.
    """
    if len(source) > MAX_SOURCE or not source.isprintable() or re.search(r"[\s\\*\[\]]", source):
        return None
    bare = source.partition("#")[0]
    word, colon, rest = bare.partition(":")
    if (scheme := _SCHEME.match(bare)) is not None:
        return _of_url(scheme[1].lower(), bare[scheme.end() :])
    if colon and word in _HOSTS:
        return _checked(f"{_HOSTS[word]}/{rest.removesuffix('.git')}", is_path=False)
    if colon and word in ("file", "link", "portal"):
        return _checked(rest, is_path=True)
    if (scp := _SCP.fullmatch(bare)) is not None and "/" in scp[2] and "." in scp[1]:
        return _checked(f"{scp[1].lower()}/{scp[2].removesuffix('.git')}", is_path=False)
    return _checked(bare, is_path=True)


def _of_url(scheme: str, rest: str) -> str | None:
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    if scheme == "file":
        return _checked(parts.path, is_path=True) if not host else None
    if re.fullmatch(r"[a-z0-9][a-z0-9.-]*", host) is None:
        return None
    shown = host if port is None or port == _PORTS.get(scheme) else f"{host}:{port}"
    query = f"?{parts.query}" if parts.query else ""
    return _checked(f"{shown}{parts.path.removesuffix('/').removesuffix('.git')}{query}", is_path=False)


def _checked(text: str, *, is_path: bool) -> str | None:
    steps = text.split("/")
    while is_path and len(steps) > 1 and steps[0] in (".", ".."):  # ../../other leads where it says; a/../b might not
        del steps[0]
    if not text or "%" in text or any(step in (".", "..") for step in steps):
        return None
    return text


def _is_pattern(source: str) -> bool:
    return len(source) <= MAX_SOURCE and re.fullmatch(r"[!->@-Z^-~]+", source) is not None


def _read(entry: Fields) -> Allowance:
    kind = entry.text("kind", pattern="|".join(KINDS), expected=f"one of {', '.join(KINDS)}")
    source = entry.text("source")
    if not _is_pattern(source):
        entry.fail("source", "must be such as github.com/corp/*, where only * stands for more than itself")
    found = Allowance(kind=kind, source=source, until=entry.day("until"), reason=entry.text("reason"))
    entry.end()
    return found
