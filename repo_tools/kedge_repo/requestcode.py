"""The request code: what keyholders read aloud to each other, to know that all of them see the same request.

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

import hashlib

from kedge_repo.request import Request

__all__ = ["encode_request", "request_code"]

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
