"""Keys are lost or stolen: what is still possible, in which order, and the change that does it. Pure.

Two questions are asked of every role, for they have different answers: can its keyholders still sign it, and can the
thief? A lost key can no longer sign; a stolen one can, for its owner *and* for the thief. Whoever was given a new key
has the old one rotated out; who was not is taken out where enough others remain; else a new key is asked for.

- Where the thief alone reaches root's threshold, no order of steps wins for certain: clients keep whichever root of the
  next version they see first.
- Where the owners no longer reach it, no root can be signed again, and clients need a new anchor by another way.
- An online key that was stolen may have signed version numbers far ahead (fast-forward). A root that replaces the keys
  of timestamp and snapshot lets clients forget them (TUF 1.0.34 §5.3.11); that is why both are replaced together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

from tuf.api.metadata import Key, Role, Root, SuccinctRoles

from kedge.documents import format_time
from kedge.errors import ExitCode, InputError
from kedge_repo.events import Plan, View, revoke_key, rotate_key
from kedge_repo.signing import Group, groups_for

ONLINE = ("snapshot", "timestamp")

_POWERS = {
    "root": "replace every key",
    "targets": "change every target that no role before it holds, and whom paths are delegated to",
    "snapshot": "choose which signed versions clients are shown, and push their numbers up",
    "timestamp": "hold clients on an old state, and push version numbers up",
}


class Verdict(StrEnum):
    """What is to be done."""

    RECOVERABLE = "recoverable"
    NEEDS_KEYS = "needs-keys"
    RACE = "race"
    NEW_ANCHOR = "new-anchor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """Whose keys are lost, and whose are stolen; a key may be both."""

    lost: frozenset[str]
    stolen: frozenset[str]

    @property
    def reason(self) -> str:
        """The harm in a line, as an event's reason."""
        parts = [
            f"{word}: {', '.join(sorted(names))}" for word, names in (("lost", self.lost), ("stolen", self.stolen))
        ]
        return f"recovery, {'; '.join(part for part in parts if not part.endswith(': '))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleHarm:
    """One role, or the hash ``bins`` of one: who may sign it, who of them still can, which of its keys a thief has."""

    role: str
    bins: bool
    threshold: int
    holders: tuple[str, ...]
    able: tuple[str, ...]
    thieves: tuple[str, ...]

    @property
    def can_sign(self) -> bool:
        """Whether its own keyholders still reach the threshold."""
        return len(self.able) >= self.threshold

    @property
    def thief_can(self) -> bool:
        """Whether the thief alone reaches it."""
        return len(self.thieves) >= self.threshold

    @property
    def power(self) -> str:
        """What whoever reaches the threshold can do."""
        return _POWERS.get(self.role, "change every target in them" if self.bins else "change the targets of its paths")


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningNeed:
    """One signature line of the event: a role version, who asks for how many keys, and who can still give one."""

    role: str
    version: int
    asked_by: str
    threshold: int
    able: tuple[str, ...]

    @property
    def enough(self) -> bool:
        """Whether the threshold can be reached."""
        return len(self.able) >= self.threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """The result. ``rotated`` get a new key, ``dropped`` are taken out, ``wanted`` need a new key and have none yet.

    ``steps`` are for people, in order; ``needs`` say who signs the event.
    """

    repository: str
    harm: Harm
    roles: tuple[RoleHarm, ...]
    rotated: tuple[str, ...]
    dropped: tuple[str, ...]
    wanted: tuple[str, ...]
    changes: tuple[str, ...]
    needs: tuple[SigningNeed, ...]
    verdict: Verdict
    steps: tuple[str, ...]

    @property
    def exit_code(self) -> ExitCode:
        """5 where no event of this repository can set it right."""
        return ExitCode.DONE if self.verdict in {Verdict.RECOVERABLE, Verdict.NEEDS_KEYS} else ExitCode.FAULTS


def plan_recovery(view: View, harm: Harm, new_keys: Mapping[str, Key]) -> Recovery:
    """Work out what is still possible. ``view`` is the workspace with no event on top; ``new_keys`` are new keys.

    Raises:
        InputError: a name is no keyholder, nobody is harmed, or a new key is for nobody who needs one.
    """
    _check(view, harm, new_keys)
    roles = tuple(_roles(view, harm))
    rotated = tuple(name for name in view.policy.keyholders if name in new_keys)
    dropped, wanted = _dropped(roles, harm, rotated)
    plan = recovery_plan(view, rotated, dropped, new_keys) if rotated or dropped else None
    needs = tuple(_needs(view, harm, plan, new_keys)) if plan is not None else ()
    verdict = _verdict(roles, wanted, needs)
    return Recovery(
        repository=view.policy.name,
        harm=harm,
        roles=roles,
        rotated=rotated,
        dropped=dropped,
        wanted=wanted,
        changes=plan.changes if plan is not None else (),
        needs=needs,
        verdict=verdict,
        steps=tuple(_steps(view, harm, roles, wanted, needs, verdict)),
    )


def recovery_plan(view: View, rotated: Iterable[str], dropped: Iterable[str], new_keys: Mapping[str, Key]) -> Plan:
    """The change that a recovery is: new keys in, harmed keys out, and what has to be signed again because of it.

    Raises:
        InputError: it is not possible.
    """
    plan: Plan | None = None
    steps: list[Callable[[View], Plan]] = [partial(_rotated, name=name, key=new_keys[name]) for name in rotated]
    steps += [partial(revoke_key, keyholder=name) for name in dropped]
    for step in steps:
        plan = step(view) if plan is None else plan.then(step(view.with_plan(plan)))
    if plan is None:
        raise InputError(
            "recover: no key is replaced and none is taken out", hint="give a new key: --new-key NAME=FILE"
        )
    return replace(plan, topic="recovery")


def _rotated(view: View, *, name: str, key: Key) -> Plan:
    return rotate_key(view, name, key)


def _check(view: View, harm: Harm, new_keys: Mapping[str, Key]) -> None:
    known = view.policy.keyholders
    for name in sorted(harm.lost | harm.stolen | new_keys.keys()):
        if name not in known:
            raise InputError(f'there is no keyholder "{name}"; there are {", ".join(known)}')
    if not harm.lost and not harm.stolen:
        raise InputError("recover: nobody's key is lost or stolen", hint="say whose: --lost NAME, --stolen NAME")
    for name in new_keys:
        if name not in harm.lost | harm.stolen:
            raise InputError(
                f"--new-key: {name} has lost nothing", hint=f"for a rotation: kedge-repo key rotate {name}"
            )


def _roles(view: View, harm: Harm) -> Iterator[RoleHarm]:
    delegations = view.targets().delegations
    delegated = delegations.roles if delegations is not None else None
    owners = {key.keyid: name for name, key in view.keys.items()}
    listed: list[tuple[str, Role]] = [*view.root().roles.items(), *(delegated or {}).items()]
    for name in delegated or {}:
        inner = view.targets(name).delegations if view.current(name) is not None else None
        if inner is not None and inner.succinct_roles is not None:
            listed.append((f"bins of {name}", inner.succinct_roles))
    for name, role in listed:
        holders = tuple(owners.get(keyid, keyid[:16]) for keyid in role.keyids)
        yield RoleHarm(
            role=name,
            bins=isinstance(role, SuccinctRoles),
            threshold=role.threshold,
            holders=holders,
            able=tuple(holder for holder in holders if holder not in harm.lost),
            thieves=tuple(holder for holder in holders if holder in harm.stolen),
        )


def _dropped(
    roles: Iterable[RoleHarm], harm: Harm, rotated: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Who can be taken out, because enough others remain in each role, and who needs a new key for it."""
    dropped: list[str] = []
    wanted: list[str] = []
    roles = list(roles)
    for name in sorted((harm.lost | harm.stolen) - set(rotated)):
        mine = [role for role in roles if name in role.holders]
        gone = {*dropped, name}
        if not mine:
            continue
        enough = all(len([holder for holder in role.holders if holder not in gone]) >= role.threshold for role in mine)
        (dropped if enough else wanted).append(name)
    return tuple(dropped), tuple(wanted)


def _needs(view: View, harm: Harm, plan: Plan, new_keys: Mapping[str, Key]) -> Iterator[SigningNeed]:
    owners = {key.keyid: name for name, key in view.keys.items() if name not in harm.lost}
    owners |= {key.keyid: f"{name} (new key)" for name, key in new_keys.items()}
    for payload in plan.payloads:
        for group in groups_for(payload, view.signed, plan.payloads):
            yield SigningNeed(
                role=payload.role,
                version=payload.version,
                asked_by=group.delegator,
                threshold=group.threshold,
                able=_able(group, owners),
            )


def _able(group: Group, owners: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(owners[keyid] for keyid in group.keys if keyid in owners)


def _verdict(roles: tuple[RoleHarm, ...], wanted: tuple[str, ...], needs: tuple[SigningNeed, ...]) -> Verdict:
    root = next(role for role in roles if role.role == Root.type)
    if not root.can_sign:
        return Verdict.NEW_ANCHOR
    if root.thief_can:
        return Verdict.RACE
    if wanted or not all(need.enough for need in needs):
        return Verdict.NEEDS_KEYS
    return Verdict.RECOVERABLE


def _steps(
    view: View,
    harm: Harm,
    roles: tuple[RoleHarm, ...],
    wanted: tuple[str, ...],
    needs: tuple[SigningNeed, ...],
    verdict: Verdict,
) -> Iterator[str]:
    online = [role for role in roles if role.role in ONLINE]
    if any(role.thieves for role in online):
        yield "stop the job that signs online; take its access to the key and to the destination away"
    if verdict is Verdict.NEW_ANCHOR:
        yield from _new_anchor(view)
        return
    if verdict is Verdict.RACE:
        version = view.root().version + 1
        yield (
            f"hurry: the thief can sign root version {version} as well as you can, and a client keeps the one it sees "
            f"first; hand the new root to clients by another way too (kedge anchor add --root)"
        )
    if wanted:
        keys = " ".join(f"--new-key {name}={name}-2.pub" for name in wanted)
        yield f"make new keys (kedge-repo key new) and run this again with {keys}"
        return
    yield "open the event: run this again with --open"
    for need in needs:
        can = ", ".join(need.able)
        yield f"{need.role} version {need.version}: {need.threshold} of {can} sign, as {need.asked_by} asks"
    yield "merge it: kedge-repo event merge"
    yield from _online_steps(harm, online)
    yield "publish, and look at the whole: kedge-repo publish && kedge-repo audit"
    yield from (
        f"look through what {role.role} signed since the theft: the thief alone could {role.power}"
        for role in roles
        if role.thief_can and role.role not in {Root.type, *ONLINE}
    )


def _new_anchor(view: View) -> Iterator[str]:
    expires = [parsed.signed.expires for parsed in view.signed.everything().values()]
    yield "no root can be signed again: too few of root's keys are left"
    yield f"what is published is valid until {format_time(min(expires))}, as far as online keys do not renew it"
    yield "begin a new repository (kedge-repo init) and give its first root to every client: kedge anchor add --root"


def _online_steps(harm: Harm, online: list[RoleHarm]) -> Iterator[str]:
    harmed = {name for role in online for name in role.holders if name in harm.lost | harm.stolen}
    if not harmed:
        yield "sign online: kedge-repo online"
        return
    at_hand = sorted(harmed - harm.lost)
    if at_hand:
        yield (
            f"sign online by the new key and by the old one of {', '.join(at_hand)} (kedge-repo online --key NEW --key "
            f"OLD): no client is refused in between"
        )
    else:
        yield "sign online by the new key: clients that read between the new root and the new timestamp try again"
    if any(role.thieves for role in online):
        yield (
            "clients forget the version numbers that the stolen key pushed up, for the new root replaces it; where the "
            "thief took names in your destination, number on above them: kedge-repo online --at-least N"
        )
