"""The user's own settings: ``<config>/config.toml`` (``kedge.config/1``), and which word goes first.

An option on the command line goes before an environment variable, that before the file, that before the default. Each
setting keeps where its value came from, so that nobody has to guess. The library reads none of this: whoever embeds it
says what they mean.

Where the present comes from. The library asks a clock; only the edge knows the system's.

The reference time of the workflow is the clock's time, but never below the time floor of earlier refreshes
(:class:`kedge.tuf.checks.Freshness`): a clock that was set back must not revive what has expired.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from kedge.documents import Fields, blame_user, load_toml
from kedge.errors import InputError
from kedge.registries import Allowance, read_allowances


class Clock(Protocol):
    """Tells the present as an aware UTC time."""

    def now(self) -> datetime:
        """The present, in UTC."""
        ...


class SystemClock:
    """This machine's clock."""

    def now(self) -> datetime:
        """The present by this machine's clock, in UTC."""
        return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class FixedClock:
    """A clock that stands still."""

    moment: datetime

    def now(self) -> datetime:
        """The moment that was given, in UTC."""
        return self.moment.astimezone(UTC)


SETTINGS_FILE = "config.toml"
DEFAULT = "default"
MAX_BYTES = 1 << 20
MAX_TIMEOUT_S = 3600
ANCHOR, REQUIRE_REFRESH, TIMEOUT = "KEDGE_ANCHOR", "KEDGE_REQUIRE_REFRESH", "KEDGE_TIMEOUT_S"
VARIABLES = (ANCHOR, REQUIRE_REFRESH, TIMEOUT, "KEDGE_CONFIG_DIR", "KEDGE_STATE_DIR")
"""Every variable that kedge reads."""

_NAME = r"[a-z0-9][a-z0-9._-]{0,63}"
_SWITCH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}

V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the file says; None where it says nothing."""

    FORMAT = "kedge.config/1"

    anchor: str | None = None
    require_refresh: bool | None = None
    timeout_s: int | None = None
    allow: tuple[Allowance, ...] = ()

    @classmethod
    def from_bytes(cls, text: bytes) -> Config:
        """Read ``config.toml``.

        Raises:
            DocumentError: it is no such document.
        """
        fields = Fields(load_toml(text))
        fields.format(cls.FORMAT)
        config = cls(
            anchor=fields.optional("anchor", fields.text, pattern=_NAME, expected="an anchor's name"),
            require_refresh=fields.optional("require_refresh", fields.boolean),
            timeout_s=fields.optional("timeout_s", fields.integer, minimum=1, maximum=MAX_TIMEOUT_S),
            allow=read_allowances(fields),
        )
        fields.end()
        return config


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting(Generic[V]):
    """One value, and where it came from: ``default``, an environment variable's name, or the file and the field."""

    value: V
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the commands go by where no option says otherwise.

    ``anchor`` is used where none is named; None leaves it to the registry. ``timeout_s`` bounds each refresh and each
    look-up. ``allow`` are the user's exceptions from what must be verified.
    """

    anchor: Setting[str | None]
    require_refresh: Setting[bool]
    timeout_s: Setting[int]
    allow: tuple[Allowance, ...]


def read_settings(config_folder: Path, environment: Mapping[str, str]) -> Settings:
    """Read the file below ``config_folder`` and the ``KEDGE_*`` variables.

    Raises:
        InputError: the file cannot be read, or one of them holds what it cannot mean.
    """
    path = config_folder / SETTINGS_FILE
    try:
        text: bytes | None = path.read_bytes()[:MAX_BYTES]
    except (FileNotFoundError, NotADirectoryError):
        text = None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    with blame_user(str(path)):
        config = Config.from_bytes(text) if text is not None else Config()

    def choose(variable: str, named: V | None, field: str, written: V | None, default: V) -> Setting[V]:
        if named is not None:
            return Setting(value=named, origin=variable)
        if written is not None:
            return Setting(value=written, origin=f"{path}: {field}")
        return Setting(value=default, origin=DEFAULT)

    timeout = choose(TIMEOUT, _seconds(environment.get(TIMEOUT)), "timeout_s", config.timeout_s, 60)
    switch = _switch(environment.get(REQUIRE_REFRESH))
    named = environment.get(ANCHOR) or None
    if named is not None and re.fullmatch(_NAME, named) is None:
        raise InputError(f"{ANCHOR}: {named[:80]!a} is no anchor's name")
    anchor: Setting[str | None] = choose(ANCHOR, named, "anchor", config.anchor, None)
    return Settings(
        anchor=anchor,
        require_refresh=choose(REQUIRE_REFRESH, switch, "require_refresh", config.require_refresh, False),
        timeout_s=timeout,
        allow=config.allow,
    )


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str | None]:
    """The variables that are named as if they were kedge's and are not, each with the nearest that is."""
    strange = sorted(name for name in environment if name.startswith("KEDGE_") and name not in VARIABLES)
    return {name: next(iter(get_close_matches(name, VARIABLES, 1)), None) for name in strange}


def _seconds(text: str | None) -> int | None:
    if not text:
        return None
    if re.fullmatch(r"[0-9]{1,4}", text) is None or not 1 <= int(text) <= MAX_TIMEOUT_S:
        raise InputError(f"{TIMEOUT}: {text[:80]!a} is no number of seconds from 1 to {MAX_TIMEOUT_S}")
    return int(text)


def _switch(text: str | None) -> bool | None:
    if not text:
        return None
    if text.lower() not in _SWITCH:
        raise InputError(f"{REQUIRE_REFRESH}: {text[:80]!a} is neither yes nor no")
    return _SWITCH[text.lower()]
