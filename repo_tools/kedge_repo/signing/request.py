"""The one-file signing request and its response: all that passes between the maintainers and a keyholder.

A request (``kedge.request/1``) holds everything that a keyholder needs in order to judge it on a machine that has
nothing else: the canonical payload bytes (base64; exactly what is signed), every root from the first, the signed
metadata that the payloads follow from with the snapshot that lists it, old and new target bytes, the reason. A response
(``kedge.response/1``) holds raw signatures.

What a request *says* is not yet true: :func:`kedge_repo.signing.verify_request` checks it against a root that the
keyholder trusts. The names of keyholders in it are what the maintainers call them, for display, and nothing more.

The request code: what keyholders read aloud to each other, to know that all of them see the same request.

The code is the first 140 bits of a SHA-256, as seven groups of four characters of Crockford's base 32
(``0123456789ABCDEFGHJKMNPQRSTVWXYZ``, five bits each, most significant first)::

    SHA-256( "kedge.request-code/1"
             list( item(role) item(sha256 of the payload)  for each payload, sorted by role, then version )
             item(sha256 of the newest root's payload, or nothing before the first ceremony)
             list( item(sha256 of the new bytes)           for each target that changes and is not removed, by path )
             item(reason) )

``item(x)`` is the length of x in bytes as eight bytes, most significant first, then x; texts are UTF-8, digests are 32
raw bytes. ``list(…)`` is the number of entries as eight bytes, then the entries. ``"kedge.request-code/1"`` stands as
an item too. So no two requests have one encoding.

140 bits, because a maintainer who lies prepares *two* requests and looks for a pair with one code: a collision, which
halves the strength; 70 bits of work are out of reach, the 40 of a shorter code are not.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from tuf.api.metadata import Root

from kedge.documents import DocumentError, Fields, load_json
from kedge.tuf import parse
from kedge_repo.workspace import Payload, check_target_path, digest, read_name

REQUEST_FORMAT = "kedge.request/1"
RESPONSE_FORMAT = "kedge.response/1"

V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetChange:
    """The bytes of one target before and after; None where there are none."""

    path: str
    old: bytes | None
    new: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A signing request. ``base`` maps targets, delegated roles and snapshot to their metadata as signed today."""

    repository: str
    event: str
    reason: str
    payloads: tuple[Payload, ...]
    roots: tuple[bytes, ...]
    base: Mapping[str, bytes]
    targets: tuple[TargetChange, ...]
    keyholders: Mapping[str, str]

    @classmethod
    def from_bytes(cls, data: bytes) -> Request:
        """Read a request.

        Raises:
            DocumentError: it is not one; the path leads to the fault.
        """
        fields = Fields(load_json(data))
        fields.format(REQUEST_FORMAT)
        names = fields.table("keyholders")
        request = cls(
            repository=read_name(fields, "repository"),
            event=read_name(fields, "event"),
            reason=fields.text("reason"),
            payloads=tuple(_payload(item) for item in fields.tables("payloads")),
            roots=tuple(_decode(fields.at("roots"), n, text) for n, text in enumerate(fields.texts("roots"))),
            base=dict(_once("base", "role", [_base(item) for item in fields.tables("base")])),
            targets=tuple(
                change
                for _, change in _once(
                    "targets", "path", [(change.path, change) for change in map(_target, fields.tables("targets"))]
                )
            ),
            keyholders={keyid: names.text(keyid) for keyid in names.names()},
        )
        fields.end()
        if not request.payloads:
            fields.fail("payloads", "must hold at least one payload")
        # Only root may move by several versions in one event.
        once = [p.file if p.role == Root.type else p.role for p in request.payloads]
        _once("payloads", "role", [(name, name) for name in once])
        return request

    @property
    def base_root_sha256(self) -> str:
        """The digest of the newest root's payload; empty before the first ceremony.

        Raises:
            VerificationError: the last of ``roots`` is not a root.
        """
        return digest(parse(self.roots[-1], Root, file="roots[-1]").payload) if self.roots else ""

    def to_bytes(self) -> bytes:
        """Write the request as a JSON file."""
        value: dict[str, Any] = {
            "format": REQUEST_FORMAT,
            "repository": self.repository,
            "event": self.event,
            "reason": self.reason,
            "payloads": [
                {"role": payload.role, "version": payload.version, "payload": _encode(payload.data)}
                for payload in self.payloads
            ],
            "roots": [_encode(root) for root in self.roots],
            "base": [{"role": role, "metadata": _encode(data)} for role, data in self.base.items()],
            "targets": [_target_value(change) for change in self.targets],
            "keyholders": dict(self.keyholders),
        }
        return _write(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleSignature:
    """One raw signature (hexadecimal) over the payload with the digest ``payload_sha256``."""

    role: str
    payload_sha256: str
    keyid: str
    signature: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A keyholder's answer. ``code`` is the request code that the keyholder was shown."""

    repository: str
    event: str
    code: str
    signatures: tuple[RoleSignature, ...]

    @classmethod
    def from_bytes(cls, data: bytes) -> Response:
        """Read a response.

        Raises:
            DocumentError: it is not one, or holds two signatures by one key over one payload.
        """
        fields = Fields(load_json(data))
        fields.format(RESPONSE_FORMAT)
        response = cls(
            repository=read_name(fields, "repository"),
            event=read_name(fields, "event"),
            code=fields.text("code", pattern=r"[0-9A-HJKMNP-TV-Z]{4}(-[0-9A-HJKMNP-TV-Z]{4}){6}", expected="a code"),
            signatures=tuple(_signature(item) for item in fields.tables("signatures")),
        )
        fields.end()
        if not response.signatures:
            fields.fail("signatures", "must hold at least one signature")
        seen: set[tuple[str, str]] = set()
        for position, signature in enumerate(response.signatures):
            if (signature.payload_sha256, signature.keyid) in seen:
                raise DocumentError(f"signatures[{position}].keyid", f"{signature.keyid} signs the same payload twice")
            seen.add((signature.payload_sha256, signature.keyid))
        return response

    def to_bytes(self) -> bytes:
        """Write the response as a JSON file."""
        value = {
            "format": RESPONSE_FORMAT,
            "repository": self.repository,
            "event": self.event,
            "code": self.code,
            "signatures": [
                {"role": item.role, "payload_sha256": item.payload_sha256, "keyid": item.keyid, "sig": item.signature}
                for item in self.signatures
            ],
        }
        return _write(value)


def _once(place: str, name: str, entries: list[tuple[str, V]]) -> list[tuple[str, V]]:
    seen: set[str] = set()
    for position, (key, _) in enumerate(entries):
        if key in seen:
            raise DocumentError(f"{place}[{position}].{name}", f"{key} stands there twice")
        seen.add(key)
    return entries


def _payload(fields: Fields) -> Payload:
    role = read_name(fields, "role")
    version = fields.integer("version", minimum=1)
    data = fields.base64("payload", empty=True)
    fields.end()
    try:
        payload = Payload.from_bytes(role, data)
    except DocumentError as error:
        fields.fail("payload", str(error))
    if payload.version != version:
        fields.fail("version", f"must be {payload.version}, as the payload says, not {version}")
    return payload


def _base(fields: Fields) -> tuple[str, bytes]:
    entry = (read_name(fields, "role"), fields.base64("metadata", empty=True))
    fields.end()
    return entry


def _target(fields: Fields) -> TargetChange:
    path = fields.text("path")
    try:
        check_target_path(path)
    except DocumentError as error:
        fields.fail("path", error.problem)
    change = TargetChange(
        path=path,
        old=fields.base64("old", empty=True) if "old" in fields else None,
        new=fields.base64("new", empty=True) if "new" in fields else None,
    )
    fields.end()
    return change


def _target_value(change: TargetChange) -> dict[str, str]:
    value = {"path": change.path}
    if change.old is not None:
        value["old"] = _encode(change.old)
    if change.new is not None:
        value["new"] = _encode(change.new)
    return value


def _signature(fields: Fields) -> RoleSignature:
    signature = RoleSignature(
        role=read_name(fields, "role"),
        payload_sha256=fields.sha256("payload_sha256"),
        keyid=fields.text("keyid"),
        signature=fields.text("sig", pattern="([0-9a-f]{2})+", expected="lower-case hexadecimal digits"),
    )
    fields.end()
    return signature


def _decode(place: str, position: int, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DocumentError(f"{place}[{position}]", "must be base64") from error


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _write(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8")


_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_GROUPS = 7
_GROUP_SIZE = 4


def request_code(request: Request) -> str:
    """The code of ``request``: ``XXXX-XXXX-XXXX-XXXX-XXXX-XXXX-XXXX``."""
    number = int.from_bytes(hashlib.sha256(encode_request(request)).digest(), "big")
    size = _GROUPS * _GROUP_SIZE
    number >>= 256 - 5 * size
    text = "".join(_ALPHABET[(number >> (5 * place)) & 31] for place in reversed(range(size)))
    return "-".join(text[start : start + _GROUP_SIZE] for start in range(0, size, _GROUP_SIZE))


def encode_request(request: Request) -> bytes:
    """The bytes that the code is the digest of."""
    payloads = sorted(request.payloads, key=lambda payload: (payload.role, payload.version))
    roles = [_item(payload.role.encode()) + _item(bytes.fromhex(payload.sha256)) for payload in payloads]
    new = [change.new for change in sorted(request.targets, key=lambda change: change.path) if change.new is not None]
    return b"".join(
        (
            _item(b"kedge.request-code/1"),
            _list(roles),
            _item(_base_root(request)),
            _list([_item(hashlib.sha256(data).digest()) for data in new]),
            _item(request.reason.encode()),
        )
    )


def _base_root(request: Request) -> bytes:
    return bytes.fromhex(request.base_root_sha256) if request.roots else b""


def _item(data: bytes) -> bytes:
    return len(data).to_bytes(8, "big") + data


def _list(items: list[bytes]) -> bytes:
    return len(items).to_bytes(8, "big") + b"".join(items)
