"""The online roles: snapshot and timestamp, signed by keys that a machine may use by itself.

A new snapshot is made when a role's version changed, when the one there is no longer reaches root's threshold, or when
it is inside its signing period; else it is kept. A timestamp is made each time. It carries the signed field
``x-kedge-issued``: the time of issue, which TUF itself does not sign.

A snapshot carries ``x-kedge-former-until``: when the last timestamp that names an earlier one expires. From then on no
client can ask for what only earlier snapshots name, and :mod:`kedge_repo.publish.prune` may drop it.

Keys that the root before lists may sign as well: while an online key changes, files signed by the old *and* the new key
hold under both roots, and no client is refused in between.

Both list length and SHA-256 of what they name: a mirror cannot mix even bytes that differ in signatures only. Hash bins
(:mod:`kedge_repo.bins`) are the exception: of each there is the version only, as of 16,384 of them a snapshot names
nothing else that is worth its length. Bins are kept here too: signed again when the role that delegates to them has
changed, and before they expire.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.metadata import MetaFile, Root, Snapshot, Timestamp

from kedge.document import format_time
from kedge.errors import ExpiredError, InputError, Reason, Refusal, ThresholdError
from kedge.metadata import Parsed, count_signatures, parse, require_threshold
from kedge_repo.bins import BinIndex, BinStore, bin_delegations, keep_bins
from kedge_repo.bins.index import bin_file
from kedge_repo.bins.keep import KeptBins
from kedge_repo.payload import canonical, file_name, write_metadata
from kedge_repo.policy import Policy
from kedge_repo.publickey import fingerprint
from kedge_repo.signed import FORMER_FIELD, SignedMetadata
from kedge_repo.workspace import Workspace

__all__ = ["ISSUED_FIELD", "Online", "online_due", "online_keyholders", "sign_online"]

ISSUED_FIELD = "x-kedge-issued"
_COMPACT_ABOVE_BYTES = 16_384  # a snapshot with bins is for machines only


@dataclass(frozen=True, slots=True, kw_only=True)
class Online:
    """What was signed: the snapshot's version and whether it is new, the timestamp's version, how long it is valid.

    ``bins`` is how many bins were signed again, ``bins_due`` how many are due and were left to who holds their keys.
    """

    snapshot: int
    snapshot_is_new: bool
    timestamp: int
    expires: datetime
    bins: int = 0
    bins_due: int = 0


def sign_online(workspace: Workspace, signers: Sequence[Signer], *, now: datetime, at_least: int = 1) -> Online:
    """Sign a timestamp, and a snapshot where one is needed, over the workspace's signed metadata.

    ``at_least`` is the lowest version that either may have: above names that a thief has taken in the destination.

    Raises:
        InputError: nothing is signed yet.
        ExpiredError: a role has expired, and no client would take what is signed now.
        ThresholdError: the signers do not reach root's threshold for the role.
        VerificationError: the signed metadata does not verify.
        StoreError: the workspace cannot be locked or written.
    """
    with workspace.lock():
        signed = workspace.signed()
        policy = workspace.policy()
        if signed.root is None or signed.targets is None:
            raise InputError("metadata/1.root.json: is missing", hint="sign and merge the first ceremony")
        signed.verify()
        _require_unexpired(signed, now)
        bins = _kept_bins(workspace, signed, policy, signers, now)
        meta = _meta(signed, [kept.index for _, kept in bins])
        snapshot = _kept_snapshot(signed, policy, meta, now)
        made = snapshot is None or snapshot.signed.version < at_least
        if snapshot is None or made:
            snapshot = _new_snapshot(signed, policy, meta, signers, now, at_least)
        timestamp = _new_timestamp(signed, snapshot, policy, signers, now, at_least)
        if made:
            workspace.write_metadata(file_name("snapshot", snapshot.signed.version), snapshot.data)
        workspace.write_timestamp(timestamp.data)
        for store, kept in bins if made else ():
            store.drop_all_but(bin_file(version, name) for name, version in kept.index.listed())
    return Online(
        bins=sum(kept.signed for _, kept in bins),
        bins_due=sum(kept.due for _, kept in bins),
        snapshot=snapshot.signed.version,
        snapshot_is_new=made,
        timestamp=timestamp.signed.version,
        expires=timestamp.signed.expires,
    )


def online_due(workspace: Workspace, *, now: datetime) -> str | None:
    """Why something must be signed online, in words; None where nothing is due.

    Raises:
        InputError: nothing is signed yet, or the workspace cannot be read.
    """
    signed, policy = workspace.signed(), workspace.policy()
    if signed.timestamp is None or signed.snapshot is None or signed.root is None:
        return "there is no timestamp yet"
    for role, parsed in (("timestamp", signed.timestamp), ("snapshot", signed.snapshot)):
        if now >= parsed.signed.expires - policy.roles[role].signing:
            return f"the {role} expires on {format_time(parsed.signed.expires)}"
        if not count_signatures(signed.root.signed, role, parsed).met:
            return f"the keys of {role} have changed"
    if signed.timestamp.signed.snapshot_meta.version != signed.snapshot.signed.version:
        return "the timestamp names another snapshot"
    for role, delegation in bin_delegations(signed, policy).items():
        index = BinStore(workspace=workspace, role=role).index()
        if index is None or index.delegation_sha256 != delegation.sha256:
            return f"the bins of {role} are not signed as it asks now"
        if index.first_expiry() <= now + delegation.policy.signing:
            return f"bins of {role} expire on {format_time(index.first_expiry())}"
    listed = {name: entry.version for name, entry in signed.snapshot.signed.meta.items()}
    changed = [
        name
        for name, entry in _meta(signed, _indexes(workspace, signed, policy)).items()
        if listed.get(name) != entry.version
    ]
    return f"{changed[0].removesuffix('.json')} has changed" if changed else None


def _indexes(workspace: Workspace, signed: SignedMetadata, policy: Policy) -> list[BinIndex]:
    indexes = (BinStore(workspace=workspace, role=role).index() for role in bin_delegations(signed, policy))
    return [index for index in indexes if index is not None]


def online_keyholders(workspace: Workspace) -> tuple[str, ...]:
    """The keyholders of snapshot, timestamp and bins, by the policy.

    Raises:
        InputError: the policy cannot be read.
    """
    policy = workspace.policy()
    roles = [policy.roles["snapshot"], policy.roles["timestamp"]]
    roles += [delegation.bins for delegation in policy.delegations.values() if delegation.bins is not None]
    return tuple(dict.fromkeys(holder for role in roles for holder in role.keyholders))


def _require_unexpired(signed: SignedMetadata, now: datetime) -> None:
    for name, parsed in signed.everything().items():
        if name in {"snapshot", "timestamp"} or not parsed.signed.is_expired(now):
            continue
        refusal = Refusal(reason=Reason.EXPIRED, file=parsed.file, role=name, expected=format_time(now))
        raise ExpiredError(
            f"{parsed.file}: expired on {format_time(parsed.signed.expires)}, so no client would follow",
            refusal=refusal,
            hint=f"renew it with kedge-repo renew {name}",
        )


def _kept_bins(
    workspace: Workspace, signed: SignedMetadata, policy: Policy, signers: Sequence[Signer], now: datetime
) -> list[tuple[BinStore, KeptBins]]:
    found = bin_delegations(signed, policy).values()
    stores = [(BinStore(workspace=workspace, role=delegation.role), delegation) for delegation in found]
    return [(store, keep_bins(store, delegation, signers, now=now)) for store, delegation in stores]


def _meta(signed: SignedMetadata, bins: Sequence[BinIndex]) -> dict[str, MetaFile]:
    roles = {name: parsed for name, parsed in signed.everything().items() if name not in _NOT_IN_SNAPSHOT}
    meta = {
        f"{name}.json": MetaFile.from_data(parsed.signed.version, parsed.data, ["sha256"])
        for name, parsed in roles.items()
    }
    for index in bins:
        meta.update((f"{name}.json", MetaFile(version)) for name, version in index.listed())
    return meta


_NOT_IN_SNAPSHOT = frozenset({"root", "snapshot", "timestamp"})


def _kept_snapshot(
    signed: SignedMetadata, policy: Policy, meta: Mapping[str, MetaFile], now: datetime
) -> Parsed[Snapshot] | None:
    held = signed.snapshot
    if held is None or signed.root is None:
        return None
    current = held.signed.meta == meta
    signing_due = now >= held.signed.expires - policy.roles["snapshot"].signing
    counted = count_signatures(signed.root.signed, "snapshot", held).met
    # The last timestamp that names a snapshot lasts longest, so that the next snapshot can say how long that is.
    last = signed.timestamp
    longest = last is None or last.signed.expires <= now.replace(microsecond=0) + policy.roles["timestamp"].expiry
    return held if current and counted and longest and not signing_due else None


def _new_snapshot(
    signed: SignedMetadata,
    policy: Policy,
    meta: dict[str, MetaFile],
    signers: Sequence[Signer],
    now: datetime,
    at_least: int,
) -> Parsed[Snapshot]:
    version = max(at_least, signed.snapshot.signed.version + 1 if signed.snapshot else 1)
    expires = now.replace(microsecond=0) + policy.roles["snapshot"].expiry
    snapshot = Snapshot(version=version, expires=expires, meta=meta, unrecognized_fields=_former(signed))
    data = _sign(signed, snapshot, signers)
    parsed = parse(data, Snapshot, file=file_name("snapshot", version))
    require_threshold(_root(signed), "snapshot", parsed)
    return parsed


def _former(signed: SignedMetadata) -> dict[str, Any]:
    """Until when a client may hold a timestamp that names an earlier snapshot."""
    times = [format_time(signed.timestamp.signed.expires)] if signed.timestamp is not None else []
    held = signed.snapshot.signed.unrecognized_fields.get(FORMER_FIELD) if signed.snapshot is not None else None
    return {FORMER_FIELD: max([*times, *([held] if isinstance(held, str) else [])])} if times else {}


def _new_timestamp(
    signed: SignedMetadata,
    snapshot: Parsed[Snapshot],
    policy: Policy,
    signers: Sequence[Signer],
    now: datetime,
    at_least: int,
) -> Parsed[Timestamp]:
    version = max(at_least, signed.timestamp.signed.version + 1 if signed.timestamp else 1)
    issued = now.replace(microsecond=0)
    timestamp = Timestamp(
        version=version,
        expires=issued + policy.roles["timestamp"].expiry,
        snapshot_meta=MetaFile.from_data(snapshot.signed.version, snapshot.data, ["sha256"]),
        unrecognized_fields={ISSUED_FIELD: format_time(issued)},
    )
    data = _sign(signed, timestamp, signers)
    parsed = parse(data, Timestamp, file="timestamp.json")
    require_threshold(_root(signed), "timestamp", parsed)
    return parsed


def _sign(signed: SignedMetadata, role: Snapshot | Timestamp, signers: Sequence[Signer]) -> bytes:
    root = _root(signed)
    listed = root.get_delegated_role(role.type)
    keyids = {fingerprint(root.get_key(keyid)): keyid for keyid in listed.keyids}
    by_mark = {fingerprint(signer.public_key): signer for signer in signers}
    if len(keyids.keys() & by_mark.keys()) < listed.threshold:
        raise ThresholdError(
            f"{role.type}: root version {root.version} asks for {listed.threshold} of the keys "
            f"{', '.join(mark[:16] for mark in keyids)}; {len(keyids.keys() & by_mark.keys())} of them were given",
            hint="name the online keys with --key",
        )
    earlier = signed.roots[-2].signed if len(signed.roots) > 1 else root
    before = {fingerprint(earlier.get_key(keyid)): keyid for keyid in earlier.get_delegated_role(role.type).keyids}
    usable = {keyid: by_mark[mark] for mark, keyid in {**before, **keyids}.items() if mark in by_mark}
    value: dict[str, Any] = role.to_dict()
    payload = canonical(role)
    signatures = {keyid: signer.sign(payload).signature for keyid, signer in usable.items()}
    return write_metadata(value, signatures, compact=len(payload) > _COMPACT_ABOVE_BYTES)


def _root(signed: SignedMetadata) -> Root:
    if signed.root is None:
        raise InputError("metadata/1.root.json: is missing")
    return signed.root.signed
