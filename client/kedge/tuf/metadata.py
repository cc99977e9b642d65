"""TUF metadata as served: bytes in, a checked document with its signed payload out.

python-tuf's Metadata API does the modelling; this module stands in front of it and behind it:

- In front, the bytes are read strictly (:mod:`kedge.documents`) and their shape is checked, so that a fault names its
  place (``timestamp.json: signed.meta: is missing``) and no liberty of a JSON parser survives.
- The payload that signatures are checked over is the canonical form of what was *received*, not of what a model made
  of it: fields that nobody knows stay signed.
- Behind, signatures are counted as TUF 1.0.34 §5 asks: keyids are opaque, a signature that is empty or unknown, or
  by an OpenPGP key, counts nothing, and one key's material under two keyids counts once. A key of a type that nobody
  here knows counts nothing either, and stops nothing.

python-tuf, and the cryptography below it, are loaded when the first file is read and not before: that is half the time
in which a client starts, and by then its first questions are under way.

Source: TUF 1.0.34 §4 (formats) and §5.3.4, §5.4.2, §5.5.3, §5.6.3 (arbitrary software attack checks).

Targets metadata that was received in the very form that is signed: read without being taken apart.

Signatures are over the canonical form of a document. Whoever receives it in another form has to parse it and to write
it again; of a role with 100,000 targets that is nearly all of the work. Here one regular expression decides whether the
received bytes provably are that form: names in order and each once, no blank, no escape, nothing beyond ASCII, whole
numbers as JSON writes them, and no field that targets metadata need not have. Then the bytes of ``signed`` are the
payload as they stand, and a target is looked up in them when somebody asks for it.

What does not match is not wrong: it takes the slow way through :func:`parse`, which alone says what is wrong with a
document. A property test holds the two ways together.

Source: TUF 1.0.34 §4.1, §4.5; OLPC canonical JSON.
"""

from __future__ import annotations

import hashlib
import json
import operator
import re
from collections.abc import Container, ItemsView, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar

from securesystemslib.exceptions import UnsupportedLibraryError, UnverifiedSignatureError
from securesystemslib.exceptions import VerificationError as SignatureFault

from kedge.documents import DocumentError, Fields, blame_served, load_json, parse_time
from kedge.errors import Reason, Refusal, StoreError, VerificationError

if TYPE_CHECKING:
    from securesystemslib.signer import Key, Signature, SSlibKey
    from tuf.api.metadata import Metadata, Role, Root, Snapshot, TargetFile, Targets, Timestamp


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


T = TypeVar("T", "Root", "Timestamp", "Snapshot", "Targets")

_LOWER_HEX = re.compile("[0-9a-f]+")
_CANONICAL_START: Final = b'{"signatures":['
_TOP_LEVEL = ("root", "targets", "snapshot", "timestamp")
_EXPIRES = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z"


class Kind(Generic[T]):
    """One of the four types of metadata. It stands for python-tuf's class, which it names without loading it."""

    __slots__ = ("type",)

    def __init__(self, type: str) -> None:  # noqa: A002 as python-tuf's classes call it
        """Name the type as the field ``_type`` does."""
        self.type = type


ROOT: Final[Kind[Root]] = Kind("root")
TIMESTAMP: Final[Kind[Timestamp]] = Kind("timestamp")
SNAPSHOT: Final[Kind[Snapshot]] = Kind("snapshot")
TARGETS: Final[Kind[Targets]] = Kind("targets")


Checked: TypeAlias = dict[tuple[str, str, str], bool]
"""Which signatures over one payload have been checked, and are right: by scheme, the key's material and signature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed(Generic[T]):
    """One metadata file that has been read, and nothing more: its signatures are not checked yet.

    ``data`` are the bytes as served, ``payload`` the canonical bytes that signatures are over. ``checked`` fills up as
    its signatures are checked: what is right for one delegator, or once, need not be computed again.
    """

    file: str
    data: bytes
    payload: bytes
    signed: T
    signatures: dict[str, Signature]
    checked: Checked = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How far a file's signatures go towards its role's threshold.

    ``keyids`` and ``materials`` (SHA-256 of each key's material) name the keys whose signatures are right.
    """

    keyids: tuple[str, ...]
    materials: tuple[str, ...]
    threshold: int

    @property
    def met(self) -> bool:
        """Whether the threshold is reached."""
        return len(self.keyids) >= self.threshold


def parse(data: bytes, kind: Kind[T] | type[T], *, file: str) -> Parsed[T]:
    """Read one metadata file of the type ``kind``; ``file`` is its name in messages.

    Raises:
        VerificationError: the bytes are not such a document (reason ``malformed``); the text gives the path.
    """
    canonical = kind.type == TARGETS.type and data.startswith(_CANONICAL_START)
    if canonical and (known := read_canonical(data)) is not None:
        signed: Any = known.signed
        return Parsed(file=file, data=data, payload=known.payload, signed=signed, signatures=known.signatures)
    with blame_served(file):
        document = load_json(data)
        _check_shape(Fields(document), kind.type)
        payload = _canonical(document["signed"])
        metadata: Metadata[T] = _model(document)
    return Parsed(file=file, data=data, payload=payload, signed=metadata.signed, signatures=metadata.signatures)


def claimed_version(data: bytes) -> int | None:
    """A file's version by its own word, before anything of it is checked; None where it cannot be read."""
    try:
        return Fields(load_json(data)).table("signed").integer("version")
    except DocumentError:
        return None


def require_threshold(
    delegator: Root | Targets,
    role: str,
    parsed: Parsed[Any],
    *,
    every: bool = False,
    checked: Checked | None = None,
) -> Count:
    """Check that ``parsed`` is signed by the threshold of keys that ``delegator`` names for ``role``.

    Counting stops at the threshold unless ``every`` signature is asked for.

    Raises:
        VerificationError: fewer keys signed it (reason ``signatures``), or the delegator does not delegate to the role.
        StoreError: the threshold is missed and this machine's cryptography cannot check some of the signatures.
    """
    count = count_signatures(delegator, role, parsed, every=every, checked=checked)
    if not count.met:
        expected = f"{count.threshold} of the keys that {_describe(delegator)} names for {role}"
        refusal = Refusal(
            reason=Reason.SIGNATURES, file=parsed.file, role=role, expected=expected, found=str(len(count.keyids))
        )
        found = f"{len(count.keyids)} of the {count.threshold} keys"
        message = f"{parsed.file}: signed by {found} that {_describe(delegator)} asks for"
        raise VerificationError(message, refusal=refusal)
    return count


def count_signatures(
    delegator: Root | Targets,
    role: str,
    parsed: Parsed[Any],
    *,
    every: bool = False,
    checked: Checked | None = None,
) -> Count:
    """Count the keys of ``role``, as ``delegator`` lists them, whose signature over ``parsed`` is right.

    Stops at the threshold unless ``every`` signature is asked for. What ``checked`` holds of this file is not checked
    again, for a second delegator.

    Raises:
        VerificationError: the delegator does not delegate to the role (reason ``not-found``).
        StoreError: the threshold is missed and this machine's cryptography cannot check some of the signatures.
    """
    listed = _listed(delegator, role, parsed.file)
    valid: dict[str, str] = {}
    unsupported: set[str] = set()
    for keyid in listed.keyids:
        signature, key = parsed.signatures.get(keyid), _readable_key(delegator, keyid)
        if signature is None or not signature.signature or key is None:
            continue
        material = _material(key)
        try:
            name = (key.scheme, material, signature.signature)
            right = _is_right(key, signature, parsed.payload, name, checked)
        except UnsupportedLibraryError:
            unsupported.add(key.scheme)
            continue
        if right:
            valid.setdefault(material, keyid)
        if len(valid) >= listed.threshold and not every:
            break
    if unsupported and len(valid) < listed.threshold:
        raise StoreError(
            f"{parsed.file}: this machine's cryptography cannot check {', '.join(sorted(unsupported))} signatures",
            hint="upgrade the Python package cryptography; nothing is known to be wrong with the repository",
        )
    return Count(keyids=tuple(valid.values()), materials=tuple(valid), threshold=listed.threshold)


def _is_right(
    key: SSlibKey, signature: Signature, payload: bytes, name: tuple[str, str, str], checked: Checked | None
) -> bool:
    if checked is not None and name in checked:
        return checked[name]
    try:
        key.verify_signature(signature, payload)
        right = True
    except SignatureFault as error:  # a subclass of the next one: the signature could not be checked at all
        if isinstance(error.__cause__, UnsupportedLibraryError):
            raise error.__cause__ from error
        right = False
    except UnverifiedSignatureError:
        right = False
    if checked is not None:
        checked[name] = right
    return right


def key_materials(delegator: Root | Targets, role: str) -> set[str]:
    """The SHA-256 digests of the material of each key that ``delegator`` names for ``role`` and that is read here."""
    keys = (_readable_key(delegator, keyid) for keyid in delegator.get_delegated_role(role).keyids)
    return {_material(key) for key in keys if key is not None}


def _listed(delegator: Root | Targets, role: str, file: str) -> Role:
    try:
        return delegator.get_delegated_role(role)
    except ValueError as error:
        refusal = Refusal(reason=Reason.NOT_FOUND, file=file, role=role)
        raise VerificationError(
            f"{file}: {_describe(delegator)} does not delegate to {role}", refusal=refusal
        ) from error


def _readable_key(delegator: Root | Targets, keyid: str) -> SSlibKey | None:
    from securesystemslib.signer import SSlibKey

    try:
        key: Key = delegator.get_key(keyid)
    except ValueError:
        return None
    if not isinstance(key, SSlibKey):
        return None  # OpenPGP and keyless keys are not read here: they count nothing, as an unknown key does
    if key.keytype == key.scheme and key.scheme.startswith("ecdsa-"):
        # The key type of TUF before 1.0.20; python-tuf reads it with a DeprecationWarning on each use.
        return SSlibKey(key.keyid, "ecdsa", key.scheme, key.keyval)
    return key


def _material(key: SSlibKey) -> str:
    return _material_of(key.keytype, str(key.keyval.get("public")))


@lru_cache(maxsize=512)
def _material_of(keytype: str, public: str) -> str:
    # Two texts may hold one key: PEM is read past what stands before it, and hexadecimal digits past blanks. Only what
    # the key's own reader makes of them tells.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

    text = f"{keytype}:{public}"
    if "-----BEGIN" in public:
        with suppress(ValueError, UnsupportedAlgorithm):
            loaded = load_pem_public_key(public.encode())
            text = loaded.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo).hex()
    else:
        with suppress(ValueError):
            text = f"{keytype}:{bytes.fromhex(public).hex()}"
    return hashlib.sha256(text.encode()).hexdigest()


def _describe(delegator: Root | Targets) -> str:
    return f"{delegator.type} version {delegator.version}"


def _canonical(signed: Any) -> bytes:
    """The OLPC canonical JSON that TUF signs: sorted, no spaces, and only quotes and backslashes escaped.

    The standard library writes it but for its escapes of control characters, which are undone; it is several times
    faster than securesystemslib's encoder, and a property test holds the two together.
    """
    text = json.dumps(signed, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return (_ESCAPE.sub(_unescaped, text) if "\\" in text else text).encode("utf-8")


_ESCAPE = re.compile(r'\\(?:["\\bfnrt]|u[0-9a-f]{4})')


def _unescaped(match: re.Match[str]) -> str:
    escape = match[0]
    if escape == "\\n":  # nearly all of them: the lines of PEM keys
        return "\n"
    if escape in ('\\"', "\\\\"):
        return escape
    character: str = json.loads(f'"{escape}"')
    return character


def unknown_keys(delegator: Root | Targets) -> dict[str, str]:
    """The keys that ``delegator`` lists and that nothing here can check: key ID → key type and scheme.

    They count nothing; where the threshold is met without them, nothing is wrong.
    """
    listed: Any = getattr(delegator, "delegations", delegator)  # a root lists them itself
    keys: dict[str, Key] = listed.keys if listed is not None else {}
    known = _known_schemes()
    return {
        keyid: f"{key.keytype}/{key.scheme}"
        for keyid, key in sorted(keys.items())
        if (key.keytype, key.scheme) not in known
    }


def _known_schemes() -> Container[tuple[str, str]]:
    from securesystemslib.signer import KEY_FOR_TYPE_AND_SCHEME

    return KEY_FOR_TYPE_AND_SCHEME


@cache
def _unknown_key() -> type[Key]:
    """The class of keys that python-tuf has none for: it keeps what was received, and no signature of it is right."""
    from securesystemslib.signer import Key

    class UnknownKey(Key):
        @classmethod
        def from_dict(cls, keyid: str, key_dict: dict[str, Any]) -> UnknownKey:
            return cls(keyid, *cls._from_dict(key_dict), key_dict)

        def to_dict(self) -> dict[str, Any]:
            return self._to_dict()

        def verify_signature(self, signature: Signature, data: bytes) -> None:  # noqa: ARG002 of either
            """Find no signature right.

            Raises:
                UnverifiedSignatureError: always.
            """
            raise UnverifiedSignatureError(f"keys of the type {self.keytype}/{self.scheme} are not known")

    return UnknownKey


def _take_unknown_keys(signed: dict[str, Any]) -> dict[str, Key]:
    """Take the keys of unknown types out of a root's or a delegation's table, which python-tuf would stop at."""
    if signed["_type"] == ROOT.type:
        table = signed["keys"]
    elif signed["_type"] == TARGETS.type and "delegations" in signed:
        table = signed["delegations"]["keys"]
    else:
        return {}
    known = _known_schemes()
    strange = [keyid for keyid, key in table.items() if (key["keytype"], key["scheme"]) not in known]
    return {keyid: _unknown_key().from_dict(keyid, table.pop(keyid)) for keyid in strange}


def _model(document: dict[str, Any]) -> Any:
    """Read a document whose payload was taken: python-tuf changes it, and so may this."""
    from tuf.api.metadata import Metadata
    from tuf.api.serialization import DeserializationError

    signed = document["signed"]
    unknown = _take_unknown_keys(signed)
    # Fractions of a second are cut off: what is a moment too early expired is safe.
    signed["expires"] = re.sub(r"\.\d+Z", "Z", signed["expires"])
    try:
        metadata: Metadata[Any] = Metadata.from_dict(document)
        if unknown:
            (metadata.signed if metadata.signed.type == ROOT.type else metadata.signed.delegations).keys.update(unknown)
        return metadata
    except (ValueError, KeyError, TypeError, AttributeError, DeserializationError) as error:
        # Shapes are checked before; what is left are rules between fields (paths beside path_hash_prefixes, …).
        raise DocumentError(
            "signed", f"is not {error}" if isinstance(error, KeyError) else str(error).lower()
        ) from error


def _check_shape(document: Fields, kind: str) -> None:
    seen: set[str] = set()
    for entry in document.tables("signatures"):
        keyid = entry.text("keyid")
        if keyid in seen:
            entry.fail("keyid", f"{keyid} stands among the signatures twice")
        seen.add(keyid)
        entry.text("sig", empty=True)  # an empty signature counts nothing: Sigstore's roots 12 to 14 carry such
    signed = document.table("signed")
    signed.text("_type", pattern=kind, expected=f'"{kind}"')
    signed.integer("version", minimum=1)
    signed.text("spec_version", pattern=r"1\.\d+(\.\d+)?", expected="a TUF specification version 1.x")
    signed.text("expires", pattern=_EXPIRES, expected="a time such as 2025-01-27T00:00:00Z")
    signed.time("expires")
    _SHAPES[kind](signed)


def _root_shape(signed: Fields) -> None:
    if "consistent_snapshot" in signed:
        signed.boolean("consistent_snapshot")
    _keys_shape(signed.table("keys"))
    roles = signed.table("roles")
    for name in _TOP_LEVEL:
        _role_shape(roles.table(name))
    roles.end()


def _timestamp_shape(signed: Fields) -> None:
    _meta_shape(signed.table("meta").table("snapshot.json"))


def _snapshot_shape(signed: Fields) -> None:
    for _, entry in signed.table("meta").items():
        _meta_shape(entry)


def _targets_shape(signed: Fields) -> None:
    for _, entry in signed.table("targets").items(but=_is_plain_target):
        entry.integer("length")
        _hashes_shape(entry.table("hashes"))
    if "delegations" not in signed:
        return
    delegations = signed.table("delegations")
    _keys_shape(delegations.table("keys"))
    if "roles" in delegations:
        for role in delegations.tables("roles"):
            role.text("name")
            _role_shape(role)
            role.boolean("terminating")
            role.optional("paths", role.texts)
            role.optional("path_hash_prefixes", role.texts)
    if "succinct_roles" in delegations:
        succinct = delegations.table("succinct_roles")
        _role_shape(succinct)
        succinct.integer("bit_length", minimum=1, maximum=32)
        succinct.text("name_prefix")


def _is_plain_target(entry: Any) -> bool:
    """Whether a target has a length, a SHA-256 and nothing else: most of them, and there may be very many."""
    if type(entry) is not dict or entry.keys() != {"hashes", "length"}:
        return False
    length, hashes = entry["length"], entry["hashes"]
    if type(length) is not int or length < 0 or type(hashes) is not dict or hashes.keys() != {"sha256"}:
        return False
    digest = hashes["sha256"]
    return type(digest) is str and _LOWER_HEX.fullmatch(digest) is not None


def _keys_shape(keys: Fields) -> None:
    for _, key in keys.items():
        key.text("keytype")
        key.text("scheme")
        key.table("keyval")


def _role_shape(role: Fields) -> None:
    keyids = role.texts("keyids")
    if len(set(keyids)) != len(keyids):
        role.fail("keyids", "lists a keyid twice")
    role.integer("threshold", minimum=1)


def _meta_shape(entry: Fields) -> None:
    entry.integer("version", minimum=1)
    entry.optional("length", entry.integer)
    if "hashes" in entry:
        _hashes_shape(entry.table("hashes"))


def _hashes_shape(hashes: Fields) -> None:
    if not hashes.names():
        raise DocumentError(hashes.path, "must name at least one digest")
    for algorithm in hashes.names():
        hashes.text(algorithm, pattern="[0-9a-f]+", expected="lower-case hexadecimal digits")


_SHAPES = {
    ROOT.type: _root_shape,
    TIMESTAMP.type: _timestamp_shape,
    SNAPSHOT.type: _snapshot_shape,
    TARGETS.type: _targets_shape,
}
