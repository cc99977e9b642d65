"""Changing what is in the bins: any number of targets at once, read as a stream, committed in one step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

from securesystemslib.signer import Signer
from tuf.api.metadata import Targets

from kedge.errors import InputError
from kedge_repo.bins.belong import belonging
from kedge_repo.bins.binfile import require_each_once
from kedge_repo.bins.bucket import BUFFERED_LINES, Buckets, bucketed
from kedge_repo.bins.index import BinIndex
from kedge_repo.bins.keep import keep_bins
from kedge_repo.bins.lines import REMOVED, Batch, path_of, removals
from kedge_repo.bins.signing import sign_bins
from kedge_repo.bins.store import BinStore, Delegation, bin_delegations, signers_of
from kedge_repo.workspace import Workspace

__all__ = ["BinsUpdate", "require_bins", "update_bins"]


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
    bounded by ``buffered_lines``. Snapshot and timestamp follow with :func:`kedge_repo.online.sign_online`.

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
