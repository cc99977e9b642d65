"""What the page says, gathered from a workspace: all that it shows is in here, and nothing of it is computed later.

A workspace that does not verify is reported on as well, with what its audit finds; what is signed is left out then.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tuf.api.metadata import Root, Targets

from kedge.documents import DocumentError
from kedge.errors import KedgeError
from kedge.registries import KeySet
from kedge.tuf import Parsed, count_signatures
from kedge_repo.audit.examine import audit
from kedge_repo.audit.findings import Audit
from kedge_repo.audit.forecast import Forecast, RoleForecast, forecast_expiry
from kedge_repo.audit.source import open_source
from kedge_repo.events import EventStatus, Signing, event_status, open_roles, read_signed, read_signings
from kedge_repo.workspace import SignedMetadata, Workspace, algorithm, find_key_document, fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFacts:
    """One key of a role, by what people call it, and whether it signed the role's version of today."""

    owner: str
    algorithm: str
    fingerprint: str
    signed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleFacts:
    """One role: its version of today, the keys that may sign it, and how many of them must."""

    role: str
    version: int
    threshold: int
    keys: tuple[KeyFacts, ...]
    forecast: RoleForecast


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryFacts:
    """One key document: its target, the role that lists it, and its keys, or why it cannot be read."""

    registry: str
    target: str
    role: str
    sha256: str
    keys: KeySet | None
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFacts:
    """The whole page. ``owners`` are the names of keys, by keyid; ``other_targets`` are no key documents.

    ``problem`` says why the signed metadata cannot be relied on, where that is so; then there are no roles.
    """

    repository: str
    at: datetime
    problem: str | None
    roles: tuple[RoleFacts, ...]
    registries: tuple[RegistryFacts, ...]
    other_targets: tuple[tuple[str, str, int], ...]
    events: tuple[EventStatus, ...]
    signings: tuple[Signing, ...]
    forecast: Forecast
    audit: Audit
    owners: dict[str, str]


def gather(workspace: Workspace, *, now: datetime) -> ReportFacts:
    """Read a workspace for its report, as of ``now``.

    Raises:
        InputError: its policy, a public key, or a signing record cannot be read.
    """
    policy, signings, problem = workspace.policy(), read_signings(workspace), None
    owners = {key.keyid: name for name, key in workspace.keys(policy).items()}
    signed, events = SignedMetadata(), tuple[EventStatus, ...]()
    try:
        signed = read_signed(workspace)
        events = tuple(event_status(workspace, event=name) for name in workspace.events())
        opened = open_roles(workspace, signed)
    except KedgeError as error:
        problem, opened = error.message, {}
    found = forecast_expiry(signed, policy, signings, now=now, open_events=opened)
    source = open_source(str(workspace.root))
    outlooks = {role.role: role for role in found.roles}
    return ReportFacts(
        repository=policy.name,
        at=now,
        problem=problem,
        roles=tuple(
            _role(name, parsed, signed, owners, outlooks[name]) for name, parsed in signed.everything().items()
        ),
        registries=tuple(_registries(workspace, signed, now)),
        other_targets=tuple(_others(signed)),
        events=events,
        signings=signings,
        forecast=found,
        audit=audit(source, now=now),
        owners=owners,
    )


def _role(
    name: str, parsed: Parsed[Any], signed: SignedMetadata, owners: dict[str, str], outlook: RoleForecast
) -> RoleFacts:
    delegator = _delegator(name, signed)
    listed = delegator.get_delegated_role(name)
    right = set(count_signatures(delegator, name, parsed, every=True).keyids)
    keys = [(keyid, delegator.get_key(keyid)) for keyid in listed.keyids]
    return RoleFacts(
        role=name,
        version=parsed.signed.version,
        threshold=listed.threshold,
        keys=tuple(
            KeyFacts(
                owner=owners.get(keyid, keyid[:16]),
                algorithm=algorithm(key),
                fingerprint=fingerprint(key),
                signed=keyid in right,
            )
            for keyid, key in keys
        ),
        forecast=outlook,
    )


def _delegator(name: str, signed: SignedMetadata) -> Root | Targets:
    if signed.root is None:
        raise KeyError(name)
    if name in signed.delegated and signed.targets is not None:
        return signed.targets.signed
    return signed.root.signed


def _target_roles(signed: SignedMetadata) -> dict[str, Parsed[Targets]]:
    return {**({"targets": signed.targets} if signed.targets is not None else {}), **signed.delegated}


def _registries(workspace: Workspace, signed: SignedMetadata, now: datetime) -> list[RegistryFacts]:
    found: list[RegistryFacts] = []
    for role, parsed in _target_roles(signed).items():
        for path, target in sorted(parsed.signed.targets.items()):
            document = find_key_document(path)
            if document is None:
                continue
            keys, problem = None, None
            try:
                keys = document.read(workspace.target(path), target.custom, now=now)
            except DocumentError as error:
                problem = str(error)
            except KedgeError as error:
                problem = error.message
            found.append(
                RegistryFacts(
                    registry=document.registry,
                    target=path,
                    role=role,
                    sha256=target.hashes.get("sha256", ""),
                    keys=keys,
                    problem=problem,
                )
            )
    return found


def _others(signed: SignedMetadata) -> list[tuple[str, str, int]]:
    return [
        (path, role, target.length)
        for role, parsed in _target_roles(signed).items()
        for path, target in sorted(parsed.signed.targets.items())
        if find_key_document(path) is None
    ]
