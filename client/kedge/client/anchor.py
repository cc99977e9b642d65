"""Anchors: an initial root, where its repository is found, and which registries it may speak for.

An anchor is a folder ``<config>/anchors/<name>/`` with ``anchor.toml`` (``kedge.anchor/1``) and ``root.json``.
Some ship with kedge; a configured anchor of the same name takes their place.

Invariants:

- An anchor comes from the user or from kedge itself: never from a bundle, a request or a mirror's word.
- It speaks for the registries that it lists, and for no other; there is never a union of two anchors.

First contact with a repository whose initial root is known by its digest only.

The digest comes from the user, who has it from a source that they trust; the mirror's word for anything is not taken.
The root may be of any version: roots are asked for from the first on until one has the digest.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from kedge import tuf
from kedge.documents import DocumentError, Fields, blame_user, format_time, load_toml
from kedge.errors import InputError, Reason, Refusal, StoreError, VerificationError
from kedge.transport import Deadline, Mirror, Transport
from kedge.tuf import AgeLimits, Area, Fetch, Limits, sha256_hex

_SHIPPED = Path(__file__).parents[1] / "_anchors"
_NONE = timedelta(0)
_SPANS = ("max_staleness", "refresh_after", "warn_after", "red_line")
_MAX_SECONDS = 3_155_760_000  # a hundred years
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?|.*\.")
_REGISTRY = r"[A-Za-z0-9][A-Za-z0-9._:-]*(/[A-Za-z0-9@_][A-Za-z0-9._@-]*)*"


class Transparency(StrEnum):
    """What is asked of the repository's log: nothing, that its faults are said, or that it vouches for everything."""

    OFF = "off"
    WARN = "warn"
    REQUIRE = "require"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """What a client starts from.

    ``not_before`` is a moment that has surely passed, a floor for the reference time on a machine without a past.
    ``max_staleness`` is for how long expired trust may still be used, ``refresh_after`` for how long an answer needs no
    request. Trust of the age ``warn_after`` is warned of, and from ``red_line`` on there is no answer (0: never). With
    ``keep_history`` the state keeps every set that was ever trusted. ``log_policy`` is the text of a C2SP log policy
    that the user pins, instead of the repository's own.
    """

    FORMAT = "kedge.anchor/1"

    name: str
    initial_root: bytes
    mirrors: tuple[Mirror, ...]
    registries: tuple[str, ...] = ()
    not_before: datetime | None = None
    max_staleness: timedelta = _NONE
    refresh_after: timedelta = _NONE
    transparency: Transparency = Transparency.OFF
    log_policy: str | None = None
    warn_after: timedelta = _NONE
    red_line: timedelta = _NONE
    keep_history: bool = False

    @property
    def age_limits(self) -> AgeLimits:
        """What this anchor says of the age of trust."""
        return AgeLimits(
            name=self.name, max_staleness=self.max_staleness, warn_after=self.warn_after, red_line=self.red_line
        )

    @classmethod
    def from_toml(cls, name: str, text: bytes, initial_root: bytes) -> Anchor:
        """Read ``anchor.toml`` as bytes, and the root that stands beside it.

        Raises:
            DocumentError: the text is not such a document.
        """
        fields = Fields(load_toml(text))
        fields.format(cls.FORMAT)
        mirrors = tuple(_mirror(entry) for entry in fields.tables("mirror"))
        if not mirrors:
            fields.fail("mirror", "must name at least one mirror")
        registries = fields.texts("registries") if "registries" in fields else ()
        for index, registry in enumerate(registries):
            if re.fullmatch(_REGISTRY, registry, re.ASCII) is None:
                raise DocumentError(f"registries[{index}]", "must be a registry's id, such as a host name")
        freshness = _freshness(fields.table("freshness")) if "freshness" in fields else {}
        anchor = cls(
            name=name,
            initial_root=initial_root,
            mirrors=mirrors,
            registries=registries,
            not_before=fields.optional("not_before", fields.time),
            keep_history=fields.boolean("keep_history") if "keep_history" in fields else False,
            transparency=Transparency(_transparency(fields)),
            log_policy=fields.optional("log_policy", _log_policy, fields=fields),
            **freshness,
        )
        fields.end()
        return anchor

    def to_toml(self) -> bytes:
        """Write ``anchor.toml``."""
        lines = [f"format = {_quoted(self.FORMAT)}"]
        if self.registries:
            lines.append(f"registries = [{', '.join(map(_quoted, self.registries))}]")
        if self.not_before is not None:
            lines.append(f"not_before = {_quoted(format_time(self.not_before))}")
        if self.transparency is not Transparency.OFF:
            lines.append(f"transparency = {_quoted(self.transparency.value)}")
        if self.log_policy is not None:
            lines.append(f"log_policy = {_quoted(self.log_policy)}")
        if self.keep_history:
            lines.append("keep_history = true")
        for mirror in self.mirrors:
            lines += _mirror_lines(mirror)
        spans = {name: int(getattr(self, name).total_seconds()) for name in _SPANS}
        if any(spans.values()):
            lines += ["", "[freshness]", *(f"{name}_s = {seconds}" for name, seconds in spans.items() if seconds)]
        return ("\n".join(lines) + "\n").encode()


def shipped_anchors() -> list[str]:
    """The names of the anchors that come with kedge."""
    return sorted(path.name for path in _SHIPPED.iterdir() if (path / "anchor.toml").is_file())


def configured_anchors(config_folder: Path) -> list[str]:
    """The names of the anchors that were added below ``config_folder``.

    Raises:
        InputError: the folder cannot be read.
    """
    folder = config_folder / "anchors"
    try:
        return sorted(path.name for path in folder.iterdir() if _NAME.fullmatch(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be read: {(error.strerror or str(error)).lower()}",
            hint="set KEDGE_CONFIG_DIR to a folder of this user",
        ) from error


def anchor_names(config_folder: Path) -> list[str]:
    """The names of all anchors, added or shipped."""
    return sorted({*configured_anchors(config_folder), *shipped_anchors()})


def load_anchor(name: str, config_folder: Path) -> Anchor:
    """Read an anchor by its name; one that was added goes before one that ships.

    Raises:
        InputError: there is none of that name, or its files cannot be read.
    """
    if name in configured_anchors(config_folder):
        return _read(name, config_folder / "anchors" / name)
    if name in shipped_anchors():
        return _read(name, _SHIPPED / name)
    known = ", ".join(anchor_names(config_folder))
    raise InputError(f"there is no anchor named {name!r}", hint=f"known anchors: {known}; kedge anchor add adds one")


def anchor_for_registry(registry: str, config_folder: Path) -> Anchor:
    """Choose the one anchor that speaks for a registry. An added anchor goes before those that ship.

    Raises:
        InputError: none does, or two do: then the user must choose.
    """
    for candidates in (configured_anchors(config_folder), shipped_anchors()):
        claiming = [
            anchor
            for anchor in (load_anchor(name, config_folder) for name in candidates)
            if registry in anchor.registries
        ]
        if len(claiming) > 1:
            both = " and ".join(anchor.name for anchor in claiming)
            raise InputError(f"{registry}: the anchors {both} both speak for it", hint="choose one with --anchor NAME")
        if claiming:
            return claiming[0]
    raise InputError(
        f"{registry}: no anchor speaks for this registry",
        hint=f"name one with --anchor, or: kedge anchor add NAME --root FILE --mirror URL --registry {registry}",
    )


def add_anchor(anchor: Anchor, config_folder: Path) -> Path:
    """Keep an anchor, whole or not at all, and return its folder. Its root must vouch for itself.

    Raises:
        InputError: the name is taken or is no name, or the root or another field is not what it should be.
        StoreError: it cannot be written.
    """
    if _NAME.fullmatch(anchor.name) is None:
        raise InputError(f"{anchor.name!r}: an anchor's name is made of a-z, 0-9, '.', '_' and '-', at most 64 of them")
    if _DEVICE.fullmatch(anchor.name) is not None:
        raise InputError(f"{anchor.name!r}: is no name for a folder on Windows", hint="choose another name")
    _check_root(anchor.initial_root, "root.json")
    text = anchor.to_toml()
    with blame_user("the new anchor"):
        Anchor.from_toml(anchor.name, text, anchor.initial_root)
    folder = config_folder / "anchors" / anchor.name
    if folder.exists():
        raise InputError(f"there is an anchor named {anchor.name} already", hint=f"kedge anchor remove {anchor.name}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".new.", dir=folder.parent))
        try:
            (temporary / "anchor.toml").write_bytes(text)
            (temporary / "root.json").write_bytes(anchor.initial_root)
            os.rename(temporary, folder)  # noqa: PTH104 one step, and it fails where the folder has come to be
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {(error.strerror or str(error)).lower()}") from error
    return folder


def remove_anchor(name: str, config_folder: Path) -> None:
    """Remove an anchor that was added. Its trust state stays: the floors of a name outlive its configuration.

    Raises:
        InputError: there is no such anchor, or it ships with kedge.
        StoreError: it cannot be removed.
    """
    folder = config_folder / "anchors" / name
    if _NAME.fullmatch(name) is None or not folder.is_dir():
        if name in shipped_anchors():
            raise InputError(f"the anchor {name} ships with kedge and cannot be removed")
        load_anchor(name, config_folder)
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be removed: {(error.strerror or str(error)).lower()}") from error


def _read(name: str, folder: Path) -> Anchor:
    parts: list[bytes] = []
    for path in (folder / "anchor.toml", folder / "root.json"):
        try:
            parts.append(path.read_bytes())
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    with blame_user(str(folder / "anchor.toml")):
        anchor = Anchor.from_toml(name, *parts)
    _check_root(anchor.initial_root, str(folder / "root.json"))
    return anchor


def _check_root(data: bytes, file: str) -> None:
    try:
        tuf.begin(data, file=file)
    except VerificationError as error:
        raise InputError(error.message, hint="an anchor's root is a TUF root signed by its own keys") from error


def _freshness(table: Fields) -> dict[str, timedelta]:
    spans = {
        name: timedelta(seconds=table.integer(f"{name}_s", maximum=_MAX_SECONDS))
        for name in _SPANS
        if f"{name}_s" in table
    }
    warn, red = spans.get("warn_after", _NONE), spans.get("red_line", _NONE)
    if red and warn >= red:
        table.fail("warn_after_s", f"must be less than the {int(red.total_seconds())} of red_line_s")
    table.end()
    return spans


def _transparency(fields: Fields) -> str:
    modes = "|".join(Transparency)
    return fields.optional("transparency", fields.text, pattern=modes, expected="off, warn or require") or "off"


def _log_policy(name: str, *, fields: Fields) -> str:
    from kedge.tlog import LogPolicy  # few anchors pin one

    text = fields.text(name)
    try:
        LogPolicy.from_bytes(text.encode())
    except DocumentError as error:
        raise DocumentError(fields.at(name), str(error)) from error
    return text


def _mirror(entry: Fields) -> Mirror:
    folders = {name: entry.text(name, empty=True) for name in ("metadata", "targets", "log") if name in entry}
    mirror = Mirror(
        url=entry.text("url"),
        metadata=folders.get("metadata", "metadata"),
        targets=folders.get("targets", "targets"),
        log=folders.get("log", "tlog"),
        ca_file=entry.optional("ca_file", entry.text),
        credentials_file=entry.optional("credentials_file", entry.text),
        redirect_origins=entry.texts("redirect_origins") if "redirect_origins" in entry else (),
        allow_plain_http=entry.boolean("allow_plain_http") if "allow_plain_http" in entry else False,
    )
    entry.end()
    return mirror


def _mirror_lines(mirror: Mirror) -> Iterator[str]:
    yield from ("", "[[mirror]]")
    for field in ("url", "metadata", "targets", "log", "ca_file", "credentials_file"):
        value = getattr(mirror, field)
        if value is not None and (field, value) != ("log", "tlog"):
            yield f"{field} = {_quoted(value)}"
    if mirror.redirect_origins:
        yield f"redirect_origins = [{', '.join(map(_quoted, mirror.redirect_origins))}]"
    if mirror.allow_plain_http:
        yield "allow_plain_http = true"


def _quoted(text: str) -> str:
    # A JSON text is a TOML basic string, but for U+007F, which no field of an anchor may hold.
    return json.dumps(text, ensure_ascii=False)


def fetch_root(transport: Transport, sha256: str, *, timeout_s: float = 60.0, limits: Limits | None = None) -> bytes:
    """Fetch the root that has the digest ``sha256`` (64 lower-case hexadecimal digits), whatever its version.

    Raises:
        InputError: the digest is none.
        FetchError: the mirror cannot be reached in time.
        VerificationError: no root that the mirror serves has this digest, or the one that has it does not vouch for
            itself.
    """
    limits, deadline = limits or Limits(), Deadline(timeout_s)
    if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise InputError(f"{sha256[:80]}: is no SHA-256 digest, expected 64 lower-case hexadecimal digits")
    for version in range(1, limits.root_rotations + 1):
        ahead = tuple(_request(version + step, limits) for step in range(1, limits.root_window))
        data = transport.get(Fetch(Area.METADATA, f"{version}.root.json", limits.root_bytes, ahead=ahead), deadline)
        if not isinstance(data, bytes):
            raise _not_found(transport, sha256, version - 1)
        if sha256_hex(data) == sha256:
            tuf.begin(data, file=f"{version}.root.json")
            return data
    raise _not_found(transport, sha256, limits.root_rotations)


def _request(version: int, limits: Limits) -> Fetch:
    return Fetch(Area.METADATA, f"{version}.root.json", limits.root_bytes)


def _not_found(transport: Transport, sha256: str, last: int) -> VerificationError:
    served = f"serves roots 1 to {last}, none of which has the sha256 {sha256}" if last else "serves no 1.root.json"
    refusal = Refusal(reason=Reason.ANCHOR, file="root.json", expected=f"sha256 {sha256}", source=transport.source)
    return VerificationError(
        f"{transport.source}: {served}",
        refusal=refusal,
        hint="check the digest at its source, and that this is the repository's address",
    )
