"""Which registry's keys speak for what a proxy serves: the user's own file ``npm.toml`` (``kedge.npm/1``), and options.

A proxy has another address than the registry whose packages it passes on. Only the user can say which one that is; what
a proxy says about itself counts for nothing. Without a word from the user a registry speaks for itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from kedge.document import Fields, load_toml
from kedge.errors import InputError
from kedge.registries.npm.document import NPM
from kedge.registries.npm.npmrc import Source

__all__ = ["Mapped", "Mappings", "Upstreams"]

_RULE = r"@[^\s/@*]+(/\*)?|(@[^\s/@*]+/)?[^\s/@*]+"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """What the user says of one registry: whose keys sign what it serves, and which packages are its own."""

    upstream: str | None = None
    also: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mappings:
    """The file ``npm.toml``: registries by their id (host and path)."""

    FORMAT = "kedge.npm/1"

    registries: Mapping[str, Mapped] = field(default_factory=dict)

    @classmethod
    def from_toml(cls, text: bytes) -> Mappings:
        """Read the file.

        Raises:
            DocumentError: it is not such a document; the path leads to the fault.
        """
        fields = Fields(load_toml(text))
        fields.format(cls.FORMAT)
        found: dict[str, Mapped] = {}
        for entry in fields.tables("registry") if "registry" in fields else ():
            name = _id_of(entry)
            if name in found:
                entry.fail("url", "stands there twice")
            found[name] = _mapped(entry)
        fields.end()
        return cls(registries=found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstreams:
    """Whose keys are taken, for each registry that is asked. ``claimed`` says whether an anchor speaks for an id."""

    claimed: Callable[[str], bool]
    mappings: Mappings = field(default_factory=Mappings)
    upstream: str | None = None
    also: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def issuers(self, source: Source, *, is_default: bool) -> tuple[str, ...]:
        """The ids of the registries whose keys may sign what ``source`` serves, the upstream first.

        The command line's word for the default registry goes first, then the file's, then the registry itself if an
        anchor speaks for it.
        """
        mapped = self.mappings.registries.get(source.id, Mapped())
        if is_default and self.upstream is not None:
            first = self.upstream
        elif mapped.upstream is not None:
            first = mapped.upstream
        elif self.upstream is not None and not self.claimed(source.id):
            first = self.upstream
        else:
            first = source.id
        return tuple(dict.fromkeys((first, *self.also, *mapped.also)))

    def rule_for(self, name: str, source: Source) -> str | None:
        """The user's rule by which a package is not verified; None if there is none."""
        rules = (*self.skip, *self.mappings.registries.get(source.id, Mapped()).skip)
        scope = name.partition("/")[0] if name.startswith("@") else None
        return next((rule for rule in rules if rule == name or rule.removesuffix("/*") == scope), None)


def check_rule(rule: str) -> str:
    """Give a rule back: a package's name, ``@scope`` or ``@scope/*``.

    Raises:
        InputError: it is none of these.
    """
    if re.fullmatch(_RULE, rule) is None:
        raise InputError(f"{rule[:80]!a}: a rule is a package's name, @scope or @scope/*")
    return rule


def _id_of(entry: Fields) -> str:
    url = entry.text("url", pattern=r"https?://[!-~]+", expected="a URL such as https://npm.example/")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        entry.fail("url", "must be a URL such as https://npm.example/")
    if parts.username is not None or parts.query or parts.fragment or not parts.hostname:
        entry.fail("url", "must have a host, and no credentials, query or fragment")
    return f"{parts.netloc.lower()}{parts.path}".rstrip("/")


def _mapped(entry: Fields) -> Mapped:
    upstream = entry.optional("upstream", entry.text)
    also = entry.texts("also") if "also" in entry else ()
    skip = entry.texts("skip") if "skip" in entry else ()
    for name, values in (("upstream", (upstream,) if upstream else ()), ("also", also)):
        for value in values:
            try:
                NPM().target_path(value)
            except InputError as error:
                entry.fail(name, f"must be a registry's id, such as registry.npmjs.org: {error.message[:120]}")
    for value in skip:
        try:
            check_rule(value)
        except InputError as error:
            entry.fail("skip", error.message)
    entry.end()
    return Mapped(upstream=upstream, also=also, skip=skip)
