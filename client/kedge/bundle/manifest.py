"""A bundle's first line: what is in it, in words that a transfer guard can read (``kedge.bundle/1``).

Everything in it follows from what the bundle carries, but for ``tool``. Whoever verifies a bundle works it out again
and refuses a line that says anything else, so that a guard who read it has read the truth.

Invariant: one document has one text. What is not written as :meth:`Manifest.to_line` writes it is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kedge.document import DocumentError, Fields, format_time, load_json

__all__ = ["MAX_LINE_BYTES", "MAX_PAYLOAD_BYTES", "Baseline", "Manifest", "Summary"]

MAX_LINE_BYTES = 16_000_000
MAX_PAYLOAD_BYTES = 256_000_000
SHORT_KEYID = 8
_TOP_LEVEL = ("root", "snapshot", "targets", "timestamp")
_EXTRA_NAME = r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What a delta stands on: the digest of a bundle or a state, and the files of it that open this one.

    ``roles`` and ``targets`` are those that the delta carries; all others are as they were.
    """

    sha256: str
    dictionary: tuple[str, ...]
    roles: tuple[str, ...]
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What the set of files is, of which a bundle carries all or a part; the metadata itself says so.

    ``roles`` are versions by role, ``targets`` digests by path. ``valid_until`` is the first expiry among the roles.
    ``signed_by`` names the keys of each role whose signatures are right, by the first digits of their ids.
    """

    valid_until: datetime
    roles: Mapping[str, int]
    targets: Mapping[str, str]
    signed_by: Mapping[str, tuple[str, ...]]

    @property
    def delegated(self) -> tuple[str, ...]:
        """The names of the targets roles, in order: an entry of the payload names one by its place in it."""
        return tuple(sorted(set(self.roles) - {"root", "timestamp", "snapshot"}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The first line.

    ``sha256`` and ``payload_bytes`` are of the payload, uncompressed; ``deflated_bytes`` is the length of the rest of
    the file. ``first_root`` is the version of the first root that is carried. ``extra`` are digests, by name, of what
    other parts of kedge carry beside metadata and targets.
    """

    FORMAT = "kedge.bundle/1"

    tool: str
    sha256: str
    payload_bytes: int
    deflated_bytes: int
    summary: Summary
    first_root: int | None = None
    baseline: Baseline | None = None
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def carried_roles(self) -> tuple[str, ...]:
        """The roles that are carried, but for roots."""
        if self.baseline is not None:
            return self.baseline.roles
        return tuple(sorted(set(self.summary.roles) - {"root"}))

    @property
    def carried_targets(self) -> tuple[str, ...]:
        """The paths of the targets that are carried."""
        return self.baseline.targets if self.baseline is not None else tuple(sorted(self.summary.targets))

    def to_line(self) -> bytes:
        """This value as the file's first line."""
        summary = self.summary
        document: dict[str, Any] = {
            "format": self.FORMAT,
            "tool": self.tool,
            "sha256": self.sha256,
            "payload_bytes": self.payload_bytes,
            "deflated_bytes": self.deflated_bytes,
            "valid_until": format_time(summary.valid_until),
        }
        if self.baseline is not None:
            document["baseline"] = {
                "sha256": self.baseline.sha256,
                "dictionary": list(self.baseline.dictionary),
            }
            document["carries"] = {"roles": list(self.baseline.roles), "targets": list(self.baseline.targets)}
        if self.first_root is not None:
            document["first_root"] = self.first_root
        document["roles"] = dict(sorted(summary.roles.items()))
        document["targets"] = dict(sorted(summary.targets.items()))
        document["signed_by"] = {name: list(keyids) for name, keyids in sorted(summary.signed_by.items())}
        if self.extra:
            document["extra"] = dict(sorted(self.extra.items()))
        return json.dumps(document, separators=(",", ":")).encode("ascii") + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Manifest:
        """Read what :meth:`to_line` wrote, and no other text of the same document.

        Raises:
            DocumentError: it is not that.
        """
        manifest = cls.from_json(line)
        if manifest.to_line() != line:
            raise DocumentError("", "is not written as kedge writes it")
        return manifest

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Read the document, however it is written.

        Raises:
            DocumentError: it is not such a document.
        """
        fields = Fields(load_json(data))
        fields.format(cls.FORMAT)
        manifest = cls(
            tool=fields.text("tool"),
            sha256=fields.sha256("sha256"),
            payload_bytes=fields.integer("payload_bytes", maximum=MAX_PAYLOAD_BYTES),
            deflated_bytes=fields.integer("deflated_bytes", maximum=2 * MAX_PAYLOAD_BYTES),
            summary=_summary(fields),
            first_root=fields.integer("first_root", minimum=1) if "first_root" in fields else None,
            baseline=_baseline(fields) if "baseline" in fields else None,
            extra=_extra(fields.table("extra")) if "extra" in fields else {},
        )
        fields.end()
        return manifest


def _summary(fields: Fields) -> Summary:
    roles, targets, signed_by = fields.table("roles"), fields.table("targets"), fields.table("signed_by")
    for name in _TOP_LEVEL:
        roles.integer(name, minimum=1)
    return Summary(
        valid_until=fields.time("valid_until"),
        roles={name: roles.integer(name, minimum=1) for name in roles.names()},
        targets={path: targets.sha256(path) for path in targets.names()},
        signed_by={name: signed_by.texts(name) for name in signed_by.names()},
    )


def _baseline(fields: Fields) -> Baseline:
    base, carries = fields.table("baseline"), fields.table("carries")
    baseline = Baseline(
        sha256=base.sha256("sha256"),
        dictionary=base.sha256s("dictionary"),
        roles=carries.texts("roles"),
        targets=carries.texts("targets"),
    )
    base.end()
    carries.end()
    return baseline


def _extra(fields: Fields) -> dict[str, str]:
    names = fields.names()
    for name in names:
        Fields({name: name}, fields.path).text(name, pattern=_EXTRA_NAME, expected="a name such as tlog/checkpoint")
    return {name: fields.sha256(name) for name in names}
