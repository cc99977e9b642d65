"""Targets metadata that was received in the very form that is signed: read without being taken apart.

Signatures are over the canonical form of a document. Whoever receives it in another form has to parse it and to write
it again; of a role with 100,000 targets that is nearly all of the work. Here one regular expression decides whether the
received bytes provably are that form: names in order and each once, no blank, no escape, nothing beyond ASCII, whole
numbers as JSON writes them, and no field that targets metadata need not have. Then the bytes of ``signed`` are the
payload as they stand, and a target is looked up in them when somebody asks for it.

What does not match is not wrong: it takes the slow way through :func:`kedge.metadata.parse`, which alone says what is
wrong with a document. A property test holds the two ways together.

Source: TUF 1.0.34 §4.1, §4.5; OLPC canonical JSON.
"""

from __future__ import annotations

import operator
import re
from collections.abc import ItemsView, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kedge.document import parse_time

if TYPE_CHECKING:
    from securesystemslib.signer import Signature
    from tuf.api.metadata import TargetFile, Targets

__all__ = ["CanonicalTargets", "ReadCanonical", "read_canonical"]

_TEXT = rb'[^"\\\x00-\x1f\x7f-\xff]'
_SIGNATURE = rb'\{"keyid":"(' + _TEXT + rb'+)","sig":"(' + _TEXT + rb'*)"\}'
_HEAD = re.compile(
    rb'\{"signatures":\[((?:' + _SIGNATURE + rb",)*" + _SIGNATURE + rb"|)\],"
    rb'"signed":(?=(\{))\{"_type":"targets","expires":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)",'
    rb'"spec_version":"(1\.\d+(?:\.\d+)?)","targets":\{'
)
_TAIL = re.compile(rb'\},"version":([1-9]\d{0,14})\}(\}\n?)\Z')
_TAIL_BYTES = 40
_ENTRY_TEXT = rb'"' + _TEXT + rb'+":\{"hashes":\{"sha256":"[0-9a-f]{64}"\},"length":(?:0|[1-9]\d{0,14})\}'
_ENTRIES = re.compile(rb"(?:" + _ENTRY_TEXT + rb",)*+" + _ENTRY_TEXT)
_PATHS = re.compile(rb'"(' + _TEXT + rb'+)":\{"hashes":\{"sha256":"[0-9a-f]{64}"\},"length":\d+\}')
_ENTRY = re.compile(rb'"(' + _TEXT + rb'+)":\{"hashes":\{"sha256":"([0-9a-f]{64})"\},"length":(\d+)\}')


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCanonical:
    """A document in canonical form: the bytes that are signed, what they say, and the signatures by keyid."""

    payload: bytes
    signed: Targets
    signatures: dict[str, Signature]


def read_canonical(data: bytes) -> ReadCanonical | None:
    """Read targets metadata that is in canonical form; None where ``data`` is not, or is something else."""
    head = _HEAD.match(data)
    tail = _TAIL.search(data, max(0, len(data) - _TAIL_BYTES))
    if head is None or tail is None or head.end() > tail.start():
        return None
    start, end = head.end(), tail.start()
    if start != end:
        if _ENTRIES.fullmatch(data, start, end) is None:
            return None
        paths = _PATHS.findall(data, start, end)
        if not all(map(operator.lt, paths, paths[1:])):
            return None
    signatures = _signatures(head[1].decode("ascii"))
    signed = _signed(head, tail, CanonicalTargets(data[start:end]))
    if signatures is None or signed is None:
        return None
    return ReadCanonical(payload=data[head.start(6) : tail.start(2)], signed=signed, signatures=signatures)


class CanonicalTargets(Mapping[str, "TargetFile"]):
    """The targets in the bytes of a canonical document.

    One is looked up in the bytes; whoever goes through all of them has all of them read, once.
    """

    def __init__(self, entries: bytes) -> None:
        """Read from ``entries``, which have been found to be in canonical form."""
        self._entries = entries
        self._read: dict[str, TargetFile] | None = None

    def __getitem__(self, path: str) -> TargetFile:
        if self._read is not None:
            return self._read[path]
        if not path.isascii() or '"' in path or "\\" in path:
            raise KeyError(path)
        # A quote stands in no path, so that a path between quotes and before a colon is the name of an entry.
        start = self._entries.find(f'"{path}":{{"hashes"'.encode("ascii"))
        entry = _ENTRY.match(self._entries, start) if start >= 0 else None
        if entry is None:
            raise KeyError(path)
        return _target(entry)

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def items(self) -> ItemsView[str, TargetFile]:
        """Every target, read now."""
        return self._all().items()

    def _all(self) -> dict[str, TargetFile]:
        if self._read is None:
            targets = map(_target, _ENTRY.finditer(self._entries))
            self._read = {target.path: target for target in targets}
        return self._read


def _target(entry: re.Match[bytes]) -> TargetFile:
    from tuf.api.metadata import TargetFile

    path, sha256, length = entry[1].decode("ascii"), entry[2].decode("ascii"), int(entry[3])
    return TargetFile(length, {"sha256": sha256}, path)


def _signatures(text: str) -> dict[str, Signature] | None:
    from securesystemslib.signer import Signature

    pairs = re.findall(_SIGNATURE.decode("ascii"), text)
    found = {keyid: Signature(keyid, value) for keyid, value in pairs}
    return found if len(found) == len(pairs) else None


def _signed(head: re.Match[bytes], tail: re.Match[bytes], targets: CanonicalTargets) -> Targets | None:
    from tuf.api.metadata import Targets

    try:
        expires = parse_time(head[7].decode("ascii"))
        signed = Targets(int(tail[1]), head[8].decode("ascii"), expires)
    except ValueError:
        return None  # the slow way says what is wrong
    signed.targets = targets  # type: ignore[assignment] # a dict there; nobody changes what was received
    return signed
