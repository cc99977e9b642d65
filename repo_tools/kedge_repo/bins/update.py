"""Changing what is in the bins: any number of targets at once, read as a stream, committed in one step.

Whether a client that looks a path up comes to the role that is to hold it.

What ``targets`` delegates by plain path patterns is put into one regular expression, for there may be millions of
paths to ask about. It says what TUF says (§4.5): a pattern has as many parts as the path, and ``*`` stands for
anything in one of them.

Lines sorted into bins, in memory that does not grow with their number.

What a buffer holds is written out as a *run* whenever it is full: all bins in order, one after the other. A bin's lines
are then its parts of all runs together. A run is written in one go and read a bin at a time, so that ten million lines
cost the disk what they weigh twice.

Signing bins: new versions of some of them, committed together.

What bins need without any change of their targets: the first ones, new keys, another number of bins, a new expiry.

The commit is one step in each case, and the snapshot that follows shows clients the role and its bins together: none of
them sees bins that the role of its snapshot does not vouch for.
"""

from __future__ import annotations

import hashlib
import operator
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from securesystemslib.signer import Signer
from tuf.api.metadata import DelegatedRole, Targets

from kedge.documents import format_time
from kedge.errors import (
    ExpiredError,
    InputError,
    Reason,
    Refusal,
    StoreError,
    ThresholdError,
    VerificationError,
)
from kedge_repo.bins.lines import REMOVED, Batch, path_of, removals
from kedge_repo.bins.store import (
    BinIndex,
    BinStore,
    Delegation,
    bin_delegations,
    bin_file,
    bin_name,
    bin_payload,
    read_bin,
    require_each_once,
    signers_of,
    with_signatures,
)
from kedge_repo.workspace import Workspace


def belonging(batches: Iterable[Batch], targets: Targets, role: str) -> Iterator[Batch]:
    """The same batches, if every path in them belongs to ``role`` by the delegations of ``targets``.

    Raises:
        InputError: one does not; no client would find it.
    """
    pattern = _rule(targets, role)
    for batch in batches:
        paths = [path for _, path in batch]
        # All at once: a path holds no line feed, and no part of the pattern lets one stand for anything.
        if pattern is None or pattern.fullmatch(b"\n".join(paths)) is None:
            path = next((path for path in paths if _asked(targets, path.decode()) != role), None)
            if path is not None:
                raise InputError(
                    f"target {path.decode()}: targets version {targets.version} leads no client for it to {role}",
                    hint=f"name the paths that belong to {role} with kedge-repo delegate {role} --path PATTERN",
                )
        yield batch


def _rule(targets: Targets, role: str) -> re.Pattern[bytes] | None:
    """What any number of paths, a line each, all match if they belong to ``role``; None if that takes asking."""
    delegations = targets.delegations
    listed = (delegations.roles if delegations is not None else None) or {}
    before = list(listed)[: list(listed).index(role)] if role in listed else []
    own, earlier = _pattern([listed[role]] if role in listed else []), _pattern([listed[name] for name in before])
    if own is None or earlier is None:
        return None
    one = rb"(?!(?:%b)(?:\n|\Z))(?:%b)" % (earlier, own)
    return re.compile(rb"(?:%b\n)*+%b" % (one, one))


def _asked(targets: Targets, path: str) -> str:
    delegations = targets.delegations
    return next((name for name, _ in delegations.get_roles_for_target(path)), "") if delegations is not None else ""


def _pattern(roles: Iterable[DelegatedRole]) -> bytes | None:
    """All that ``roles`` are delegated; None where it takes more than ``*`` to say it."""
    texts: list[str] = []
    for role in roles:
        if role.paths is None or any(set(path) & set("?[") for path in role.paths):
            return None
        texts += [re.escape(path).replace(r"\*", r"[^/\n]*") for path in role.paths]
    return "|".join(texts).encode() if texts else b"(?!)"


BUFFERED_LINES = 400_000


@contextmanager
def bucketed(
    batches: Iterable[Batch], bit_length: int, *, folder: Path, buffered_lines: int = BUFFERED_LINES
) -> Iterator[Buckets]:
    """Sort all of ``batches`` into bins; runs are temporary files in ``folder`` that nobody else sees.

    Raises:
        StoreError: the disk refused.
    """
    with ExitStack() as files:
        buckets = Buckets(bit_length=bit_length, buffer=[[] for _ in range(1 << bit_length)])
        buffered = 0
        for batch in batches:
            _fill(buckets.buffer, batch, bit_length)
            buffered += len(batch)
            if buffered >= buffered_lines:
                buckets.runs.append(_run(buckets.buffer, folder, files))
                buffered = 0
        yield buckets


def bin_number(path: bytes, bit_length: int) -> int:
    """Which bin a target path belongs to, as TAP 15 says: the leftmost bits of its SHA-256."""
    return int.from_bytes(hashlib.sha256(path).digest()[:4]) >> (32 - bit_length)


@dataclass(frozen=True, slots=True, kw_only=True)
class Buckets:
    """Lines by bin; valid inside :func:`bucketed`."""

    bit_length: int
    buffer: list[list[bytes]]
    runs: list[_Run] = field(default_factory=list)

    def touched(self) -> Iterator[int]:
        """The numbers of the bins that lines fell into, in order."""
        for number in range(1 << self.bit_length):
            if self.buffer[number] or any(run.ends[number] > run.start(number) for run in self.runs):
                yield number

    def lines(self, number: int) -> list[bytes]:
        """The lines of a bin, in the order of their paths, equal ones once."""
        found = list(self.buffer[number])
        for run in self.runs:
            found += run.lines(number)
        found.sort()
        return sorted(set(found)) if any(map(operator.eq, found, found[1:])) else found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    file: BinaryIO
    ends: list[int]

    def start(self, number: int) -> int:
        return self.ends[number - 1] if number else 0

    def lines(self, number: int) -> list[bytes]:
        start = self.start(number)
        return os.pread(self.file.fileno(), self.ends[number] - start, start).splitlines()


def _fill(buffer: list[list[bytes]], batch: Batch, bit_length: int) -> None:
    shift, sha256, from_bytes = 32 - bit_length, hashlib.sha256, int.from_bytes
    for line, path in batch:
        buffer[from_bytes(sha256(path).digest()[:4]) >> shift].append(line)


def _run(buffer: list[list[bytes]], folder: Path, files: ExitStack) -> _Run:
    try:
        file = files.enter_context(tempfile.TemporaryFile(dir=folder))  # noqa: SIM115 the stack closes it
        return _written(file, buffer)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {(error.strerror or str(error)).lower()}") from error


def _written(file: BinaryIO, buffer: list[list[bytes]]) -> _Run:
    """Write the buffer out and empty it."""
    ends: list[int] = []
    end = 0
    for lines in buffer:
        if lines:
            lines.append(b"")
            end += file.write(b"\n".join(lines))
            lines.clear()
        ends.append(end)
    file.flush()
    return _Run(file=file, ends=ends)


def sign_bins(
    store: BinStore,
    delegation: Delegation,
    index: BinIndex | None,
    changed: Iterable[tuple[int, list[bytes]]],
    signers: Sequence[Signer],
    *,
    now: datetime,
) -> tuple[BinIndex, int]:
    """Sign a new version of each bin in ``changed`` (number, sorted lines), and commit them; ``index`` is what was.

    Without an index, or with one of other bins, ``changed`` must give every bin. The first is read back and verified
    before anything is committed. Returns the new index, and how many bins were signed.

    Raises:
        ThresholdError: the signers do not reach the threshold; nothing was written.
        InputError: ``changed`` found a fault; nothing counts.
        VerificationError: a signer signs otherwise than its key verifies; nothing counts.
        StoreError: the disk refused.
    """
    rows = _Rows.after(index, delegation)
    files = _signed(rows, delegation, changed, signers, now)
    count = store.write(files)
    made = rows.index(delegation)
    if count or index is None or index.delegation_sha256 != made.delegation_sha256:
        store.commit(made)
    return made, count


@dataclass(slots=True, kw_only=True)
class _Rows:
    """The index as it grows."""

    versions: list[int]
    targets: list[int]
    expires: list[int]
    former: dict[str, int]

    @classmethod
    def after(cls, index: BinIndex | None, delegation: Delegation) -> _Rows:
        count = delegation.succinct.number_of_bins
        if index is not None and _same_bins(index, delegation):
            return cls(
                versions=list(index.versions),
                targets=list(index.targets),
                expires=list(index.expires),
                former=dict(index.former),
            )
        former = {} if index is None else dict(index.listed())
        names = (bin_name(delegation.succinct.name_prefix, delegation.succinct.bit_length, n) for n in range(count))
        return cls(
            versions=[former.pop(name, 0) for name in names], targets=[0] * count, expires=[0] * count, former=former
        )

    def index(self, delegation: Delegation) -> BinIndex:
        return BinIndex(
            prefix=delegation.succinct.name_prefix,
            bit_length=delegation.succinct.bit_length,
            delegation_sha256=delegation.sha256,
            versions=tuple(self.versions),
            targets=tuple(self.targets),
            expires=tuple(self.expires),
            former=self.former,
        )


def _same_bins(index: BinIndex, delegation: Delegation) -> bool:
    return (index.prefix, index.bit_length) == (delegation.succinct.name_prefix, delegation.succinct.bit_length)


def _signed(
    rows: _Rows,
    delegation: Delegation,
    changed: Iterable[tuple[int, list[bytes]]],
    signers: Sequence[Signer],
    now: datetime,
) -> Iterator[tuple[str, bytes]]:
    usable = signers_of(delegation, signers)
    expires = now.replace(microsecond=0) + delegation.policy.expiry
    second = int(expires.timestamp())
    read_back = False
    for number, lines in changed:
        version = rows.versions[number] + 1
        payload = bin_payload(lines, version=version, expires=expires)
        data = with_signatures(payload, {keyid: signer.sign(payload).signature for keyid, signer in usable.items()})
        name = bin_name(delegation.succinct.name_prefix, delegation.succinct.bit_length, number)
        file = bin_file(version, name)
        if not read_back:
            read_bin(data, name=name, file=file, delegator=delegation.delegator)
            read_back = True
        rows.versions[number], rows.targets[number], rows.expires[number] = version, len(lines), second
        yield file, data


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptBins:
    """The index as it is now, how many bins were signed, and how many are due but were left to others to sign."""

    index: BinIndex
    signed: int
    due: int = 0


def keep_bins(store: BinStore, delegation: Delegation, signers: Sequence[Signer], *, now: datetime) -> KeptBins:
    """Sign what must be signed again, so that every bin stands under ``delegation`` and none is about to expire.

    Bins that are merely due are left alone where ``signers`` cannot sign them. The workspace's lock must be held.

    Raises:
        ThresholdError: bins must be signed, and the signers do not reach the threshold.
        ExpiredError: bins have expired, and the signers cannot sign them.
        InputError: a bin cannot be read, or the delegation before is not known.
        VerificationError: a bin is not signed as the delegation before asked.
        StoreError: the disk refused.
    """
    index = store.index()
    if index is None:
        empty: Iterator[tuple[int, list[bytes]]] = ((n, []) for n in range(delegation.succinct.number_of_bins))
        return _kept(sign_bins(store, delegation, None, empty, signers, now=now))
    if index.delegation_sha256 != delegation.sha256:
        before = store.delegator_of(index)
        if (index.prefix, index.bit_length) != (delegation.succinct.name_prefix, delegation.succinct.bit_length):
            return _rebinned(store, delegation, index, before, signers, now)
        unsigned = _unsigned(store, delegation, index, before)
        index, count = sign_bins(store, delegation, index, unsigned, signers, now=now)
        return KeptBins(index=index, signed=count)
    due = [n for n, second in enumerate(index.expires) if second <= (now + delegation.policy.signing).timestamp()]
    if not due or not _may_sign(delegation, signers, index, due, now):
        return KeptBins(index=index, signed=0, due=len(due))
    again = ((number, store.bin(index, number, delegation.delegator).lines) for number in due)
    return _kept(sign_bins(store, delegation, index, again, signers, now=now))


def _kept(made: tuple[BinIndex, int]) -> KeptBins:
    return KeptBins(index=made[0], signed=made[1])


def _unsigned(
    store: BinStore, delegation: Delegation, index: BinIndex, before: Targets
) -> Iterator[tuple[int, list[bytes]]]:
    """The bins that do not hold under the delegation of now; each must hold under the one before."""
    for number in range(1 << index.bit_length):
        try:
            store.bin(index, number, delegation.delegator)
        except VerificationError:
            yield number, store.bin(index, number, before).lines


def _rebinned(
    store: BinStore, delegation: Delegation, index: BinIndex, before: Targets, signers: Sequence[Signer], now: datetime
) -> KeptBins:
    def batches() -> Iterator[Batch]:
        for number in range(1 << index.bit_length):
            yield [(line, path_of(line)) for line in store.bin(index, number, before).lines]

    with bucketed(batches(), delegation.succinct.bit_length, folder=store.folder) as buckets:
        return _kept(sign_bins(store, delegation, index, _every(buckets), signers, now=now))


def _every(buckets: Buckets) -> Iterator[tuple[int, list[bytes]]]:
    return ((number, buckets.lines(number)) for number in range(1 << buckets.bit_length))


def _may_sign(
    delegation: Delegation, signers: Sequence[Signer], index: BinIndex, due: list[int], now: datetime
) -> bool:
    expired = [number for number in due if index.expires[number] <= now.timestamp()]
    try:
        signers_of(delegation, signers)
    except ThresholdError as error:
        if not expired:
            return False
        name = index.file(expired[0])
        refusal = Refusal(reason=Reason.EXPIRED, file=name, role=index.name(expired[0]), expected=format_time(now))
        raise ExpiredError(
            f"bins of {delegation.role}: {len(expired)} have expired, {name} among them, so no client would follow",
            refusal=refusal,
            hint="give kedge-repo online the keys of the bins",
        ) from error
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class BinsUpdate:
    """What a change came to: how many ``bins`` were signed, how many targets were added, changed and removed.

    ``targets`` is how many there are now.
    """

    bins: int
    added: int
    changed: int
    removed: int
    targets: int


def update_bins(
    workspace: Workspace,
    role: str,
    batches: Iterable[Batch],
    signers: Sequence[Signer],
    *,
    now: datetime,
    removed: Iterable[str] = (),
    replace: bool = False,
    buffered_lines: int = BUFFERED_LINES,
) -> BinsUpdate:
    """Add and replace targets in the bins of ``role``; with ``replace`` those that are not given are removed.

    A bin that would not change is not signed again, so that the same targets given twice change nothing. Memory is
    bounded by ``buffered_lines``. Snapshot and timestamp follow with :func:`kedge_repo.publish.online.sign_online`.

    Raises:
        InputError: the role delegates to no bins, a target stands there twice with other content, or its path belongs
            to another role; nothing counts.
        ThresholdError: the signers do not reach the threshold; nothing was written.
        VerificationError: the signed metadata, or a bin that changes, does not verify.
        StoreError: the workspace cannot be locked or written.
    """
    delegation, targets = require_bins(workspace, role)
    signers_of(delegation, signers)
    store = BinStore(workspace=workspace, role=role)
    store.folder.mkdir(parents=True, exist_ok=True)
    bit_length = delegation.succinct.bit_length
    everything = chain(removals(removed), belonging(batches, targets, role))
    with (
        bucketed(everything, bit_length, folder=store.folder, buffered_lines=buffered_lines) as buckets,
        workspace.lock(),
    ):
        again, targets_again = require_bins(workspace, role)
        if again.sha256 != delegation.sha256 or targets_again.version != targets.version:
            raise InputError(f"{role}: has changed while the targets were read", hint="run the command again")
        return _update(store, delegation, buckets, signers, now=now, replace=replace)


def require_bins(workspace: Workspace, role: str) -> tuple[Delegation, Targets]:
    """The delegation of ``role`` to its bins, as it is signed, and the targets role that delegates to ``role``.

    Raises:
        InputError: there is none.
        VerificationError: the signed metadata does not verify.
    """
    signed = workspace.signed(online=False)
    signed.verify()
    delegations = bin_delegations(signed, workspace.policy())
    if signed.targets is None or role not in delegations:
        raise InputError(
            f"{role}: delegates to no bins; there are {', '.join(delegations) or 'none'}",
            hint=f"begin with kedge-repo delegate {role} --bins-for N --bin-keyholder NAME, and merge the event",
        )
    return delegations[role], signed.targets.signed


def _update(
    store: BinStore,
    delegation: Delegation,
    buckets: Buckets,
    signers: Sequence[Signer],
    *,
    now: datetime,
    replace: bool,
) -> BinsUpdate:
    before = store.index()
    kept = 0
    if before is not None:
        made = keep_bins(store, delegation, signers, now=now)
        before, kept = made.index, made.signed
    counts = _Counts()
    changed = _changed(store, delegation, before, buckets, counts, replace=replace)
    index, count = sign_bins(store, delegation, before, changed, signers, now=now)
    return BinsUpdate(
        bins=kept + count, added=counts.added, changed=counts.changed, removed=counts.removed, targets=index.total
    )


@dataclass(slots=True)
class _Counts:
    added: int = 0
    changed: int = 0
    removed: int = 0


def _changed(
    store: BinStore,
    delegation: Delegation,
    index: BinIndex | None,
    buckets: Buckets,
    counts: _Counts,
    *,
    replace: bool,
) -> Iterator[tuple[int, list[bytes]]]:
    numbers = range(1 << buckets.bit_length) if replace or index is None else buckets.touched()
    for number in numbers:
        given = buckets.lines(number)
        if index is None:
            lines = [line for line in given if not line.endswith(_END)]
            counts.added += len(lines)
            yield number, lines
            continue
        held = store.bin(index, number, delegation.delegator).lines if index.targets[number] else []
        lines = _merged(held, given, counts, replace=replace)
        if lines != held:
            yield number, lines


_END = b" " + REMOVED


def _merged(held: list[bytes], given: list[bytes], counts: _Counts, *, replace: bool) -> list[bytes]:
    """The lines that a bin holds after ``given``, in order, counted as they come."""
    require_each_once([path_of(line) for line in given])
    before = {path_of(line): line for line in held}
    after = {} if replace else dict(before)
    for line in given:
        path = path_of(line)
        if line.endswith(_END):
            after.pop(path, None)
        else:
            after[path] = line
    counts.added += len(after.keys() - before.keys())
    counts.removed += len(before.keys() - after.keys())
    counts.changed += sum(before[path] != line for path, line in after.items() if path in before)
    return sorted(after.values())
