"""A role's bins in the workspace: their files, their index, and who signs them.

::

    bins/<role>/index.json                   kedge_repo.bins.store
    bins/<role>/12.packages-00ff.json        signed bins: the version that the index names, and those before it until
                                             no snapshot of this workspace names them any more

The delegation stands in the role's own metadata, which its keyholders signed; how long a bin lasts, in the policy.

One bin's file, written and read.

It is canonical JSON throughout, so that a client can see that what it received is the canonical form already.

``bins/<role>/index.json``: which version of each bin counts. Replacing it is how a change is committed.

A bin's file is written before the index names it, under a name that was never published; until then it counts nothing,
and the next change may write over it. Beside the versions stands what must be known of every bin without reading it.

How many bins: the least power of two that leaves at most 150 targets a bin on average, and at most 2 ** 14 bins.

A bin is what a client downloads for one target, so that more bins cost it less there; but the snapshot names every bin
(35 bytes each, 573,440 bytes for 2 ** 14), and each client downloads it anew after every change. Between the two stands
PEP 458's choice, 2 ** 14 bins for 2,273,539 targets (139 a bin), which this rule reaches. Above that the bins grow and
the snapshot does not. Whoever wants more may have 2 ** 15, for python-tuf reads a snapshot of at most 2,000,000 bytes.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice, pairwise
from pathlib import Path

from securesystemslib.signer import Signer
from tuf.api.metadata import SPECIFICATION_VERSION, Delegations, SuccinctRoles, Targets

from kedge.documents import DocumentError, Fields, blame_user, format_time, load_json
from kedge.errors import InputError, StoreError, ThresholdError, VerificationError
from kedge.tuf import parse, require_threshold
from kedge_repo.workspace import (
    BinsPolicy,
    Policy,
    SignedMetadata,
    Workspace,
    canonical_json,
    check_name,
    digest,
    fingerprint,
    read_file,
    replace_file,
)

_SPEC_VERSION = ".".join(SPECIFICATION_VERSION).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBin:
    """A bin as it was signed: its version, its expiry, its targets as lines in order."""

    version: int
    expires: datetime
    lines: list[bytes]


def bin_payload(lines: Iterable[bytes], *, version: int, expires: datetime) -> bytes:
    """The canonical bytes of a bin, to be signed; ``lines`` are sorted by path.

    Raises:
        InputError: a path stands among them twice.
    """
    return b'{"_type":"targets","expires":"%b","spec_version":"%b","targets":{%b},"version":%d}' % (
        format_time(expires).encode(),
        _SPEC_VERSION,
        b",".join(_entries(lines)),
        version,
    )


def with_signatures(payload: bytes, signatures: Mapping[str, str]) -> bytes:
    """The file: the payload and its signatures (hexadecimal, by keyid)."""
    listed = canonical_json([{"keyid": keyid, "sig": value} for keyid, value in signatures.items()])
    return b'{"signatures":%b,"signed":%b}' % (listed.encode(), payload)


def read_bin(data: bytes, *, name: str, file: str, delegator: Targets) -> HeldBin:
    """Read a bin back; it must be signed as ``delegator`` asks.

    Raises:
        InputError: it is no such file.
        VerificationError: it is not signed by the threshold of ``delegator``'s keys.
    """
    try:
        parsed = parse(data, Targets, file=file)
    except VerificationError as error:
        raise InputError(error.message) from error
    require_threshold(delegator, name, parsed)
    lines = [_line(path, entry) for path, entry in json.loads(parsed.payload)["targets"].items()]
    return HeldBin(version=parsed.signed.version, expires=parsed.signed.expires, lines=sorted(lines))


def _entries(lines: Iterable[bytes]) -> list[bytes]:
    fields = [line.split(b" ", 3) for line in lines]
    require_each_once([parts[0] for parts in fields])
    return [
        b'"%b":{"hashes":{"sha256":"%b"},"length":%b}' % (parts[0], parts[2], parts[1]) if len(parts) == 3
        else b'"%b":{"custom":%b,"hashes":{"sha256":"%b"},"length":%b}' % (parts[0], parts[3], parts[2], parts[1])
        for parts in fields
    ]  # fmt: skip


def require_each_once(paths: list[bytes]) -> None:
    """Check that no path stands among ``paths``, which are in order, twice.

    Raises:
        InputError: one does.
    """
    if len(set(paths)) != len(paths):
        path = next(path for path, after in pairwise(paths) if path == after).decode()
        raise InputError(f"target {path}: stands among these targets twice, with other content")


def _line(path: str, entry: dict[str, object]) -> bytes:
    hashes = entry["hashes"]
    if not isinstance(hashes, dict) or "sha256" not in hashes:
        raise DocumentError(f"targets.{path}", "has no sha256")
    custom = f" {canonical_json(entry['custom'])}" if "custom" in entry else ""
    return f"{path} {entry['length']} {hashes['sha256']}{custom}".encode()


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


TARGETS_PER_BIN = 150
_MOST_BY_RULE = 14


def bit_length_for(targets: int) -> int:
    """The number of bits that tell the bin of a path apart, by the rule, in a role of so many ``targets``."""
    bins = -(-targets // TARGETS_PER_BIN)
    return min(max(1, (bins - 1).bit_length()), _MOST_BY_RULE)


INDEX_FILE = "index.json"
_MAX_INDEX_BYTES = 16_000_000
_WRITERS = 2
_WAITING = 4
_AT_ONCE = 16
_SYNCED_ALONE = 64  # so many files are brought to the disk one by one; more of them all at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegation:
    """What a role says of its bins, and what the policy says of them."""

    role: str
    delegator: Targets
    succinct: SuccinctRoles
    policy: BinsPolicy

    @property
    def sha256(self) -> str:
        """The digest of the delegation: keys, threshold, prefix and number of bins."""
        return delegation_sha256(self.delegator)


def bin_delegations(signed: SignedMetadata, policy: Policy) -> dict[str, Delegation]:
    """The roles that delegate to bins, by name.

    Raises:
        InputError: the policy does not speak of the bins of one.
    """
    found: dict[str, Delegation] = {}
    for role, parsed in signed.delegated.items():
        succinct = parsed.signed.delegations.succinct_roles if parsed.signed.delegations is not None else None
        if succinct is None:
            continue
        described = policy.delegations.get(role)
        if described is None or described.bins is None:
            raise InputError(f"kedge-repo.toml: delegations.{role}.bins: is missing, but {role} delegates to bins")
        found[role] = Delegation(role=role, delegator=parsed.signed, succinct=succinct, policy=described.bins)
    return found


def delegation_sha256(delegator: Targets) -> str:
    """The digest of what ``delegator`` delegates and to which keys."""
    delegations: Delegations | None = delegator.delegations
    return digest(canonical_json(delegations.to_dict() if delegations is not None else {}).encode())


def signers_of(delegation: Delegation, signers: Sequence[Signer]) -> Mapping[str, Signer]:
    """Those of ``signers`` that may sign the bins, by keyid.

    Raises:
        ThresholdError: they do not reach the threshold.
    """
    keys = {fingerprint(delegation.delegator.get_key(keyid)): keyid for keyid in delegation.succinct.keyids}
    given = {fingerprint(signer.public_key): signer for signer in signers}
    usable = {keyid: given[mark] for mark, keyid in keys.items() if mark in given}
    if len(usable) < delegation.succinct.threshold:
        raise ThresholdError(
            f"bins of {delegation.role}: {delegation.role} version {delegation.delegator.version} asks for "
            f"{delegation.succinct.threshold} of the keys {', '.join(mark[:16] for mark in keys)}; "
            f"{len(usable)} of them were given",
            hint="name the keys of the bins with --key",
        )
    return usable


@dataclass(frozen=True, slots=True, kw_only=True)
class BinStore:
    """The bins of ``role`` in ``workspace``; whoever writes holds the workspace's lock."""

    workspace: Workspace
    role: str

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self.workspace.root / "bins" / self.role

    def index(self) -> BinIndex | None:
        """Which versions count; None before the first bin was signed.

        Raises:
            InputError: the file cannot be read, or is no index.
        """
        path = self.folder / INDEX_FILE
        if not path.exists():
            return None
        data = read_file(path, what="index of bins", max_bytes=_MAX_INDEX_BYTES)
        with blame_user(f"bins/{self.role}/{INDEX_FILE}"):
            return BinIndex.from_bytes(data)

    def data(self, file: str) -> bytes:
        """The bytes of a bin's file.

        Raises:
            InputError: it cannot be read.
        """
        return read_file(self.folder / file, what="bin")

    def bin(self, index: BinIndex, number: int, delegator: Targets) -> HeldBin:
        """A bin, verified.

        Raises:
            InputError: it cannot be read, or is not the version that the index names.
            VerificationError: it is not signed as ``delegator`` asks.
        """
        file = index.file(number)
        found = read_bin(self.data(file), name=index.name(number), file=f"bins/{self.role}/{file}", delegator=delegator)
        if found.version != index.versions[number]:
            raise InputError(f"bins/{self.role}/{file}: is version {found.version}, which its name does not say")
        return found

    def delegator_of(self, index: BinIndex) -> Targets:
        """The version of the role under whose delegation the bins of ``index`` are signed, the newest such.

        Raises:
            InputError: the workspace does not hold it.
        """
        history = self.workspace.history(self.role)
        for version in sorted(history, reverse=True):
            delegator = parse(read_file(history[version]), Targets, file=history[version].name).signed
            if delegation_sha256(delegator) == index.delegation_sha256:
                return delegator
        raise InputError(
            f"bins/{self.role}/{INDEX_FILE}: delegation_sha256: no version of {self.role} in metadata/ delegates so"
        )

    def write(self, files: Iterable[tuple[str, bytes]]) -> int:
        """Put bins on the disk, under names that no index has named yet; how many there were is returned.

        Raises:
            StoreError: the disk refused.
        """
        count = 0
        waiting: deque[Future[None]] = deque()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with ThreadPoolExecutor(_WRITERS) as pool:  # the disk works while the next bin is made
                rest = iter(files)
                while some := list(islice(rest, _AT_ONCE)):
                    alone = count + len(some) <= _SYNCED_ALONE
                    waiting.append(pool.submit(_write_all, self.folder, some, sync=alone))
                    count += len(some)
                    if len(waiting) > _WAITING:
                        waiting.popleft().result()
                for written in waiting:
                    written.result()
            if count > _SYNCED_ALONE:
                os.sync()
        except OSError as error:
            raise StoreError(f"{self.folder}: cannot be written: {(error.strerror or str(error)).lower()}") from error
        return count

    def commit(self, index: BinIndex) -> None:
        """Let ``index`` count, whose files are on the disk.

        Raises:
            StoreError: the disk refused.
        """
        replace_file(self.folder / INDEX_FILE, index.to_bytes())

    def drop_all_but(self, files: Iterable[str]) -> None:
        """Remove the bins that nothing names any more.

        Raises:
            StoreError: the disk refused.
        """
        kept = {INDEX_FILE, *files}
        try:
            for entry in os.scandir(self.folder):
                if entry.name not in kept and not entry.name.startswith("."):
                    Path(entry.path).unlink()
        except OSError as error:
            raise StoreError(f"{self.folder}: cannot be cleared: {(error.strerror or str(error)).lower()}") from error


def _write_all(folder: Path, files: list[tuple[str, bytes]], *, sync: bool) -> None:
    for file, data in files:
        _write(folder / file, data, sync=sync)


def _write(path: Path, data: bytes, *, sync: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
