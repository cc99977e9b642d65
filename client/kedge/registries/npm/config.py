"""Which registry is asked for which package, and with which credentials: ``.npmrc`` as npm reads it.

The project's file goes before the user's, and ``npm_config_registry`` of the environment before both. ``${NAME}`` is
replaced from the environment in the user's file. In the project's it is replaced only in the credentials of a host that
the user names (an option, the environment, the user's file): whoever writes a project's file must not send the
environment's secrets anywhere. A credential that is not replaced is left out, and said; a registry's address is
refused, since what belongs there would be asked elsewhere.

Credentials belong to a host and path (``//host/path/:_authToken``) and are sent there and to nothing else. No method
here shows one: a :class:`Source` is safe to print.

Source: npm's documentation of ``npmrc`` and of ``auth related configuration``.

Which registry's keys speak for what a proxy serves: the user's own file ``npm.toml`` (``kedge.npm/1``), and options.

A proxy has another address than the registry whose packages it passes on. Only the user can say which one that is; what
a proxy says about itself counts for nothing. Without a word from the user a registry speaks for itself.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from kedge.documents import DocumentError, Fields, load_toml
from kedge.errors import InputError
from kedge.registries.npm.registry import NPM

DEFAULT_REGISTRY = "https://registry.npmjs.org/"
_VARIABLE = re.compile(r"\$\{([^${}?]+)(\?)?\}")
_SECRETS = ("_authToken", "_auth", "username", "_password")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One registry that packages are asked from. ``url`` ends with a slash and bears no credentials."""

    url: str
    authorization: str | None = field(default=None, repr=False)
    ca_file: str | None = None

    @property
    def id(self) -> str:
        """The registry's id, as anchors name it: host and path."""
        parts = urlsplit(self.url)
        return f"{parts.netloc}{parts.path}".rstrip("/")

    def address(self, name: str) -> str:
        """The URL of a package's packument. A scope's slash is escaped, as npm does it."""
        return self.url + quote(name, safe="@").replace("%2F", "%2f")

    def archive(self, name: str, version: str) -> str:
        """The URL of a version's archive, where every npm registry has it."""
        return f"{self.url}{quote(name, safe='@/')}/-/{quote(name.rpartition('/')[2])}-{quote(version)}.tgz"

    def attestations(self, name: str, version: str) -> str:
        """The URL of a version's attestations, where npm asks for them."""
        return f"{self.url}-/npm/v1/attestations/{quote(name, safe='@').replace('%2F', '%2f')}@{quote(version)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Npmrc:
    """One ``.npmrc``. ``is_users`` tells the user's own from one of a project."""

    values: Mapping[str, str]
    is_users: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Registries:
    """The registry of every scope, and of what has none. ``warnings`` are for the user; they name no secret."""

    default: Source
    scopes: Mapping[str, Source]
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, files: Sequence[Npmrc], environment: Mapping[str, str], *, registry: str | None = None) -> Registries:
        """Put the values of several files together, the first goes first; ``registry`` replaces them all.

        Raises:
            DocumentError: a registry's address cannot be used; the path is the name of the setting.
        """
        warnings: list[str] = []
        fixed = registry or _from_environment(environment)
        users = _Expander(environment, warnings, hosts=None)
        own = [dict(users.expand(file.values, addresses=registry is None)) for file in files if file.is_users]
        hosts = frozenset(_hosts_named(own, fixed))
        projects = _Expander(environment, warnings, hosts=hosts)
        settings: dict[str, str] = {}
        for file in files:
            table = own.pop(0) if file.is_users else dict(projects.expand(file.values, addresses=registry is None))
            settings = {**table, **settings}
        named = fixed or settings.get("registry") or DEFAULT_REGISTRY
        default = read_source(named, "--registry" if registry else "registry", settings)
        scopes = (
            {}
            if registry
            else {
                name.removesuffix(":registry"): read_source(value, name, settings)
                for name, value in settings.items()
                if name.startswith("@") and name.endswith(":registry")
            }
        )
        return cls(default=default, scopes=scopes, warnings=tuple(dict.fromkeys(warnings)))

    def of_package(self, name: str) -> Source:
        """The registry that a package is asked from."""
        return self.scopes.get(name.partition("/")[0], self.default) if name.startswith("@") else self.default


def parse_npmrc(text: str, *, is_users: bool) -> Npmrc:
    """Read an ``.npmrc``: ``name = value`` lines; ``;`` and ``#`` begin comments. Lists and sections are left out."""
    values: dict[str, str] = {}
    for line in re.split("[\r\n]+", text):
        name, equals, value = line.partition("=")
        name = name.strip()
        if equals and name and name[0] not in ";#[" and not name.endswith("[]"):
            values[_plain(name)] = _plain(value.strip())
    return Npmrc(values=values, is_users=is_users)


def read_source(address: str, name: str, settings: Mapping[str, str]) -> Source:
    """Read a registry's address, and find its credentials among the settings.

    Raises:
        DocumentError: it is no https or http URL, or its credentials cannot be read. The text shows none.
    """
    try:
        parts = urlsplit(address if address.isprintable() else "")
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError as error:
        raise DocumentError(name, "must be a URL such as https://registry.npmjs.org/") from error
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment:
        raise DocumentError(name, "must be a URL such as https://registry.npmjs.org/")
    if not re.fullmatch(r"[A-Za-z0-9.:_-]+", parts.hostname) or re.search(r"[^!-~]|\.\.|[\\\"<>{}|^`]", parts.path):
        raise DocumentError(name, "must be a URL such as https://registry.npmjs.org/, of plain characters")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = parts.path.rstrip("/") + "/"
    authorization = _authorization(host + port, path, settings)
    if parts.username is not None:
        authorization = _basic(unquote(parts.username), unquote(parts.password or ""))
    return Source(
        url=f"{parts.scheme}://{host}{port}{path}", authorization=authorization, ca_file=settings.get("cafile")
    )


def _from_environment(environment: Mapping[str, str]) -> str | None:
    return next((value for name, value in environment.items() if name.lower() == "npm_config_registry" and value), None)


class _Expander:
    """Replaces variables of the environment; with ``hosts``, only in the credentials of these hosts."""

    def __init__(self, environment: Mapping[str, str], warnings: list[str], *, hosts: frozenset[str] | None) -> None:
        self._environment = environment
        self._warnings = warnings
        self._hosts = hosts

    def expand(self, values: Mapping[str, str], *, addresses: bool) -> Iterator[tuple[str, str]]:
        """Give the settings with what stands for their variables; ``addresses`` says whether registries are wanted.

        Raises:
            DocumentError: a registry's address names a variable that is not replaced.
        """
        for name, value in values.items():
            problem, expanded = self._expand(name, value)
            if problem is None:
                if expanded:
                    yield name, expanded
            elif name == "registry" or name.endswith(":registry"):
                if addresses:
                    raise DocumentError(_public(name), f"names the environment variable {problem}")
            else:
                self._warnings.append(f".npmrc: {_public(name)} names the environment variable {problem}")

    def _expand(self, name: str, value: str) -> tuple[str | None, str]:
        variables = [(match[1], match[2] is not None) for match in _VARIABLE.finditer(value)]
        if variables and self._hosts is not None and _host_of(name) not in self._hosts:
            host = _host_of(name)
            named = f"your own .npmrc does not name {host}" if host else "only your own .npmrc may do that"
            return f"{variables[0][0][:80]!a} in a project's file: {named}", ""
        missing = next((each for each, optional in variables if each not in self._environment and not optional), None)
        if missing is not None:
            return f"{missing[:80]}, which is not set", ""
        return None, _VARIABLE.sub(lambda match: self._environment.get(match[1], ""), value)


def _host_of(name: str) -> str:
    """The host that a credential belongs to (``//host/path/:_authToken``); empty for every other setting."""
    return name[2:].partition("/")[0].lower() if name.startswith("//") else ""


def _hosts_named(tables: Sequence[Mapping[str, str]], fixed: str | None) -> Iterator[str]:
    """The hosts that the user names: by a registry, or by credentials for it."""
    for table in tables:
        for name, value in table.items():
            if name == "registry" or name.endswith(":registry"):
                yield _netloc(value)
            elif name.startswith("//"):
                yield _host_of(name)
    if fixed:
        yield _netloc(fixed)


def _netloc(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower()
    except ValueError:
        return ""


def _authorization(host: str, path: str, settings: Mapping[str, str]) -> str | None:
    while True:
        prefix = f"//{host}{path}:"
        token, auth, user, password = (settings.get(prefix + secret) for secret in _SECRETS)
        for value, header in ((token, f"Bearer {token}"), (auth, f"Basic {auth}")):
            if value is not None:
                if not value.isascii() or not value.isprintable() or " " in value:
                    raise DocumentError(prefix, "holds credentials that are no visible ASCII characters")
                return header
        if user is not None and password is not None:
            try:
                return _basic(user, base64.b64decode(password, validate=True).decode())
            except ValueError as error:  # no base64, or no UTF-8 in it
                raise DocumentError(f"{prefix}_password", "must be base64") from error
        if path in ("/", ""):
            return None
        path = path.rstrip("/").rpartition("/")[0] + "/"


def _basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode('ascii')}"


def _plain(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        try:
            value = json.loads(text) if text[0] == '"' else text[1:-1]
        except ValueError:
            return text
        return value if isinstance(value, str) else text
    return text


def _public(name: str) -> str:
    """A setting's name without what somebody may have put into it by mistake."""
    return name if re.fullmatch(r"[!-~]{1,200}", name) and "@" not in name[1:] else "a setting"


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
