"""How a workspace is doing: what is signed and for how long, which events are open, who holds which key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from tuf.api.metadata import Signed, Targets

from kedge_repo.bins import BinStore, Delegation, bin_delegations
from kedge_repo.events import read_signed
from kedge_repo.workspace import Policy, SignedMetadata, Workspace, algorithm, fingerprint


class RoleHealth(StrEnum):
    """Where a role is in its life."""

    VALID = "valid"
    SIGNING_DUE = "signing-due"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleState:
    """One signed role. ``signing_from`` is when its successor should be begun, by the policy."""

    role: str
    version: int
    expires: datetime
    signing_from: datetime
    health: RoleHealth


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetState:
    """One signed target."""

    path: str
    role: str
    length: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BinsState:
    """The hash bins of a role; ``first_expiry`` is None before they are signed."""

    role: str
    bins: int
    targets: int
    first_expiry: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceStatus:
    """The whole workspace at a time."""

    repository: str
    roles: tuple[RoleState, ...]
    bins: tuple[BinsState, ...]
    targets: tuple[TargetState, ...]
    events: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldKey:
    """A keyholder's key, and the roles that the policy gives it."""

    keyholder: str
    public: str
    location: str | None
    algorithm: str
    fingerprint: str
    keyid: str
    roles: tuple[str, ...]


def workspace_status(workspace: Workspace, *, now: datetime) -> WorkspaceStatus:
    """How the workspace is doing at ``now``.

    Raises:
        InputError: a file of it is missing or malformed.
        VerificationError: the signed metadata does not verify.
    """
    policy = workspace.policy()
    signed = read_signed(workspace)
    return WorkspaceStatus(
        repository=policy.name,
        roles=tuple(_role(name, parsed.signed, policy, now) for name, parsed in signed.everything().items()),
        bins=tuple(_bins(workspace, delegation) for delegation in bin_delegations(signed, policy).values()),
        targets=_targets(signed),
        events=workspace.events(),
    )


def key_list(workspace: Workspace) -> tuple[HeldKey, ...]:
    """Every keyholder's key.

    Raises:
        InputError: the policy or a key file is missing or malformed.
    """
    policy = workspace.policy()
    roles = {**policy.roles, **policy.delegations}
    return tuple(
        HeldKey(
            keyholder=name,
            public=policy.keyholders[name].public,
            location=policy.keyholders[name].location,
            algorithm=algorithm(key),
            fingerprint=fingerprint(key),
            keyid=key.keyid,
            roles=tuple(role.name for role in roles.values() if name in role.keyholders),
        )
        for name, key in workspace.keys(policy).items()
    )


def _role(name: str, signed: Signed, policy: Policy, now: datetime) -> RoleState:
    role = policy.role(name)
    signing_from = signed.expires - (role.signing if role is not None else timedelta(0))
    health = RoleHealth.VALID
    if signed.is_expired(now):
        health = RoleHealth.EXPIRED
    elif now >= signing_from:
        health = RoleHealth.SIGNING_DUE
    return RoleState(
        role=name, version=signed.version, expires=signed.expires, signing_from=signing_from, health=health
    )


def _bins(workspace: Workspace, delegation: Delegation) -> BinsState:
    index = BinStore(workspace=workspace, role=delegation.role).index()
    return BinsState(
        role=delegation.role,
        bins=delegation.succinct.number_of_bins,
        targets=index.total if index is not None else 0,
        first_expiry=index.first_expiry() if index is not None else None,
    )


def _targets(signed: SignedMetadata) -> tuple[TargetState, ...]:
    roles = {**signed.delegated, **({Targets.type: signed.targets} if signed.targets is not None else {})}
    return tuple(
        TargetState(path=path, role=name, length=target.length, sha256=target.hashes.get("sha256", ""))
        for name, parsed in roles.items()
        for path, target in sorted(parsed.signed.targets.items())
    )
