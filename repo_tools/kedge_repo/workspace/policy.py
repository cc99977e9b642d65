"""The policy file ``kedge-repo.toml``: who holds which key, how many each role needs, how long things last.

::

    format = "kedge.policy/1"
    name = "example"

    [keyholders.alice]
    public = "keys/alice.pub"           # PEM
    location = "file:~/keys/alice.pem"  # optional: where alice's tool finds the private key

    [roles.root]
    keyholders = ["alice", "bob", "carol"]
    threshold = 2
    expiry_days = 365
    signing_days = 60                   # signing starts so many days before the expiry

    [delegations."registry.npmjs.org"]
    paths = ["registry.npmjs.org/*"]
    keyholders = ["npm-team"]
    threshold = 1
    expiry_days = 182
    signing_days = 31
    terminating = true

    [delegations.packages]              # as above, and instead of listing targets itself:
    …
    [delegations.packages.bins]
    bit_length = 14                     # 2 ** 14 hash bins
    content = "elsewhere"               # or "workspace", if kedge-repo publishes the targets' bytes too
    keyholders = ["ci"]
    threshold = 1
    expiry_days = 182
    signing_days = 31

    [[destination]]
    folder = "public"

    [[destination]]
    url = "s3://bucket/prefix"          # or gs://…, az://…; credentials come from the environment
    region = "eu-central-1"

Invariants:

- The policy says what the *next* metadata should be; what is true today stands in the signed metadata and nowhere else.
- Owners and locations of keys live here and never inside a TUF key object, so that changing them changes no keyid.
- Every fault ends in one line with the path to it; unknown fields are faults, for they may be a threshold misspelt.

What a repository takes from the keyholders of a delegated role without asking anybody: a table of the policy.

::

    [delegations."registry.npmjs.org".hand_in]
    max_bytes = 100000             # of all the role's targets together
    max_targets = 4
    max_expiry_days = 200          # optional: how long a version may last at most; else expiry_days
    key_documents_only = true      # no other target may come, change or go
    sub_delegations = false        # whether the role may delegate further

Without the table nothing is taken. Paths are those of the delegation; a version is exactly the next one.

Changing the policy file as its owner would: the values that change change, comments and order stay.

Pure: text in, text out. What comes out is parsed before it is given back, so that an edit that would break a rule of
the policy (a threshold above the number of keyholders) ends with the path to the fault and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from pathlib import PurePosixPath
from typing import Any

from kedge.documents import DocumentError, Fields, blame_user, load_toml
from kedge.errors import InputError
from kedge_repo.workspace.files import load_extra

MAX_EXPIRY_DAYS = 3_660


@dataclass(frozen=True, slots=True, kw_only=True)
class HandInPolicy:
    """The bounds of a hand-in."""

    max_bytes: int
    max_targets: int
    max_expiry: timedelta
    key_documents_only: bool
    sub_delegations: bool


def read_hand_in_policy(fields: Fields, *, expiry: timedelta, signing: timedelta) -> HandInPolicy:
    """Read the table; ``expiry`` and ``signing`` are the periods of its role.

    Raises:
        DocumentError: it is not one; the path leads to the fault.
    """
    days = fields.optional("max_expiry_days", fields.integer, minimum=1, maximum=MAX_EXPIRY_DAYS)
    policy = HandInPolicy(
        max_bytes=fields.integer("max_bytes", minimum=1, maximum=64_000_000),
        max_targets=fields.integer("max_targets", minimum=1, maximum=100_000),
        max_expiry=timedelta(days=days) if days is not None else expiry,
        key_documents_only=fields.boolean("key_documents_only"),
        sub_delegations=fields.boolean("sub_delegations"),
    )
    if policy.max_expiry <= signing:
        fields.fail("max_expiry_days", f"must be more than the {signing.days} of signing_days, not {days}")
    fields.end()
    return policy


POLICY_FORMAT = "kedge.policy/1"
ROLE_NAMES = ("root", "targets", "snapshot", "timestamp")
MAX_GUARANTEE = 1_000
MAX_BIT_LENGTH = 15  # the snapshot names every bin, and python-tuf reads one of at most 2,000,000 bytes

_URL = r"(s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._/-]*)?"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyholder:
    """Someone or something that holds one key. ``public`` is a path inside the workspace, ``location`` a URI."""

    name: str
    public: str
    location: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RolePolicy:
    """Who signs a role, how many of them are needed, how long a version lasts and when its successor is begun.

    ``min_post_quantum`` and ``min_classical`` are how many signatures of each kind the threshold must guarantee.
    """

    name: str
    keyholders: tuple[str, ...]
    threshold: int
    expiry: timedelta
    signing: timedelta
    min_post_quantum: int = 0
    min_classical: int = 0


class Content(Enum):
    """Where the bytes of targets in bins come from: our workspace, which publishes them, or a place of their own."""

    WORKSPACE = "workspace"
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class BinsPolicy(RolePolicy):
    """The ``2 ** bit_length`` hash bins that a delegated role delegates everything to (TAP 15)."""

    bit_length: int
    content: Content


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegationPolicy(RolePolicy):
    """A role that targets delegates some paths to. With ``bins`` it lists no target itself.

    ``hand_in`` bounds what its own keyholders may hand in; without it nothing is taken.
    """

    paths: tuple[str, ...]
    terminating: bool
    bins: BinsPolicy | None = None
    hand_in: HandInPolicy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A place to publish to: a folder, relative to the workspace or absolute, or the ``url`` of an object store.

    ``options`` are settings of the store; its credentials never stand here.
    """

    folder: str | None = None
    url: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogWish:
    """The log that the repository is written to: its name, and who holds its key."""

    origin: str
    keyholder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The whole file. ``roles`` holds the four top-level roles, ``delegations`` the others in order of trust."""

    name: str
    keyholders: Mapping[str, Keyholder]
    roles: Mapping[str, RolePolicy]
    delegations: Mapping[str, DelegationPolicy]
    destinations: tuple[Destination, ...]
    log: LogWish | None = None

    @classmethod
    def from_text(cls, text: str) -> Policy:
        """Parse the policy file.

        Raises:
            DocumentError: it is not TOML, or not a policy; the path leads to the fault.
        """
        fields = Fields(load_toml(text))
        fields.format(POLICY_FORMAT)
        name = fields.text("name", pattern=_NAME.pattern, expected="letters, digits, '.', '_' and '-'")
        keyholders = _keyholders(fields.table("keyholders"))
        roles = _roles(fields.table("roles"), keyholders)
        delegations = _delegations(fields.table("delegations"), keyholders) if "delegations" in fields else {}
        destinations = fields.tables("destination") if "destination" in fields else []
        policy = cls(
            name=name,
            keyholders=keyholders,
            roles=roles,
            delegations=delegations,
            destinations=tuple(_destination(item) for item in destinations),
            log=_log(fields.table("log"), keyholders) if "log" in fields else None,
        )
        fields.end()
        return policy

    def role(self, name: str) -> RolePolicy | None:
        """The policy of a top-level or delegated role, or None where the policy does not speak of it."""
        return self.roles.get(name) or self.delegations.get(name)

    def life(self) -> dict[str, timedelta]:
        """How long a version of each role may last."""
        return {name: role.expiry for name, role in {**self.roles, **self.delegations}.items()}


def check_name(name: str) -> str:
    """Return ``name`` if it can be a role, keyholder or event: it becomes part of a file name.

    Raises:
        DocumentError: it cannot.
    """
    if _NAME.fullmatch(name) is None:
        raise DocumentError("", f'"{name[:80]}" is not a name: letters, digits, ".", "_" and "-", at most 100 of them')
    return name


def read_name(fields: Fields, name: str) -> str:
    """Read a field that names a role, keyholder or event.

    Raises:
        DocumentError: it is no such name; the path leads to it.
    """
    value = fields.text(name)
    try:
        return check_name(value)
    except DocumentError as error:
        fields.fail(name, error.problem)


def _keyholders(fields: Fields) -> dict[str, Keyholder]:
    found: dict[str, Keyholder] = {}
    for name, entry in fields.items():
        _check_key(fields, name)
        public = entry.text("public")
        path = PurePosixPath(public)
        if path.is_absolute() or ".." in path.parts or "\\" in public:
            entry.fail("public", "must be a path inside the workspace, such as keys/alice.pub")
        location = entry.optional("location", entry.text, pattern=r"[a-z][a-z0-9+.-]*:\S.*", expected="a URI")
        found[name] = Keyholder(name=name, public=public, location=location)
        entry.end()
    if not found:
        raise DocumentError(fields.path, "must describe at least one keyholder")
    return found


def _roles(fields: Fields, keyholders: Mapping[str, Keyholder]) -> dict[str, RolePolicy]:
    found: dict[str, RolePolicy] = {}
    for name in ROLE_NAMES:
        entry = fields.table(name)
        found[name] = _role(name, entry, keyholders)
        entry.end()
    fields.end()
    return found


def _delegations(fields: Fields, keyholders: Mapping[str, Keyholder]) -> dict[str, DelegationPolicy]:
    found: dict[str, DelegationPolicy] = {}
    for name, entry in fields.items():
        _check_key(fields, name)
        if name in ROLE_NAMES:
            fields.fail(name, "is a top-level role, which cannot be delegated to")
        role = _role(name, entry, keyholders)
        paths = entry.texts("paths")
        if not paths:
            entry.fail("paths", "must name at least one path pattern")
        for index, path in enumerate(paths):
            if path.startswith("/"):
                raise DocumentError(f"{entry.at('paths')}[{index}]", 'must not start with "/"')
        found[name] = DelegationPolicy(
            name=name,
            keyholders=role.keyholders,
            threshold=role.threshold,
            expiry=role.expiry,
            signing=role.signing,
            min_post_quantum=role.min_post_quantum,
            min_classical=role.min_classical,
            paths=paths,
            terminating=entry.boolean("terminating"),
            bins=_bins(name, entry.table("bins"), keyholders) if "bins" in entry else None,
            hand_in=read_hand_in_policy(entry.table("hand_in"), expiry=role.expiry, signing=role.signing)
            if "hand_in" in entry
            else None,
        )
        entry.end()
    return found


def _bins(name: str, fields: Fields, keyholders: Mapping[str, Keyholder]) -> BinsPolicy:
    role = _role(name, fields, keyholders)
    content = fields.text("content", pattern="workspace|elsewhere", expected='"workspace" or "elsewhere"')
    bins = BinsPolicy(
        name=name,
        keyholders=role.keyholders,
        threshold=role.threshold,
        expiry=role.expiry,
        signing=role.signing,
        min_post_quantum=role.min_post_quantum,
        min_classical=role.min_classical,
        bit_length=fields.integer("bit_length", minimum=1, maximum=MAX_BIT_LENGTH),
        content=Content(content),
    )
    fields.end()
    return bins


def _role(name: str, fields: Fields, keyholders: Mapping[str, Keyholder]) -> RolePolicy:
    holders = fields.texts("keyholders")
    for index, holder in enumerate(holders):
        place = f"{fields.at('keyholders')}[{index}]"
        if holder not in keyholders:
            raise DocumentError(place, f'"{holder}" is not described under keyholders')
        if holder in holders[:index]:
            raise DocumentError(place, f'"{holder}" stands here twice')
    if not holders:
        fields.fail("keyholders", "must name at least one keyholder")
    threshold = fields.integer("threshold", minimum=1)
    if threshold > len(holders):
        fields.fail("threshold", f"must be at most {len(holders)}, the number of its keyholders, not {threshold}")
    expiry_days = fields.integer("expiry_days", minimum=1, maximum=MAX_EXPIRY_DAYS)
    signing_days = fields.integer("signing_days", minimum=0)
    if signing_days >= expiry_days:
        fields.fail("signing_days", f"must be less than the {expiry_days} of expiry_days, not {signing_days}")
    return RolePolicy(
        name=name,
        keyholders=holders,
        threshold=threshold,
        expiry=timedelta(days=expiry_days),
        signing=timedelta(days=signing_days),
        min_post_quantum=fields.optional("min_post_quantum", fields.integer, maximum=MAX_GUARANTEE) or 0,
        min_classical=fields.optional("min_classical", fields.integer, maximum=MAX_GUARANTEE) or 0,
    )


def _log(fields: Fields, keyholders: Mapping[str, Keyholder]) -> LogWish:
    keyholder = fields.text("keyholder")
    if keyholder not in keyholders:
        fields.fail("keyholder", f'"{keyholder}" is not described under keyholders')
    wish = LogWish(
        origin=fields.text("origin", pattern=r"[^\s+]{1,200}", expected="a name without spaces and plus signs"),
        keyholder=keyholder,
    )
    fields.end()
    return wish


def _destination(fields: Fields) -> Destination:
    if "folder" in fields:
        destination = Destination(folder=fields.text("folder"))
    else:
        url = fields.text("url", pattern=_URL, expected="s3://BUCKET, gs://BUCKET or az://CONTAINER")
        names = [name for name in ("endpoint", "region") if name in fields]
        destination = Destination(url=url, options={name: fields.text(name) for name in names})
    fields.end()
    return destination


def _check_key(fields: Fields, name: str) -> None:
    if _NAME.fullmatch(name) is None:
        fields.fail(name, 'must be a name of letters, digits, ".", "_" and "-", at most 100 of them')


def with_keyholder(text: str, name: str, *, roles: Sequence[str], location: str | None) -> str:
    """The policy with the keyholder ``name`` in ``roles``; who is described already is only added to them.

    Raises:
        InputError: the name cannot be one, a role is unknown, or the keyholder stands in it already.
    """
    with blame_user("keyholder"):
        check_name(name)
    document = _read(text)
    if name not in document["keyholders"]:
        entry = _toml().table()
        entry.add("public", f"keys/{name}.pub")
        if location is not None:
            entry.add("location", location)
        entry.add(_toml().nl())
        document["keyholders"].add(name, entry)
    elif location is not None:
        document["keyholders"][name]["location"] = location
    for role in roles:
        holders = _role_policyedit(document, role)["keyholders"]
        if name in holders:
            raise InputError(f"{name} is a keyholder of {role} already")
        holders.append(name)
    return _written(document)


def without_keyholder(text: str, name: str) -> str:
    """The policy without the keyholder ``name``, in every role.

    Raises:
        InputError: a role would have fewer keyholders than its threshold.
    """
    document = _read(text)
    for role, entry in _signed_by(document):
        if name not in entry["keyholders"]:
            continue
        entry["keyholders"].remove(name)
        if len(entry["keyholders"]) < entry["threshold"]:
            raise InputError(
                f"without {name}, {role} would have {len(entry['keyholders'])} keyholders and a threshold of "
                f"{entry['threshold']}",
                hint=f"add or rotate a key first, or lower it in this event with kedge-repo role set {role}",
            )
    del document["keyholders"][name]
    return _written(document)


def with_location(text: str, name: str, location: str) -> str:
    """The policy with the key of ``name`` at another place.

    Raises:
        InputError: the location is not a URI.
    """
    document = _read(text)
    document["keyholders"][name]["location"] = location
    return _written(document)


def with_role(text: str, role: str, *, threshold: int | None, expiry_days: int | None, signing_days: int | None) -> str:
    """The policy with other numbers for ``role``; None leaves one as it is.

    Raises:
        InputError: there is no such role, or the numbers break a rule.
    """
    document = _read(text)
    entry = _role_policyedit(document, role)
    for name, value in {"threshold": threshold, "expiry_days": expiry_days, "signing_days": signing_days}.items():
        if value is not None:
            entry[name] = value
    return _written(document)


def with_delegation(text: str, delegation: DelegationPolicy) -> str:
    """The policy with ``delegation``, new or changed.

    Raises:
        InputError: it breaks a rule of the policy.
    """
    document = _read(text)
    if "delegations" not in document:
        document.add("delegations", _toml().table(is_super_table=True))
    delegations = document["delegations"]
    fresh = delegation.name not in delegations
    if fresh:
        delegations.add(delegation.name, _toml().table())
    entry = delegations[delegation.name]
    values = {
        "paths": list(delegation.paths),
        "keyholders": list(delegation.keyholders),
        "threshold": delegation.threshold,
        "expiry_days": delegation.expiry.days,
        "signing_days": delegation.signing.days,
        "terminating": delegation.terminating,
    }
    _set(entry, values)
    if delegation.bins is not None:
        if "bins" not in entry:
            entry.add("bins", _toml().table())
        _set(entry["bins"], _bins_policyedit(delegation.bins))
    if fresh:
        entry.add(_toml().nl())
    return _written(document)


def _bins_policyedit(bins: BinsPolicy) -> dict[str, Any]:
    return {
        "bit_length": bins.bit_length,
        "content": bins.content.value,
        "keyholders": list(bins.keyholders),
        "threshold": bins.threshold,
        "expiry_days": bins.expiry.days,
        "signing_days": bins.signing.days,
    }


def _set(entry: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if name not in entry or entry[name] != value:
            entry[name] = value


def _signed_by(document: Any) -> Iterator[tuple[str, Any]]:
    """Every table that names keyholders, and what it is called."""
    for role in ROLE_NAMES:
        yield role, document["roles"][role]
    for role, entry in document.get("delegations", {}).items():
        yield role, entry
        if "bins" in entry:
            yield f"the bins of {role}", entry["bins"]


def _role_policyedit(document: Any, role: str) -> Any:
    table = document["roles"] if role in ROLE_NAMES else document.get("delegations", {})
    if role not in table:
        known = ", ".join((*ROLE_NAMES, *document.get("delegations", {})))
        raise InputError(f'kedge-repo.toml: there is no role "{role}"; there are {known}')
    return table[role]


def _toml() -> Any:
    return load_extra("tomlkit", extra="cli", what="changing the policy")


def _read(text: str) -> Any:
    return _toml().parse(text)


def _written(document: Any) -> str:
    text: str = _toml().dumps(document)
    try:
        Policy.from_text(text)
    except DocumentError as error:
        raise InputError(f"kedge-repo.toml would not be a policy any more: {error}") from error
    return text
