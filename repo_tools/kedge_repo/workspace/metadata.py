r"""A payload: the exact bytes of a root or targets role that keyholders sign.

The bytes are the canonical JSON of TUF's ``signed`` object, which every implementation signs. That form is not quite
JSON: it escapes ``"`` and ``\`` only, so that the line ends of a PEM key stand in it as they are. A payload read from
somebody else must be canonical already: two texts for one object would let two people sign different bytes and believe
them to be the same. What it says is then read as strictly as any metadata.

Target paths that mean one thing everywhere: to a disk, in a URL, and in the patterns of a delegation.

The signed metadata of a repository as one value: what is true until the next event is merged.

Invariants:

- Root versions are complete from the first; a gap would strand every client behind it.
- :meth:`SignedMetadata.verify` holds the set to the same rules as a client does, expiry apart: an expired role must be
  seen, not hidden, by those who are about to renew it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from securesystemslib.exceptions import FormatError
from securesystemslib.formats import encode_canonical
from tuf.api.metadata import Key, Root, Signed, Snapshot, Targets, Timestamp
from tuf.api.serialization.json import CanonicalJSONSerializer

from kedge.documents import DocumentError
from kedge.errors import Reason, Refusal, VerificationError
from kedge.tuf import Parsed, parse, require_threshold

MAX_BYTES = 1000
MAX_PART_BYTES = 180  # with "<sha256>." before it, a file name on every disk

_UNFIT = re.compile(r"[\x00-\x20\x7f\\?#%*:\"<>|\[\]]")


def check_target_path(path: str) -> str:
    """Return ``path`` if it can be a target's path: relative, with ``/``, and plain enough for every server.

    Raises:
        DocumentError: it cannot; the path of the error is empty.
    """
    parts = path.split("/")
    if not path or len(path.encode("utf-8", "replace")) > MAX_BYTES:
        raise DocumentError("", f"a target path has 1 to {MAX_BYTES} bytes")
    if any(part in {"", ".", ".."} or len(part.encode("utf-8", "replace")) > MAX_PART_BYTES for part in parts):
        raise DocumentError("", f'the target path "{path[:80]}" must be relative, without empty, "." or ".." parts')
    if _UNFIT.search(path) or not path.isprintable():
        raise DocumentError(
            "", f"the target path {path[:80]!r} holds a character that servers or disks read differently"
        )
    return path


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


FORMER_FIELD = "x-kedge-former-until"
"""In a snapshot: when the last timestamp that names an earlier snapshot expires."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedMetadata:
    """Every root, and the newest version of every other role; empty before the first ceremony."""

    roots: tuple[Parsed[Root], ...] = ()
    targets: Parsed[Targets] | None = None
    delegated: Mapping[str, Parsed[Targets]] = field(default_factory=dict)
    snapshot: Parsed[Snapshot] | None = None
    timestamp: Parsed[Timestamp] | None = None

    @property
    def root(self) -> Parsed[Root] | None:
        """The newest root."""
        return self.roots[-1] if self.roots else None

    @property
    def root_sha256(self) -> str:
        """The digest of the newest root's payload; empty before the first ceremony."""
        return digest(self.roots[-1].payload) if self.roots else ""

    def role(self, name: str) -> Parsed[Root] | Parsed[Targets] | None:
        """The newest signed version of root, targets or a delegated role."""
        if name == Root.type:
            return self.root
        return self.targets if name == Targets.type else self.delegated.get(name)

    def everything(self) -> dict[str, Parsed[Any]]:
        """The newest version of every role that has one, by role name."""
        top: dict[str, Parsed[Any] | None] = {
            "root": self.root,
            "targets": self.targets,
            **self.delegated,
            "snapshot": self.snapshot,
            "timestamp": self.timestamp,
        }
        return {name: parsed for name, parsed in top.items() if parsed is not None}

    def keys(self) -> dict[str, Key]:
        """Every key that the newest root, targets and delegated roles list, by keyid."""
        found: dict[str, Key] = dict(self.root.signed.keys) if self.root else {}
        for parsed in (self.targets, *self.delegated.values()):
            if parsed is not None and parsed.signed.delegations is not None:
                found.update(parsed.signed.delegations.keys)
        return found

    def with_roles(self, files: Iterable[tuple[str, Parsed[Root] | Parsed[Targets]]]) -> SignedMetadata:
        """The set with newer versions of some roles; roots are added to the chain unless they stand there already."""
        roots = list(self.roots)
        found: dict[str, Parsed[Targets]] = {}
        for name, parsed in files:
            if isinstance(parsed.signed, Root):
                roots = [root for root in roots if root.signed.version < parsed.signed.version]
                roots.append(parsed)
            else:
                found[name] = parsed
        targets = found.pop(Targets.type, self.targets)
        return replace(self, roots=tuple(roots), targets=targets, delegated={**self.delegated, **found})

    def verify(self) -> None:
        """Check the root chain, and that targets and the delegated roles reach their thresholds under it.

        Raises:
            VerificationError: they do not; the text names the file.
        """
        if self.root is None:
            return
        verify_roots(self.roots)
        if self.targets is None:
            return
        require_threshold(self.root.signed, Targets.type, self.targets)
        for name, parsed in self.delegated.items():
            require_threshold(self.targets.signed, name, parsed)


def delegated_roles(targets: Targets) -> tuple[str, ...]:
    """The names of the roles that ``targets`` delegates to, in order of trust."""
    roles = targets.delegations.roles if targets.delegations is not None else None
    return tuple(roles or ())


def verify_roots(roots: tuple[Parsed[Root], ...]) -> None:
    """Check that each root is signed by itself and by the one before it, and that no version is left out.

    Raises:
        VerificationError: a link is broken.
    """
    for index, root in enumerate(roots):
        before = roots[index - 1] if index else None
        expected = before.signed.version + 1 if before else root.signed.version
        if root.signed.version != expected:
            refusal = Refusal(
                reason=Reason.VERSION,
                file=root.file,
                role=Root.type,
                expected=str(expected),
                found=str(root.signed.version),
            )
            raise VerificationError(
                f"{root.file}: is version {root.signed.version}, expected {expected}", refusal=refusal
            )
        if before is not None:
            require_threshold(before.signed, Root.type, root)
        require_threshold(root.signed, Root.type, root)
