"""The key document of a Go checksum database: ``go/<name>/vkey``, a line for each key.

A line is what the variable ``GOSUMDB`` takes: a verifier key, and after a space the URL where the database is served,
if that is not ``https://<name>``. The first line is the key that signs today and the one that is exported, because a
``go`` command has room for one. Every line is accepted by ``kedge verify go``: while the key changes, both stand here
and the database signs its tree heads with both. Nothing is lost when the old line goes: what the old key vouched for
is in the tree, and the new key vouches for the whole tree.

Sources: ``cmd/go`` (``go help module-auth``), C2SP signed-note, golang.org/x/mod/sumdb/note.

What would go wrong with a new key document of a Go checksum database, said before anybody signs it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from kedge.documents import DocumentError
from kedge.errors import InputError
from kedge.registries import (
    Finding,
    KeyFormat,
    KeySet,
    KeyStatus,
    NoKeysError,
    RegistryKey,
    Severity,
    TimeBasis,
    read_custom,
)
from kedge.tlog import SignatureKind, VerifierKey
from kedge.transport import is_loopback


def lint(old: KeySet | None, new: KeySet) -> tuple[Finding, ...]:
    """Say what would go wrong with ``new`` in place of ``old``."""
    return (*_first(new), *_overlap(old, new))


def _first(new: KeySet) -> list[Finding]:
    if new.keys[0].status is not KeyStatus.REVOKED:
        return []
    return [
        Finding(
            rule="go/first-key-revoked",
            severity=Severity.ERROR,
            place=f"{new.target}: line 1",
            message=f"{new.keys[0].id} was revoked, and stands first: it is the one that go commands are given",
            hint="take the line out, or put the key that signs today before it",
        )
    ]


def _overlap(old: KeySet | None, new: KeySet) -> list[Finding]:
    """Both keys must be there for a while: a go command that kept a tree head refuses one that it cannot connect to."""
    if old is None:
        return []
    before, after = ({key.id for key in keys.keys if key.status is not KeyStatus.REVOKED} for keys in (old, new))
    if before & after:
        return []
    return [
        Finding(
            rule="go/no-overlap",
            severity=Severity.ERROR if not before & set(new.revoked) else Severity.WARNING,
            place=f"{new.target}: line 1",
            message="no key of before is left: a go command that kept a tree head signed by one of them stops working",
            hint="put the new key before the old one, sign tree heads with both, and take the old one out later; "
            "or tell users to remove $GOPATH/pkg/sumdb",
        )
    ]


TREE_HEADS = "go:tree-heads"
"""What the keys of a checksum database sign."""

MAX_KEYS = 100
MAX_BYTES = 65_536
_NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?(:[0-9]{1,5})?"


@dataclass(frozen=True, slots=True, kw_only=True)
class SumKey:
    """One line: a key, and where its database is served (None: at ``https://`` and its name)."""

    key: VerifierKey
    url: str | None

    @property
    def id(self) -> str:
        """The key's id among a registry's keys: its name and the four bytes that stand in its signatures."""
        return f"{self.key.name}+{self.key.id.hex()}"

    def to_text(self) -> str:
        """The line, as ``GOSUMDB`` takes it."""
        return self.key.to_text() if self.url is None else f"{self.key.to_text()} {self.url}"


class Go:
    """The registry module of Go checksum databases."""

    name = "go"

    def target_path(self, registry: str) -> str:
        """Give the target path of a database's key document: ``go/<name>/vkey``.

        Raises:
            InputError: the id is not ``go/`` and a name.
        """
        database_name(registry)
        return f"{registry}/vkey"

    def parse(self, data: bytes, *, registry: str, custom: Mapping[str, Any] | None, now: datetime) -> KeySet:
        """Read the key document of ``registry``.

        Raises:
            DocumentError: the document or ``custom`` is not what it should be.
            NoKeysError: the document names no key.
            InputError: ``registry`` is not a database's id.
        """
        target, name = self.target_path(registry), database_name(registry)
        revoked, _ = read_custom(custom)
        lines = read_lines(data)
        if not lines:
            raise NoKeysError("", "is empty: the document names no key")
        for number, line in enumerate(lines, 1):
            if line.key.name != name:
                raise DocumentError(f"line {number}", f"must be a key of {name}, not of {line.key.name}")
        return KeySet.of_document(
            data,
            registry=registry,
            target=target,
            keys=(_key(line, registry, revoked) for line in lines),
            now=now,
            revoked=revoked,
        )

    def lint(self, old: KeySet | None, new: KeySet) -> tuple[Finding, ...]:
        """Say what would go wrong with ``new`` in place of ``old``."""
        return lint(old, new)


def database_name(registry: str) -> str:
    """The name of a checksum database, which is also the name of its keys.

    Raises:
        InputError: the id is not ``go/`` and a name.
    """
    module, _, name = registry.partition("/")
    if module != "go" or re.fullmatch(_NAME, name, re.ASCII) is None or len(name) > 200:
        shown = registry if registry.isprintable() else ascii(registry)
        raise InputError(f"{shown[:200]} is not a checksum database's id: expected go/ and its name")
    return name


def read_lines(data: bytes) -> tuple[SumKey, ...]:
    """Read a key document's lines, in their order.

    Raises:
        DocumentError: one of them is not what it should be.
    """
    if len(data) > MAX_BYTES:
        raise DocumentError("", f"is longer than {MAX_BYTES} bytes")
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as error:
        raise DocumentError("", f"is not ASCII (byte {error.start})") from error
    if text and not text.endswith("\n"):
        raise DocumentError("", "must end with the end of a line")
    lines = text.split("\n")[:-1]
    if len(lines) > MAX_KEYS:
        raise DocumentError("", f"holds {len(lines)} lines, at most {MAX_KEYS} are read")
    found = tuple(_line(line, f"line {number}") for number, line in enumerate(lines, 1))
    if len({line.key for line in found}) != len(found):
        raise DocumentError("", "holds a key twice")
    if len({line.id for line in found}) != len(found):
        raise DocumentError("", "holds two keys of one id, which no signature can tell apart")
    return found


def _line(line: str, place: str) -> SumKey:
    vkey, space, url = line.partition(" ")
    try:
        key = VerifierKey.from_text(vkey)
    except DocumentError as error:
        raise DocumentError(place, error.problem) from error
    if key.kind is not SignatureKind.ED25519:
        raise DocumentError(place, "must be an Ed25519 key, of type 01: the go command reads no other")
    return SumKey(key=key, url=_url(url, place) if space else None)


def _url(text: str, place: str) -> str:
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
    except ValueError:
        parts, host = urlsplit(""), ""
    plain = re.fullmatch(r"https?://[!-~]+", text) is not None
    if not plain or not host or parts.username is not None or parts.query or parts.fragment or text.endswith("/"):
        raise DocumentError(place, "the URL must be https, with a host, without credentials, query or last slash")
    if parts.scheme == "http" and not is_loopback(host):
        raise DocumentError(place, "the URL must be https: plain http is for this machine alone")
    return text


def _key(line: SumKey, registry: str, revoked: tuple[str, ...]) -> RegistryKey:
    return RegistryKey(
        id=line.id,
        registry=registry,
        usages=(TREE_HEADS,),
        material=line.key.to_text().encode("ascii"),
        format=KeyFormat.VKEY,
        algorithm="Ed25519",
        valid_from=None,
        valid_until=None,
        time_basis=TimeBasis.NONE,
        status=KeyStatus.REVOKED if line.id in revoked else KeyStatus.ACTIVE,
    )
