"""How a workspace stands: its signed metadata, one open event, policy, keys and owners, read whole as one value.

Every command begins here, and those that write begin again under the lock. What an event stages (a new key, a new
policy) counts in its standing; what people call a key is worked out here, for a keyid says nothing to anybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tuf.api.metadata import Key, Snapshot, Targets

from kedge.documents import blame_user
from kedge.errors import InputError, KedgeError, VerificationError
from kedge.tuf import Parsed, count_signatures
from kedge_repo.events.event import Event, load_event
from kedge_repo.events.plan import View
from kedge_repo.signing import Request, TargetChange
from kedge_repo.workspace import POLICY_FILE, Policy, SignedMetadata, Workspace, check_name, parse_public_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A workspace with an event on top, or without. ``owners`` are the names of keys, by keyid."""

    workspace: Workspace
    signed: SignedMetadata
    event: Event | None
    policy: Policy
    policy_text: str
    keys: Mapping[str, Key]
    owners: Mapping[str, str]

    def open_event(self) -> Event:
        """The event.

        Raises:
            InputError: there is none, or it no longer fits the signed metadata.
        """
        if self.event is None:
            raise InputError("no signing event is open", hint="a change opens one, for example kedge-repo target add")
        problem = self.event.moved(self.signed)
        if problem is not None:
            raise InputError(
                f"event {self.event.name}: no longer fits the signed metadata: {problem}",
                hint=f"discard it with kedge-repo event cancel --event {self.event.name} --yes, and change it again",
            )
        return self.event

    def view(self, now: datetime, *, on_top: bool = False) -> View:
        """What a plan starts from; with ``on_top``, a root that is changed already keeps its payload.

        Raises:
            InputError: the event no longer fits the signed metadata.
        """
        event = self.open_event() if self.event is not None else None
        return View(
            signed=self.signed,
            policy=self.policy,
            policy_text=self.policy_text,
            keys=self.keys,
            now=now,
            pending=event.newest() if event is not None else {},
            staged=event.targets if event is not None else {},
            read_target=self.workspace.target,
            on_top=on_top,
        )

    def owner(self, keyid: str) -> str:
        """What people call the key ``keyid``."""
        return self.owners.get(keyid, keyid)

    def request(self) -> Request:
        """The event's signing request.

        Raises:
            InputError: there is no event, it no longer fits, or the bytes of a signed target are missing.
        """
        event = self.open_event()
        if not event.payloads:
            raise InputError(f"event {event.name}: changes no metadata, so there is nothing to sign")
        roles = set(event.newest())
        base = {name: parsed.data for name, parsed in self.signed.delegated.items() if name in roles}
        if self.signed.targets is not None:
            base = {Targets.type: self.signed.targets.data, **base}
        if self.signed.snapshot is not None:
            base[Snapshot.type] = self._current_snapshot(self.signed.snapshot)
        before = {path for role in roles for path in self._signed_targets(role)}
        return Request(
            repository=self.policy.name,
            event=event.name,
            reason=event.reason,
            payloads=event.payloads,
            roots=tuple(root.data for root in self.signed.roots),
            base=base,
            targets=tuple(
                TargetChange(path=path, old=self.workspace.target(path) if path in before else None, new=data)
                for path, data in event.targets.items()
            ),
            keyholders=self.owners,
        )

    def _current_snapshot(self, snapshot: Parsed[Snapshot]) -> bytes:
        root = self.signed.root
        if root is None or not count_signatures(root.signed, Snapshot.type, snapshot).met:
            raise InputError(
                f"{snapshot.file}: is not signed by the online keys of today, so no keyholder could check it",
                hint="sign a new one with kedge-repo online, then go on",
            )
        return snapshot.data

    def _signed_targets(self, role: str) -> tuple[str, ...]:
        parsed = self.signed.role(role)
        return tuple(parsed.signed.targets) if parsed is not None and isinstance(parsed.signed, Targets) else ()


def stand(workspace: Workspace, event: str | None = None, *, signed: SignedMetadata | None = None) -> Standing:
    """Read how ``workspace`` stands with ``event``, or with the only event that is open, if there is one.

    ``signed`` is the signed metadata, where the caller has read it; else it is read and verified here.

    Raises:
        InputError: a file is missing or malformed, or several events are open and none was named.
        VerificationError: the signed metadata, or a signature in the event, does not verify.
    """
    signed = read_signed(workspace) if signed is None else signed
    if event is None and not workspace.events():
        return without_event(workspace, signed)
    return _standing(workspace, signed, load_event(workspace, choose_event(workspace, event, signed), signed))


def without_event(workspace: Workspace, signed: SignedMetadata) -> Standing:
    """How ``workspace`` stands where no open event counts.

    Raises:
        InputError: a file is missing or malformed.
    """
    return _standing(workspace, signed, None)


def _standing(workspace: Workspace, signed: SignedMetadata, chosen: Event | None) -> Standing:
    former = workspace.keys(workspace.policy())
    keys: dict[str, Key] = dict(former)
    for name, pem in (chosen.keys if chosen is not None else {}).items():
        with blame_user(f"event key of {name}"):
            keys[name] = parse_public_key(pem)
    text = workspace.policy_text() if chosen is None or chosen.policy_text is None else chosen.policy_text
    with blame_user(POLICY_FILE if chosen is None else f"event {chosen.name}: {POLICY_FILE}"):
        policy = Policy.from_text(text)
    for name in policy.keyholders.keys() - keys.keys():
        raise InputError(f"{POLICY_FILE}: keyholders.{name}: has no public key, neither here nor in the event")
    owners = {key.keyid: name if keys[name] is key else f"{name}-old" for name, key in former.items()}
    owners |= {key.keyid: name for name, key in keys.items()}
    return Standing(
        workspace=workspace,
        signed=signed,
        event=chosen,
        policy=policy,
        policy_text=text,
        keys={name: keys[name] for name in policy.keyholders},
        owners=owners,
    )


def signed_view(workspace: Workspace, now: datetime) -> View:
    """What a plan starts from where no open event counts: what is signed, and the policy and keys as they are.

    Raises:
        InputError: a file is missing or malformed.
        VerificationError: the signed metadata does not verify.
    """
    policy = workspace.policy()
    return View(
        signed=read_signed(workspace),
        policy=policy,
        policy_text=workspace.policy_text(),
        keys=workspace.keys(policy),
        now=now,
        read_target=workspace.target,
    )


def read_signed(workspace: Workspace) -> SignedMetadata:
    """The signed metadata, verified.

    Raises:
        InputError: a file is malformed.
        VerificationError: it does not verify.
    """
    signed = workspace.signed()
    try:
        signed.verify()
    except VerificationError as error:
        if workspace.events():
            error.hint = "if a merge was interrupted, run kedge-repo event merge again"
        raise
    return signed


def open_roles(workspace: Workspace, signed: SignedMetadata) -> dict[str, tuple[str, ...]]:
    """The roles that each open event signs, by its name; events that can never be merged (stale, damaged) sign none."""
    found = {name: _usable(workspace, name, signed) for name in workspace.events()}
    return {name: tuple(event.newest()) for name, event in found.items() if event is not None}


def _usable(workspace: Workspace, name: str, signed: SignedMetadata) -> Event | None:
    try:
        event = load_event(workspace, name, signed)
    except KedgeError:
        return None
    return event if event.moved(signed) is None else None


def choose_event(workspace: Workspace, name: str | None, signed: SignedMetadata | None = None) -> str:
    """The event's name: the one given, or the only one that is open.

    With ``signed``, stale events are passed over where one is left that is not.

    Raises:
        InputError: none is open, or several are and none was named.
    """
    if name is not None:
        if name in workspace.events():
            return name
        with blame_user("--event"):
            return check_name(name)
    names = workspace.events()
    if not names:
        raise InputError("no signing event is open", hint="a change opens one, for example kedge-repo target add")
    if len(names) > 1 and signed is not None:
        names = tuple(each for each in names if not _is_stale(workspace, each, signed)) or names
    if len(names) > 1:
        raise InputError(f"several signing events are open: {', '.join(names)}", hint="choose one with --event NAME")
    return names[0]


def stale_events(workspace: Workspace, signed: SignedMetadata) -> tuple[str, ...]:
    """The open events that no longer fit ``signed``: all that is left to do with them is to cancel them."""
    return tuple(name for name in workspace.events() if _is_stale(workspace, name, signed))


def _is_stale(workspace: Workspace, name: str, signed: SignedMetadata) -> bool:
    """Whether the event no longer fits; one that is damaged may well fit, and is not passed over."""
    try:
        return load_event(workspace, name, signed).moved(signed) is not None
    except KedgeError:
        return False
