"""What bins need without any change of their targets: the first ones, new keys, another number of bins, a new expiry.

The commit is one step in each case, and the snapshot that follows shows clients the role and its bins together: none of
them sees bins that the role of its snapshot does not vouch for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from securesystemslib.signer import Signer
from tuf.api.metadata import Targets

from kedge.document import format_time
from kedge.errors import ExpiredError, Reason, Refusal, ThresholdError, VerificationError
from kedge_repo.bins.bucket import Buckets, bucketed
from kedge_repo.bins.index import BinIndex
from kedge_repo.bins.lines import Batch, path_of
from kedge_repo.bins.signing import sign_bins
from kedge_repo.bins.store import BinStore, Delegation, signers_of

__all__ = ["KeptBins", "keep_bins"]


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
