"""Each check that the TUF specification asks of a client, and nothing else: bytes and a state in, a new state out.

No file, no socket, no clock: :mod:`kedge.tuf.workflow` says in which order files are asked for, this module whether a
file may be accepted. The comment above each check names its step in the specification, TUF 1.0.34 §5.

Invariants:

- A check returns the new state or raises; a file that fails any of its checks changes nothing.
- A refusal names the file, what was expected and what was found.
- An accepted file raises its floor, whatever happens to the files after it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from tuf.api.exceptions import LengthOrHashMismatchError

from kedge.documents import format_time
from kedge.errors import ExpiredError, Reason, Refusal, StoreError, VerificationError
from kedge.tuf.metadata import (
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    Parsed,
    count_signatures,
    key_materials,
    parse,
    require_threshold,
)
from kedge.tuf.state import Floors, OnlineFloor, TrustedState, sha256_hex

if TYPE_CHECKING:
    from tuf.api.metadata import MetaFile, Root, Signed, Snapshot, TargetFile, Targets


# Digests that collisions are known for prove nothing; a file needs at least one of these, and all that are listed.
STRONG_DIGESTS = frozenset({"sha256", "sha384", "sha512", "sha3_256", "sha3_384", "sha3_512", "blake2b", "blake2b-256"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """By which time files are judged, and for how long expired trust may still be used.

    A time asked for ``as_of`` stands as it is; any other is never below the floor of earlier refreshes.
    """

    reference_time: datetime
    max_staleness: timedelta = timedelta(0)
    as_of: bool = False
    clock: datetime | None = None
    """What the machine's clock says, where the floor is judged by instead."""

    def above(self, floors: Floors) -> Freshness:
        """This value with a reference time that is not below the time floor."""
        if self.as_of or floors.time is None or floors.time <= self.reference_time:
            return self
        return replace(self, reference_time=floors.time, clock=self.clock or self.reference_time)


def begin(initial_root: bytes, *, file: str = "initial root") -> TrustedState:
    """Start from the root that the anchor holds.

    Raises:
        VerificationError: it is not a root, or not signed by the threshold of its own keys.
    """
    # §5.2 load the trusted root; it vouches for itself only
    root = parse(initial_root, ROOT, file=file)
    require_threshold(root.signed, ROOT.type, root)
    return TrustedState(newest_root=root, floors=Floors(root=root.signed.version))


def accept_root(state: TrustedState, data: bytes) -> TrustedState:
    """Check the next root.

    Raises:
        VerificationError: it does not follow from the newest root that is trusted.
    """
    wanted = state.root.version + 1
    new = parse(data, ROOT, file=f"{wanted}.root.json")
    # §5.3.4 arbitrary software: signed by the threshold of the trusted root, and by its own
    require_threshold(state.root, ROOT.type, new, checked=new.checked)
    require_threshold(new.signed, ROOT.type, new, checked=new.checked)
    # §5.3.5 rollback: exactly one version on
    if new.signed.version != wanted:
        raise _version_error(new, ROOT.type, expected=str(wanted))
    # §5.3.6 (an intermediate root may have expired)
    floors = replace(state.floors, root=max(state.floors.root, wanted))
    return replace(state, newest_root=new, former_roots=state.roots, floors=floors)


def check_final_root(state: TrustedState) -> None:
    """Check that the chain reaches the newest root that was ever accepted.

    Raises:
        VerificationError: it ends below (reason ``rollback``).
    """
    # §5.3.5 rollback: the chain that is served must not end before the root that was trusted already
    if state.root.version < state.floors.root:
        raise _rollback(state.newest_root.file, ROOT.type, floor=state.floors.root, found=state.root.version)


def settle_floors(state: TrustedState, recorded: Iterable[Floors] = ()) -> TrustedState:
    """Apply the floors that were ``recorded`` before, now that the newest root is known.

    Where that root no longer trusts the keys that vouched for a timestamp or a snapshot, the files and floors that
    stand on them are dropped; all others are merged, the higher one counts.
    """
    # §5.3.11 fast-forward recovery: if the timestamp or snapshot keys were rotated, forget both
    if keys_replaced(state.root, state.floors):
        state = replace(state, timestamp=None, snapshot=None, floors=state.floors.without_online())
    for floors in recorded:
        state = state.raise_floors(floors.without_online() if keys_replaced(state.root, floors) else floors)
    return state


def keys_replaced(root: Root, floors: Floors) -> bool:
    """Whether ``root`` no longer trusts the keys that vouched for the timestamp or the snapshot of ``floors``."""
    for role, floor in ((TIMESTAMP.type, floors.timestamp), (SNAPSHOT.type, floors.snapshot)):
        if floor is not None and floor.keys:
            still_trusted = key_materials(root, role) & set(floor.keys)
            if len(still_trusted) < root.roles[role].threshold:
                return True
    return False


def accept_timestamp(state: TrustedState, data: bytes, freshness: Freshness) -> TrustedState:
    """Check a timestamp. The state comes back unchanged where the same version is already held.

    Raises:
        VerificationError: signatures, rollback of the timestamp or of the snapshot it names.
        ExpiredError: it has expired.
    """
    new = parse(data, TIMESTAMP, file="timestamp.json")
    # §5.4.2 arbitrary software
    count = require_threshold(state.root, TIMESTAMP.type, new, every=True)
    # §5.4.3.1 rollback: its own version
    floor = state.floors.timestamp
    if floor is not None and new.signed.version < floor.version:
        raise _rollback(new.file, TIMESTAMP.type, floor=floor.version, found=new.signed.version)
    # §5.4.3.1 the same version is no news: the one that is held stays, and must still be fresh
    held = state.timestamp
    if held is not None and new.signed.version == held.signed.version:
        require_unexpired(held, TIMESTAMP.type, freshness)
        return state
    # §5.4.3.2 rollback: the version of the snapshot that it names
    named = new.signed.snapshot_meta.version
    bound = state.floors.snapshot
    if bound is not None and named < bound.version:
        raise _rollback(f"{new.file}: meta.snapshot.json", SNAPSHOT.type, floor=bound.version, found=named)
    # §5.4.4 freeze
    require_unexpired(new, TIMESTAMP.type, freshness)
    floors = replace(
        state.floors,
        timestamp=OnlineFloor(version=new.signed.version, keys=count.materials),
        # Bound by the timestamp's word alone until that snapshot is here and says whose keys vouch for it.
        snapshot=OnlineFloor(version=named, keys=bound.keys if bound is not None else ()),
    )
    return replace(state, timestamp=new, floors=floors)


def accept_snapshot(state: TrustedState, data: bytes, freshness: Freshness) -> TrustedState:
    """Check the snapshot that the trusted timestamp names.

    Raises:
        VerificationError: content, signatures, version, rollback or loss of a role that it lists.
        ExpiredError: it has expired.
    """
    timestamp = _held(state.timestamp)
    meta = timestamp.signed.snapshot_meta
    file = f"{meta.version}.snapshot.json"
    # §5.5.2 the digests that the timestamp names
    _check_content(meta, data, file=file, role=SNAPSHOT.type)
    new = parse(data, SNAPSHOT, file=file)
    # §5.5.3 arbitrary software
    count = require_threshold(state.root, SNAPSHOT.type, new, every=True)
    # §5.5.4 mix and match: the version that the timestamp names
    if new.signed.version != meta.version:
        raise _version_error(new, SNAPSHOT.type, expected=f"{meta.version}, which timestamp.json names")
    # §5.5.5 rollback: no role's version falls, and no role vanishes
    for name, floor in state.floors.roles.items():
        listed = new.signed.meta.get(f"{name}.json")
        if listed is None:
            raise _vanished(new, name, floor)
        if listed.version < floor:
            raise _rollback(f"{file}: meta.{name}.json", name, floor=floor, found=listed.version)
    # §5.5.6 freeze
    require_unexpired(new, SNAPSHOT.type, freshness)
    floors = replace(
        state.floors,
        snapshot=OnlineFloor(version=new.signed.version, keys=count.materials),
        roles={
            name.removesuffix(".json"): entry.version
            for name, entry in sorted(new.signed.meta.items())
            if name.endswith(".json")
        },
    )
    return replace(state, snapshot=new, floors=floors)


def accept_role(
    state: TrustedState, data: bytes, role: str, delegator: Root | Targets, freshness: Freshness
) -> TrustedState:
    """Check the metadata of a targets role (``targets`` itself, or one that ``delegator`` delegates to).

    Raises:
        VerificationError: content, signatures or version.
        ExpiredError: it has expired.
    """
    meta = role_meta(state, role)
    file = f"{meta.version}.{role}.json"
    # §5.6.2 the digests that the snapshot names
    _check_content(meta, data, file=file, role=role)
    new = parse(data, TARGETS, file=file)
    # §5.6.3 arbitrary software, by the keys of whoever delegates
    require_threshold(delegator, role, new, checked=new.checked)
    # §5.6.4 mix and match: the version that the snapshot names
    if new.signed.version != meta.version:
        raise _version_error(new, role, expected=f"{meta.version}, which the snapshot names")
    # §5.6.5 freeze
    require_unexpired(new, role, freshness)
    return replace(state, roles={**state.roles, role: new})


def check_held_role(state: TrustedState, role: str, delegator: Root | Targets, freshness: Freshness) -> None:
    """Check a role that was accepted before against today's snapshot and today's delegator.

    Raises:
        VerificationError: it is not what they ask for now.
        ExpiredError: it has expired.
    """
    meta, held = role_meta(state, role), state.roles[role]
    # §5.6.2 to §5.6.5, for a file that was accepted when the snapshot or the delegator were others
    _check_content(meta, held.data, file=held.file, role=role)
    require_threshold(delegator, role, held, checked=held.checked)
    if held.signed.version != meta.version:
        raise _version_error(held, role, expected=f"{meta.version}, which the snapshot names")
    require_unexpired(held, role, freshness)


def role_meta(state: TrustedState, role: str) -> MetaFile:
    """What the trusted snapshot says of ``role``.

    Raises:
        VerificationError: it says nothing (reason ``not-in-snapshot``).
    """
    snapshot = _held(state.snapshot)
    meta = snapshot.signed.meta.get(f"{role}.json")
    if meta is None:
        refusal = Refusal(reason=Reason.NOT_IN_SNAPSHOT, file=snapshot.file, role=role)
        raise VerificationError(
            f"{snapshot.file}: does not list the role {role}, which is delegated to", refusal=refusal
        )
    return meta


def check_target(target: TargetFile, data: bytes) -> None:
    """Check a target file against the metadata that lists it.

    Raises:
        VerificationError: its length or a digest differs (reason ``content``).
    """
    # §5.7.2 length and digests
    _check_content(target, data, file=target.path, role=None)


def content_matches(meta: MetaFile | TargetFile, data: bytes) -> bool:
    """Whether a copy that is held has the length and digests that ``meta`` names."""
    return _content_fault(meta, data) is None


def require_complete(state: TrustedState) -> None:
    """Check that the state is one whole set that stands at its floors: the only thing that answers come from.

    Raises:
        StoreError: it is not; a refresh is needed.
    """
    timestamp, snapshot, targets = state.timestamp, state.snapshot, state.targets
    whole = (
        timestamp is not None
        and snapshot is not None
        and targets is not None
        and snapshot.signed.version == timestamp.signed.snapshot_meta.version
        and targets.signed.version == role_meta(state, TARGETS.type).version
    )
    if not whole or not _at_floors(state):
        raise StoreError(
            "no complete set of metadata is stored", hint="run a refresh while the repository can be reached"
        )


def require_fresh(state: TrustedState, freshness: Freshness) -> None:
    """Check that nothing of a complete state has expired.

    Raises:
        ExpiredError: something has.
    """
    for role, parsed in (
        ("root", state.newest_root),
        ("timestamp", _held(state.timestamp)),
        ("snapshot", _held(state.snapshot)),
        ("targets", _held(state.targets)),
    ):
        require_unexpired(parsed, role, freshness)


def _at_floors(state: TrustedState) -> bool:
    floors = state.floors
    return (
        state.root.version >= floors.root
        and (floors.timestamp is None or _held(state.timestamp).signed.version >= floors.timestamp.version)
        and (floors.snapshot is None or _held(state.snapshot).signed.version >= floors.snapshot.version)
        and all(role_meta(state, name).version >= version for name, version in floors.roles.items())
    )


def require_unexpired(parsed: Parsed[Any], role: str, freshness: Freshness, *, no_newer: str = "") -> None:
    """Check that a file may still be used at the reference time, within the staleness that the policy allows.

    ``no_newer`` says where a newer root was looked for, and not found.

    Raises:
        ExpiredError: it may not; the text names the role, the date and the age.
    """
    signed: Signed = parsed.signed
    if not signed.is_expired(freshness.reference_time):
        return
    age = freshness.reference_time - signed.expires
    if age < freshness.max_staleness:
        return
    date, now = format_time(signed.expires), format_time(freshness.reference_time)
    refusal = Refusal(
        reason=Reason.EXPIRED,
        file=parsed.file,
        role=role,
        expected=f"valid at {now}",
        found=f"expired {date}",
        source=no_newer or None,
    )
    message = f"{parsed.file}: {role} version {signed.version} expired on {date}, {describe_age(age)} before {now}"
    hint = _expired_hint(role)
    if no_newer:
        message += f", and no newer root was found at {no_newer}"
        hint = "check the mirror's address and what stands in between; a built-in root comes newer with a newer kedge"
    elif freshness.clock is not None and not signed.is_expired(freshness.clock):
        message += f", which this machine has seen, though its clock says {format_time(freshness.clock)}"
        hint = "if the clock was once far ahead: kedge anchor reset-time NAME --yes-forget-time"
    allowed = f"; up to {describe_age(freshness.max_staleness)} is allowed" if freshness.max_staleness else ""
    raise ExpiredError(message + allowed, refusal=refusal, hint=hint)


def raise_time(state: TrustedState, moment: datetime) -> TrustedState:
    """Raise the time floor to ``moment``, which is known to have passed.

    Never past the timestamp's expiry: a clock that was far ahead once must not refuse what is signed afterwards.
    """
    if state.timestamp is None:
        return state
    return state.raise_floors(Floors(time=min(moment, state.timestamp.signed.expires)))


def describe_age(age: timedelta) -> str:
    """A duration for people: ``85 days``, ``3 hours``, ``12 minutes``."""
    seconds = max(0, int(age.total_seconds()))
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return f"{seconds} second{'s' if seconds != 1 else ''}"


def _expired_hint(role: str) -> str:
    if role in (TIMESTAMP.type, SNAPSHOT.type):
        return "the mirror may be stale, or withholds newer files: try another mirror; then check this machine's clock"
    return "the repository's maintainers must sign it again; if they have, the mirror is stale: try another mirror"


T = TypeVar("T")


def _held(parsed: T | None) -> T:
    if parsed is None:
        raise RuntimeError("the workflow asked for a check before the file it stands on")
    return parsed


def _check_content(meta: MetaFile | TargetFile, data: bytes, *, file: str, role: str | None) -> None:
    fault = _content_fault(meta, data)
    if fault is None:
        return
    expected, found = fault
    refusal = Refusal(reason=Reason.CONTENT, file=file, role=role, expected=expected, found=found)
    raise VerificationError(
        f"{file}: is not the file that was signed for: expected {expected}, found {found}", refusal=refusal
    )


def _content_fault(meta: MetaFile | TargetFile, data: bytes) -> tuple[str, str] | None:
    if meta.length is not None and len(data) != meta.length:
        return f"{meta.length} bytes", f"{len(data)}"
    hashes = meta.hashes or {}
    if hashes and not STRONG_DIGESTS & set(hashes):
        return f"a digest such as sha256 among those listed ({', '.join(sorted(hashes))})", "none"
    try:
        meta.verify_length_and_hashes(data)
    except LengthOrHashMismatchError as error:
        unknown = "Unsupported" in str(error)
        found = f"{error}, which this machine cannot compute".lower() if unknown else f"sha256 {sha256_hex(data)}"
        return ", ".join(f"{name} {digest}" for name, digest in sorted(hashes.items())), found
    return None


def _version_error(parsed: Parsed[Any], role: str, *, expected: str) -> VerificationError:
    found = str(parsed.signed.version)
    refusal = Refusal(reason=Reason.VERSION, file=parsed.file, role=role, expected=expected, found=found)
    return VerificationError(f"{parsed.file}: is version {found}, expected version {expected}", refusal=refusal)


def _rollback(file: str, role: str, *, floor: int, found: int) -> VerificationError:
    refusal = Refusal(reason=Reason.ROLLBACK, file=file, role=role, expected=f"at least {floor}", found=str(found))
    return VerificationError(
        f"{file}: rollback of {role} to version {found}; version {floor} was accepted before",
        refusal=refusal,
        hint="the mirror serves old metadata: try another mirror, and tell whoever runs this one",
    )


def _vanished(snapshot: Parsed[Snapshot], role: str, floor: int) -> VerificationError:
    refusal = Refusal(
        reason=Reason.ROLLBACK, file=snapshot.file, role=role, expected=f"at least version {floor}", found="not listed"
    )
    return VerificationError(
        f"{snapshot.file}: no longer lists the role {role}, version {floor} of which was accepted before",
        refusal=refusal,
    )


def signers_of(state: TrustedState, role: str, parsed: Parsed[Any]) -> tuple[str, ...]:
    """The ids of the keys whose signature over a role's metadata is right, by whoever may name its keys.

    Raises:
        StoreError: this machine's cryptography cannot check enough of the signatures.
    """
    by_root = role in ("root", "timestamp", "snapshot", "targets")
    for delegator in (state.root,) if by_root else [held.signed for held in state.roles.values()]:
        try:
            count = count_signatures(delegator, role, parsed, every=True)
        except VerificationError:
            continue  # does not delegate to it
        if count.met:
            return count.keyids
    return ()
