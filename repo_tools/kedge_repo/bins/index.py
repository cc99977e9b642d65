"""``bins/<role>/index.json``: which version of each bin counts. Replacing it is how a change is committed.

A bin's file is written before the index names it, under a name that was never published; until then it counts nothing,
and the next change may write over it. Beside the versions stands what must be known of every bin without reading it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from kedge.document import Fields, load_json
from kedge_repo.policy import check_name

__all__ = ["INDEX_FORMAT", "BinIndex", "bin_file", "bin_name"]

INDEX_FORMAT = "kedge.bins/1"
_LAST_SECOND = 253_402_300_799  # of the year 9999


def bin_name(prefix: str, bit_length: int, number: int) -> str:
    """The role name of a bin, as TAP 15 says: ``packages-00ff``."""
    digits = len(f"{(1 << bit_length) - 1:x}")
    return f"{prefix}-{number:0{digits}x}"


def bin_file(version: int, name: str) -> str:
    """The file name of a bin."""
    return f"{version}.{name}.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class BinIndex:
    """Every bin of a role, by its number: its version, how many targets it holds, when it expires (in Unix time).

    ``delegation_sha256`` is the digest of the delegation that all of them are signed under. ``former`` are bins that
    there are no more: a snapshot never loses a role that it has listed.
    """

    prefix: str
    bit_length: int
    delegation_sha256: str
    versions: tuple[int, ...]
    targets: tuple[int, ...]
    expires: tuple[int, ...]
    former: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_bytes(cls, data: bytes) -> BinIndex:
        """Read an index.

        Raises:
            DocumentError: it is none; the path leads to the fault.
        """
        fields = Fields(load_json(data))
        fields.format(INDEX_FORMAT)
        bit_length = fields.integer("bit_length", minimum=1, maximum=32)
        former = fields.table("former")
        index = cls(
            prefix=check_name(fields.text("prefix")),
            bit_length=bit_length,
            delegation_sha256=fields.sha256("delegation_sha256"),
            versions=_numbers(fields, "versions", 1 << bit_length, minimum=1),
            targets=_numbers(fields, "targets", 1 << bit_length),
            expires=_numbers(fields, "expires", 1 << bit_length, maximum=_LAST_SECOND),
            former={check_name(name): former.integer(name, minimum=1) for name in former.names()},
        )
        fields.end()
        return index

    def to_bytes(self) -> bytes:
        """The text of the file."""
        value = {
            "format": INDEX_FORMAT,
            "prefix": self.prefix,
            "bit_length": self.bit_length,
            "delegation_sha256": self.delegation_sha256,
            "former": dict(self.former),
            "versions": list(self.versions),
            "targets": list(self.targets),
            "expires": list(self.expires),
        }
        lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(item)}" for name, item in value.items())
        return f"{{\n{lines}\n}}\n".encode()

    @property
    def total(self) -> int:
        """The number of targets."""
        return sum(self.targets)

    def name(self, number: int) -> str:
        """The role name of a bin."""
        return bin_name(self.prefix, self.bit_length, number)

    def file(self, number: int) -> str:
        """The file name of a bin."""
        return bin_file(self.versions[number], self.name(number))

    def listed(self) -> Iterator[tuple[str, int]]:
        """Name and version of each bin that a snapshot must list."""
        yield from self.former.items()
        for number, version in enumerate(self.versions):
            yield self.name(number), version

    def first_expiry(self) -> datetime:
        """When the first of the bins expires."""
        return datetime.fromtimestamp(min(self.expires), UTC)


def _numbers(fields: Fields, name: str, count: int, *, minimum: int = 0, maximum: int | None = None) -> tuple[int, ...]:
    numbers = fields.integers(name, minimum=minimum, maximum=maximum)
    if len(numbers) != count:
        fields.fail(name, f"must hold {count} numbers, one a bin, not {len(numbers)}")
    return numbers
