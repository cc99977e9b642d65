r"""A payload: the exact bytes of a root or targets role that keyholders sign.

The bytes are the canonical JSON of TUF's ``signed`` object, which every implementation signs. That form is not quite
JSON: it escapes ``"`` and ``\`` only, so that the line ends of a PEM key stand in it as they are. A payload read from
somebody else must be canonical already: two texts for one object would let two people sign different bytes and believe
them to be the same. What it says is then read as strictly as any metadata.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from securesystemslib.exceptions import FormatError
from securesystemslib.formats import encode_canonical
from tuf.api.metadata import Root, Signed, Targets
from tuf.api.serialization.json import CanonicalJSONSerializer

from kedge.document import DocumentError
from kedge.errors import VerificationError
from kedge.metadata import Parsed, parse

__all__ = ["Payload", "canonical", "canonical_json", "copy_signed", "digest", "file_name", "write_metadata"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """One version of one role, unsigned. ``signed`` is read from ``data`` and must not be changed."""

    role: str
    data: bytes
    signed: Root | Targets

    @classmethod
    def of(cls, role: str, signed: Root | Targets) -> Payload:
        """Write ``signed`` as the payload of ``role``."""
        return cls.from_bytes(role, canonical(signed))

    @classmethod
    def from_bytes(cls, role: str, data: bytes) -> Payload:
        """Read the payload of ``role``.

        Raises:
            DocumentError: the bytes are not canonical, or not such a role.
        """
        kind = Root if role == Root.type else Targets
        parsed = _parse(write_metadata(_read_canonical(data), {}), kind)
        return cls(role=role, data=data, signed=parsed.signed)

    @property
    def version(self) -> int:
        """The version of the role that this payload is."""
        return self.signed.version

    @property
    def sha256(self) -> str:
        """The digest that names this payload."""
        return digest(self.data)

    @property
    def file(self) -> str:
        """The name of the metadata file that this payload becomes."""
        return file_name(self.role, self.version)

    def with_signatures(self, signatures: Mapping[str, str]) -> Parsed[Root] | Parsed[Targets]:
        """Join the payload with signatures (hexadecimal, by keyid) to the metadata file that is published.

        Raises:
            DocumentError: it cannot be read back as such a file.
        """
        data = write_metadata(_read_canonical(self.data), signatures)
        parsed = _parse(data, type(self.signed), file=self.file)
        if parsed.payload != self.data:
            raise DocumentError("", f"{self.file} cannot be written without changing what was signed")
        return parsed


def canonical(signed: Signed) -> bytes:
    """The canonical JSON of a role: the bytes that are signed."""
    return CanonicalJSONSerializer().serialize(signed)


def canonical_json(value: Any) -> str:
    """The canonical JSON of any value.

    Raises:
        DocumentError: it has none: there is a fraction in it.
    """
    try:
        text: str = encode_canonical(value) or ""
    except FormatError as error:
        raise DocumentError("", "has no canonical JSON: only texts, whole numbers, lists and tables have") from error
    return text


def digest(data: bytes) -> str:
    """The SHA-256 of ``data`` in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def file_name(role: str, version: int) -> str:
    """The name of a versioned metadata file: ``3.targets.json``."""
    return f"{version}.{role}.json"


def write_metadata(signed: Mapping[str, Any], signatures: Mapping[str, str], *, compact: bool = False) -> bytes:
    """Write a metadata file: the ``signed`` object and its signatures, a line each, so that git shows what changed.

    ``compact`` writes canonical JSON instead, for what is large and for machines.

    Raises:
        ValueError: a signature is empty; such a one is never written.
    """
    if not all(signatures.values()):
        raise ValueError("an empty signature is never written")
    listed = [{"keyid": keyid, "sig": value} for keyid, value in signatures.items()]
    value = {"signatures": listed, "signed": signed}
    if compact:
        return canonical_json(value).encode()
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def copy_signed(signed: Root | Targets) -> Root | Targets:
    """A deep copy that may be changed."""
    return type(signed).from_dict(_read_canonical(canonical(signed)))


def _read_canonical(data: bytes) -> Any:
    problem = "must be canonical JSON, as TUF signs it"
    try:
        value = json.loads(data.decode("utf-8"), strict=False)
        text = encode_canonical(value)
        same = text is not None and text.encode("utf-8") == data
    except (ValueError, FormatError, RecursionError) as error:
        raise DocumentError("", problem) from error
    if not same:
        raise DocumentError("", problem)
    return value


def _parse(data: bytes, kind: type[Root | Targets], *, file: str = "payload") -> Parsed[Root] | Parsed[Targets]:
    try:
        return parse(data, Root, file=file) if kind is Root else parse(data, Targets, file=file)
    except VerificationError as error:
        raise DocumentError("", error.message.removeprefix(f"{file}: ")) from error
