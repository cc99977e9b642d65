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
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from pathlib import PurePosixPath

from kedge.document import DocumentError, Fields, load_toml
from kedge_repo.handinpolicy import HandInPolicy, read_hand_in_policy

__all__ = [
    "POLICY_FORMAT",
    "ROLE_NAMES",
    "BinsPolicy",
    "Content",
    "DelegationPolicy",
    "Destination",
    "Keyholder",
    "LogWish",
    "Policy",
    "RolePolicy",
    "check_name",
    "read_name",
]

POLICY_FORMAT = "kedge.policy/1"
ROLE_NAMES = ("root", "targets", "snapshot", "timestamp")
MAX_EXPIRY_DAYS = 3_660
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
