"""What a client holds of a log: the last checkpoint, the tiles that prove what it stands on, the policy in force.

It is a record, not trust: its checkpoint's signatures and its tiles are checked again each time that it is used.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from kedge.document import DocumentError, Fields, load_json
from kedge.keylog.note import decode_base64

__all__ = ["View"]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A log as it was seen (``kedge.log/1``).

    ``tiles`` are by their path, ``leaves`` say where a leaf stands, by its hash: a hint, which a tile must bear out.
    """

    FORMAT = "kedge.log/1"

    policy: bytes
    checkpoint: bytes
    tiles: Mapping[str, bytes] = field(default_factory=dict)
    leaves: Mapping[str, int] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """This value as the file's bytes."""
        document = {
            "format": self.FORMAT,
            "policy": self.policy.decode("utf-8"),
            "checkpoint": self.checkpoint.decode("utf-8"),
            "tiles": {path: base64.b64encode(data).decode("ascii") for path, data in self.tiles.items()},
            "leaves": dict(self.leaves),
        }
        return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> View:
        """Read what :meth:`to_bytes` wrote.

        Raises:
            DocumentError: the bytes are not such a record.
        """
        fields = Fields(load_json(data))
        fields.format(cls.FORMAT)
        tiles, leaves = fields.table("tiles"), fields.table("leaves")
        view = cls(
            policy=fields.text("policy").encode(),
            checkpoint=fields.text("checkpoint").encode(),
            tiles={path: _tile(tiles, path) for path in tiles.names()},
            leaves={name: leaves.integer(name) for name in leaves.names()},
        )
        fields.end()
        return view


def _tile(tiles: Fields, path: str) -> bytes:
    try:
        return decode_base64(tiles.text(path), "the tile")
    except DocumentError as error:
        if error.path:
            raise
        tiles.fail(path, error.problem)
