"""Signing bins: new versions of some of them, committed together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from securesystemslib.signer import Signer

from kedge_repo.bins.binfile import bin_payload, read_bin, with_signatures
from kedge_repo.bins.index import BinIndex, bin_file, bin_name
from kedge_repo.bins.store import BinStore, Delegation, signers_of

__all__ = ["sign_bins"]


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
