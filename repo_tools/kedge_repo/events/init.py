"""Beginning a repository: a charter in, a workspace with its first ceremony open.

The charter says who holds the keys of root and targets, which keys are online, whom paths are delegated to, and which
registries of the catalogue become targets. From it the policy file is written, and version 1 of every role planned.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from kedge.documents import blame_user
from kedge.errors import InputError
from kedge_repo.events.event import Base, Event, save_event
from kedge_repo.events.plan import View, add_target
from kedge_repo.events.plan_roles import plan_initial
from kedge_repo.workspace import (
    LOCK_FILE,
    POLICY_FILE,
    POLICY_FORMAT,
    ROLE_NAMES,
    CatalogueEntry,
    Policy,
    SignedMetadata,
    Workspace,
    check_name,
    parse_public_key,
    replace_file,
    to_pem,
)

FIRST_EVENT = "first-ceremony"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """How long a version lasts, and how long before its end signing begins; in days."""

    expiry_days: int
    signing_days: int


DEFAULT_EXPIRIES: Mapping[str, Expiry] = {
    "root": Expiry(expiry_days=365, signing_days=60),
    "targets": Expiry(expiry_days=365, signing_days=60),
    "snapshot": Expiry(expiry_days=365, signing_days=60),
    "timestamp": Expiry(expiry_days=7, signing_days=3),
}
DELEGATION_EXPIRY = Expiry(expiry_days=182, signing_days=31)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegate:
    """A role for a registry's paths (``<role>/*``) and the keyholders that sign it."""

    role: str
    keyholders: tuple[str, ...]
    threshold: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Charter:
    """What a repository begins with. Keys are PEM public keys by keyholder.

    ``keyholders`` sign root and targets, ``online`` snapshot and timestamp; ``delegate_keys`` are those who stand in
    delegations only. ``locations`` are URIs of private keys, by keyholder.
    """

    name: str
    keyholders: Mapping[str, bytes]
    online: Mapping[str, bytes]
    root_threshold: int
    targets_threshold: int
    delegate_keys: Mapping[str, bytes] = field(default_factory=dict)
    delegates: tuple[Delegate, ...] = ()
    registries: tuple[CatalogueEntry, ...] = ()
    locations: Mapping[str, str] = field(default_factory=dict)
    expiries: Mapping[str, Expiry] = field(default_factory=dict)
    destination: str | None = None
    reason: str = "first ceremony"


def check_is_new(folder: Path) -> None:
    """Check that a repository may begin at ``folder``.

    Raises:
        InputError: there is a workspace already, or signed metadata or events of one.
    """
    if (folder / POLICY_FILE).exists():
        raise InputError(
            f"{folder / POLICY_FILE}: is there already; a repository begins once",
            hint=f"go on with it (kedge-repo status -w {folder}), or begin in another folder",
        )
    for name in ("metadata", "events"):
        if any((folder / name).glob("[!.]*")):
            raise InputError(
                f"{folder / name}: holds files of another repository, and {POLICY_FILE} is missing",
                hint=f"restore {POLICY_FILE} (git checkout), or begin in an empty folder: kedge-repo init DIR",
            )


def found_repository(folder: Path, charter: Charter, *, now: datetime) -> tuple[Workspace, Event]:
    """Make a workspace at ``folder`` with the event ``first-ceremony`` open.

    The policy file is written last: before it, the folder is no workspace.

    Raises:
        InputError: :func:`check_is_new`, or the charter is not possible; nothing was written then.
        StoreError: the disk refused.
    """
    check_is_new(folder)
    text = policy_text(charter)
    with blame_user(POLICY_FILE):
        policy = Policy.from_text(text)
    keys = {}
    for name, pem in _pems(charter).items():
        with blame_user(f"public key of {name}"):
            keys[name] = parse_public_key(pem)
    _check_distinct({name: key.keyid for name, key in keys.items()})
    view = View(signed=SignedMetadata(), policy=policy, policy_text=text, keys=keys, now=now)
    plan = plan_initial(view)
    for entry in charter.registries:
        plan = plan.then(add_target(view.with_plan(plan), entry.target, entry.target_bytes, entry.custom))
        for path, data in entry.beside:
            plan = plan.then(add_target(view.with_plan(plan), path, data, None))
    event = Event(name=FIRST_EVENT, reason=charter.reason, opened=now, base=Base.of(SignedMetadata()))
    event = event.apply(plan, SignedMetadata())
    workspace = Workspace(root=folder)
    for name, key in keys.items():
        replace_file(folder / policy.keyholders[name].public, to_pem(key))
    replace_file(folder / ".gitignore", f"/{LOCK_FILE}\n".encode())
    save_event(workspace, event)
    replace_file(folder / POLICY_FILE, text.encode())
    return workspace, event


def policy_text(charter: Charter) -> str:
    """The policy file that the charter comes to.

    Raises:
        InputError: a name in it cannot be one.
    """
    lines = [
        f"format = {_quote(POLICY_FORMAT)}",
        f"name = {_quote(charter.name)}",
        "",
        "# Who holds which key. A location is where the keyholder's own machine finds the private key;",
        "# neither owner nor location is ever written into signed metadata.",
    ]
    for name in _pems(charter):
        with blame_user("keyholder"):
            check_name(name)
        lines += ["", f"[keyholders.{_key(name)}]", f"public = {_quote(f'keys/{name}.pub')}"]
        if name in charter.locations:
            lines.append(f"location = {_quote(charter.locations[name])}")
    lines += ["", "# A version lasts expiry_days; its successor is begun signing_days before that."]
    holders = {"root": charter.keyholders, "targets": charter.keyholders}
    thresholds = {"root": charter.root_threshold, "targets": charter.targets_threshold}
    for role in ROLE_NAMES:
        expiry = charter.expiries.get(role, DEFAULT_EXPIRIES[role])
        names = tuple(holders.get(role, charter.online))
        lines += ["", f"[roles.{role}]", *_role_lines(names, thresholds.get(role, 1), expiry)]
    for delegate in charter.delegates:
        expiry = charter.expiries.get(delegate.role, DELEGATION_EXPIRY)
        lines += [
            "",
            f"[delegations.{_quote(delegate.role)}]",
            f"paths = [{_quote(f'{delegate.role}/*')}]",
            *_role_lines(delegate.keyholders, delegate.threshold, expiry),
            "terminating = true",
        ]
    if charter.destination is not None:
        lines += ["", "[[destination]]", f"folder = {_quote(charter.destination)}"]
    return "\n".join(lines) + "\n"


def _role_lines(keyholders: tuple[str, ...], threshold: int, expiry: Expiry) -> list[str]:
    return [
        f"keyholders = [{', '.join(_quote(name) for name in keyholders)}]",
        f"threshold = {threshold}",
        f"expiry_days = {expiry.expiry_days}",
        f"signing_days = {expiry.signing_days}",
    ]


def _pems(charter: Charter) -> dict[str, bytes]:
    return {**charter.keyholders, **charter.delegate_keys, **charter.online}


def _check_distinct(keyids: Mapping[str, str]) -> None:
    seen: dict[str, str] = {}
    for name, keyid in keyids.items():
        other = seen.setdefault(keyid, name)
        if other != name:
            raise InputError(f"{name} and {other} hold the same key, expected one key each")


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a JSON string is a TOML basic string as well


def _key(name: str) -> str:
    return name if name.replace("-", "").replace("_", "").isalnum() else _quote(name)
