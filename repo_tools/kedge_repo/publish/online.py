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

``kedge-repo online`` as a job: snapshot and timestamp signed before they expire, published, and nothing done else.

For cron, a systemd timer or a CI schedule, and for whoever starts it twice or kills it anywhere. One run

1. takes up what is published, where the workspace comes from git and is older (:mod:`kedge_repo.publish.publish`);
2. signs, if anything is due: the timestamp is inside its signing period, a role or a bin has a newer version than the
   snapshot names, or a bin is about to expire;
3. publishes, if a destination does not show the workspace's timestamp.

What fails for want of a network or a disk is tried again after a pause; what came second to another publisher begins
again at 1; a snapshot whose name was taken by a publisher who died is signed again under the next version. An error
that is left ends the run, with what was true before still true: no client sees half of anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.metadata import MetaFile, Root, Snapshot, Timestamp

from kedge.documents import format_time, parse_time
from kedge.errors import ExpiredError, InputError, KedgeError, Reason, Refusal, StoreError, ThresholdError
from kedge.tuf import Parsed, count_signatures, parse, require_threshold
from kedge_repo.bins import BinIndex, BinStore, KeptBins, bin_delegations, bin_file, keep_bins
from kedge_repo.publish.destination import TIMESTAMP_PATH, BehindError, Destination, TakenError
from kedge_repo.publish.publish import adopt, publish_to
from kedge_repo.publish.replay import READERS, Reader
from kedge_repo.workspace import (
    FORMER_FIELD,
    Policy,
    SignedMetadata,
    Workspace,
    canonical,
    file_name,
    fingerprint,
    write_metadata,
)

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


def sign_online(
    workspace: Workspace,
    signers: Sequence[Signer],
    *,
    now: datetime,
    at_least: int = 1,
    accept_clock_behind: bool = False,
) -> Online:
    """Sign a timestamp, and a snapshot where one is needed, over the workspace's signed metadata.

    ``at_least`` is the lowest version that either may have: above names that a thief has taken in the destination.
    ``accept_clock_behind``: the clock was ahead when the last timestamp was signed, and is right now.

    Raises:
        InputError: nothing is signed yet.
        ExpiredError: a role has expired, and no client would take what is signed now.
        ThresholdError: the signers do not reach root's threshold for the role.
        VerificationError: the signed metadata does not verify.
        StoreError: the clock is behind what was signed, or the workspace cannot be locked or written.
    """
    with workspace.lock():
        if not accept_clock_behind:
            _require_sane_clock(workspace, now)
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
    # TUF 1.0.34 §5.5.5: what a snapshot names, the next one names as well, or whoever holds the first refuses it. Other
    # tools name root.json, which nobody asks for.
    held = signed.snapshot.signed.meta if signed.snapshot is not None else {}
    if "root.json" in held:
        meta["root.json"] = held["root.json"]
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


ATTEMPTS = 4
_FIRST_PAUSE_S = 2.0
_CLOCK_MARGIN = timedelta(minutes=10)
_SNAPSHOT = re.compile(r"metadata/([1-9]\d*)\.snapshot\.json", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """What a run came to: why it signed (None: nothing was due), where it published, and until when that is valid."""

    due: str | None
    published: tuple[str, ...]
    adopted: bool
    timestamp: int
    expires: datetime
    attempts: int


def keep_online(
    workspace: Workspace,
    signers: Sequence[Signer],
    destinations: Sequence[Destination],
    *,
    now: Callable[[], datetime],
    pause: Callable[[float], None],
    attempts: int = ATTEMPTS,
    before: Callable[[Sequence[Destination]], None] | None = None,
    readers: Mapping[str, Reader] = READERS,
) -> Upkeep:
    """Do what is due; ``now`` tells the time, ``pause`` waits for so many seconds.

    ``before`` is done where something is to be published, before it is: a log that must vouch for it is written.

    Raises:
        StoreError: a destination or the disk failed at every attempt.
        BehindError: another publisher was faster at every attempt, or the workspace lacks what keyholders signed.
        ExpiredError: a role that keyholders sign, or a bin, has expired.
        ThresholdError: the signers do not reach the threshold.
        InputError: the workspace cannot be read, or a destination holds something else.
        VerificationError: what was signed, or is published, does not verify.
    """
    at_least = 1
    for attempt in range(1, attempts + 1):
        try:
            adopted = [adopt(workspace, destination) for destination in destinations]
            _require_sane_clock(workspace, now())
            due = online_due(workspace, now=now()) if at_least == 1 else "the snapshot's name was taken"
            if due is not None:
                sign_online(workspace, signers, now=now(), at_least=at_least)
            timestamp = workspace.timestamp()
            stale = [place for place in destinations if _shows_other(place, timestamp.data)]
            if stale and before is not None:
                before(stale)
            done = publish_to(workspace, stale, now=now(), readers=readers) if stale else ()
        except (StoreError, BehindError):
            if attempt == attempts:
                raise
            pause(_FIRST_PAUSE_S * 2 ** (attempt - 1))
        except TakenError as error:
            taken = _SNAPSHOT.fullmatch(error.path)
            if attempt == attempts or taken is None:
                raise
            at_least = int(taken[1]) + 1
        else:
            return Upkeep(
                due=due,
                published=tuple(published.where for published in done),
                adopted=any(adopted),
                timestamp=timestamp.signed.version,
                expires=timestamp.signed.expires,
                attempts=attempt,
            )
    raise AssertionError("the last attempt returns or raises")


def _require_sane_clock(workspace: Workspace, now: datetime) -> None:
    """Check that the clock is not behind what was signed: it would say for long that nothing is due."""
    if not workspace.has_timestamp():
        return
    text = workspace.timestamp().signed.unrecognized_fields.get(ISSUED_FIELD)
    if isinstance(text, str) and now + _CLOCK_MARGIN < parse_time(text):
        raise StoreError(
            f"this machine's clock says {format_time(now)}, and the timestamp was issued at {text}",
            hint="set the clock; if it was ahead before and is right now, use kedge-repo online --accept-clock-behind",
        )


def _shows_other(destination: Destination, timestamp: bytes) -> bool:
    held = destination.read(TIMESTAMP_PATH)
    return held is None or held.data != timestamp


def metrics(done: Upkeep | None, error: KedgeError | None, *, started: datetime) -> bytes:
    """How a run went, as a file that Prometheus' node exporter collects; ``error`` is what ended it."""
    lines = [
        "# HELP kedge_online_exit_code The exit code of the last run of kedge-repo online --job.",
        "# TYPE kedge_online_exit_code gauge",
        f"kedge_online_exit_code {int(error.exit_code) if error is not None else 0}",
        "# HELP kedge_online_last_run_seconds When the last run began.",
        "# TYPE kedge_online_last_run_seconds gauge",
        f"kedge_online_last_run_seconds {int(started.timestamp())}",
    ]
    if done is not None:
        lines += [
            "# HELP kedge_timestamp_expires_seconds When the timestamp that is published expires.",
            "# TYPE kedge_timestamp_expires_seconds gauge",
            f"kedge_timestamp_expires_seconds {int(done.expires.timestamp())}",
            "# HELP kedge_timestamp_version The version of that timestamp.",
            "# TYPE kedge_timestamp_version gauge",
            f"kedge_timestamp_version {done.timestamp}",
        ]
    return ("\n".join(lines) + "\n").encode()
