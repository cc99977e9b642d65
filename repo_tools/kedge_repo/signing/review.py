"""What a keyholder is about to sign, in words: computed from the payloads and the verified base, from nothing else.

The review is complete: the signed object and the one that it follows are compared member by member. Each difference
has a sentence, or is shown as it stands under "also signed". "No change" is said of equal objects only, version and
expiry apart, which are always named with the old ones.

A key is its material: it is shown by its full fingerprint, and the old root's keys are those of the old root. The name
before it is what the maintainers call the key, and proves nothing. A label is that name with the beginning of the
fingerprint; the full one stands in the table of keys, and in the label itself where two beginnings are alike.

Of a key document the difference is shown key by key. The request code stands at the end, to be compared with the other
keyholders'.

What the holders of keys can do once a request is signed: computed from the metadata alone. One key's material counts
once, under however many keyids it stands; that python-tuf counts it more often is said.

A review as the ``kedge.review/1`` object of ``--json``: every field is there, null where it does not apply.
"""

from __future__ import annotations

import fnmatch
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tuf.api.metadata import DelegatedRole, Key, Role, Root, SuccinctRoles, TargetFile, Targets

from kedge.documents import format_time
from kedge.registries import RegistryKey
from kedge_repo.signing.difference import Difference, Path, differences
from kedge_repo.signing.key_diff import KeyDiff, Sample, SampleCount, compare, count
from kedge_repo.signing.key_rules import KeyFault, grouped, is_digest, listed_keys, material
from kedge_repo.signing.keyholder import VerifiedRequest
from kedge_repo.signing.threshold import Group
from kedge_repo.workspace import Payload, algorithm, canonical_json, find_key_document, fingerprint, ssh_fingerprint_of

MAX_LIFE = timedelta(days=3_660)
"""How long a version may last where no policy says it: what the policy allows at most."""

_POWERS = {
    "root": "can replace root, and with it every other key",
    "targets": "can change every target that no role before it holds, and whom paths are delegated to",
    "snapshot": "can decide which signed versions clients are shown, among those that are signed",
    "timestamp": "can decide for how long clients are shown the present state",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyReview:
    """One key of the request: what it is called, what it is. OpenSSH does not know every kind."""

    name: str
    label: str
    algorithm: str
    fingerprint: str
    ssh_fingerprint: str | None
    keyid: str

    def lines(self) -> Iterator[str]:
        """The key's rows of the table."""
        yield f"  {self.label}  {self.algorithm}"
        yield f"    {grouped(self.fingerprint) if ':' not in self.fingerprint else self.fingerprint}"
        if self.ssh_fingerprint is not None:
            yield f"    {self.ssh_fingerprint}"
        yield f"    keyid {self.keyid}"


class Labels:
    """What each key of a request is called: by keyid *and* material, for one keyid can be two keys."""

    def __init__(self, verified: VerifiedRequest, *, digits: int = 8) -> None:
        """Name the keys of the signed base and of each payload; ``digits`` of the fingerprint stand in a label."""
        known = {(keyid, material(key)) for keyid, key in verified.signed.keys().items()}
        former = {(keyid, material(key)) for root in verified.signed.roots for keyid, key in root.signed.keys.items()}
        several = Counter(keyid for keyid, _ in known | former)
        found: dict[tuple[str, str], Key] = {}
        for signed in _objects(verified):
            for keyid, key in listed_keys(signed).items():
                found.setdefault((keyid, material(key)), key)
        names = {
            mark: verified.request.keyholders.get(mark[0], "unnamed")
            if is_digest(mark[0], key) or (mark in known and several[mark[0]] == 1)
            else "unnamed"
            for mark, key in found.items()
        }
        short = {(names[mark], mark[1][:digits], mark[1]) for mark in found}
        alike = Counter((name, beginning) for name, beginning, _ in short)
        self._labels = {
            mark: f"{names[mark]}:{mark[1] if alike[names[mark], mark[1][:digits]] > 1 else mark[1][:digits]}"
            for mark in found
        }
        self.keys = tuple(
            KeyReview(
                name=names[mark],
                label=self._labels[mark],
                algorithm=algorithm(key),
                fingerprint=fingerprint(key),
                ssh_fingerprint=ssh_fingerprint_of(key),
                keyid=mark[0],
            )
            for mark, key in sorted(found.items(), key=lambda item: (self._labels[item[0]], item[0]))
        )

    def of(self, keyid: str, keys: Mapping[str, Key]) -> str:
        """The label of ``keyid`` where ``keys`` say what key it is."""
        return self._labels[keyid, material(keys[keyid])] if keyid in keys else f"no key ({keyid[:16]})"


def _objects(verified: VerifiedRequest) -> Iterator[Root | Targets]:
    signed = verified.signed
    yield from (parsed.signed for parsed in (signed.root, signed.targets, *signed.delegated.values()) if parsed)
    yield from (payload.signed for payload in verified.request.payloads)


def consequences(
    root: Root | None, targets: Targets | None, labels: Labels, *, bins: Mapping[str, Targets] | None = None
) -> Iterator[str]:
    """Say what a new ``root`` and new delegations of ``targets`` (None: not changed) let whom do, a line each.

    ``bins`` are new versions of roles that delegate to hash bins.
    """
    if root is not None:
        for name, role in root.roles.items():
            yield f"after this, {_who(role, root.keys, labels)} {_POWERS[name]}"
            yield from _counted_twice(name, role, root.keys, labels)
            if name == Root.type:
                yield _loss(len(_distinct(role, root.keys)), role.threshold)
    listed = listed_keys(targets) if targets is not None else {}
    for name, delegated in _delegated(targets).items():
        paths = ", ".join(delegated.paths or ["the paths with its hash prefixes"])
        yield f"after this, {_who(delegated, listed, labels)} can change {paths} (as {name})"
        yield from _counted_twice(name, delegated, listed, labels)
    for name, delegating in (bins or {}).items():
        succinct, keys = _bins(delegating), listed_keys(delegating)
        if succinct is not None:
            who = _who(succinct, keys, labels)
            yield f"after this, {who} can change every target in the bins of {name}, online and without an event"
            yield from _counted_twice(f"each bin of {name}", succinct, keys, labels)


def _distinct(role: Role, keys: Mapping[str, Key]) -> list[str]:
    found: dict[str, str] = {}
    for keyid in role.keyids:
        if keyid in keys:
            found.setdefault(material(keys[keyid]), keyid)
    return list(found.values())


def _who(role: Role, keys: Mapping[str, Key], labels: Labels) -> str:
    names = [labels.of(keyid, keys) for keyid in _distinct(role, keys)]
    threshold = role.threshold
    if len(names) < threshold:
        return f"nobody ({threshold} keys are required, and there are {len(names)})"
    if len(names) == threshold:
        return f"{' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))} alone"
    if threshold == 1:
        return f"any one of {', '.join(names)} alone"
    return f"any {threshold} of {', '.join(names)}"


def _counted_twice(name: str, role: Role, keys: Mapping[str, Key], labels: Labels) -> Iterator[str]:
    """What follows from a key under several keyids: python-tuf counts each keyid."""
    marks = Counter(material(keys[keyid]) for keyid in role.keyids if keyid in keys)
    for mark, times in marks.items():
        if times > 1:
            keyid = next(keyid for keyid in role.keyids if keyid in keys and material(keys[keyid]) == mark)
            needed, counted = 0, 0
            for most in sorted(marks.values(), reverse=True):
                if counted < role.threshold:
                    needed, counted = needed + 1, counted + most
            yield (
                f"WARNING: python-tuf counts {labels.of(keyid, keys)} {times} times in {name}: "
                f"for its clients {needed} {'key is' if needed == 1 else 'keys are'} enough, "
                f"where the threshold is {role.threshold}"
            )


def _loss(keys: int, threshold: int) -> str:
    spare = keys - threshold
    if spare <= 0:
        return "after this, if one of these keys is lost, root can never be changed again"
    return f"after this, root can still be changed when {spare} of its {keys} keys {'is' if spare == 1 else 'are'} lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetReview:
    """One target that changes; ``keys`` is the difference of a key document, ``sample`` what it does to releases."""

    path: str
    old: TargetFile | None
    new: TargetFile | None
    keys: KeyDiff | None
    sample: SampleCount | None

    def lines(self) -> Iterator[str]:
        """The change in words."""
        if self.new is None:
            yield f"removes target {self.path}"
        elif self.old is None:
            yield f"adds target {self.path}: {_describe(self.new)}"
        else:
            yield f"replaces target {self.path}: {_describe(self.new)} (was {_describe(self.old)})"
        if self.keys is not None:
            yield from (f"  {line}" for line in self.keys.lines())
        if self.sample is not None:
            yield f"  {self.sample.line()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleReview:
    """What one payload changes: in the role itself a line a fact, and the targets. ``signers`` must sign it.

    ``also`` are the differences that no fact and no target explains. ``key_faults`` are what is wrong with its keys.
    """

    role: str
    version: int
    before: int | None
    expires: str
    expires_before: str | None
    payload_sha256: str
    signers: tuple[Group, ...]
    facts: tuple[str, ...]
    targets: tuple[TargetReview, ...]
    also: tuple[Difference, ...]
    key_faults: tuple[KeyFault, ...]

    def lines(self, labels: Labels) -> Iterator[str]:
        """The role's part of the review."""
        step = "the first" if self.before is None else f"after {self.before}"
        yield f"{self.role} version {self.version} ({step})"
        yield f"  expires   {self.expires}{'' if self.expires_before is None else f' (was {self.expires_before})'}"
        yield f"  sha256    {self.payload_sha256}"
        for group in self.signers:
            names = ", ".join(labels.of(keyid, group.keys) for keyid in group.keys)
            yield f"  signed by {group.threshold} of {names or 'nobody'} ({group.delegator})"
        yield from (f"  WARNING: {fault.message} [{fault.rule}]" for fault in self.key_faults)
        yield from (f"  {fact}" for fact in self.facts)
        yield from (f"  {line}" for target in self.targets for line in target.lines())
        if self.also:
            yield "  also signed"
            yield from (f"    {difference.line()}" for difference in self.also)
        if not self.facts and not self.targets and not self.also:
            yield "  no change but the version and the expiry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A request in words. ``root_version`` and ``snapshot_version`` are those of its base; None where there is none."""

    repository: str
    event: str
    reason: str
    root_version: int | None
    root_sha256: str
    snapshot_version: int | None
    roles: tuple[RoleReview, ...]
    labels: Labels
    consequences: tuple[str, ...]
    code: str

    @property
    def keys(self) -> tuple[KeyReview, ...]:
        """Every key of the base and of the payloads."""
        return self.labels.keys

    def lines(self, *, width: int = 0) -> Iterator[str]:
        """The review as text, wrapped at ``width`` (0: not); what cannot be printed is escaped."""
        return (part for line in self._lines() for part in _wrapped(_printable(line), width))

    def _lines(self) -> Iterator[str]:
        yield f"signing event {self.event} of {self.repository}"
        yield f"reason: {self.reason}"
        yield f"based on: {self._base()}"
        for role in self.roles:
            yield ""
            yield from role.lines(self.labels)
        if self.consequences:
            yield ""
            yield from self.consequences
        yield ""
        yield "keys (names as the maintainers give them)"
        yield from (line for key in self.keys for line in key.lines())
        yield ""
        yield f"request code: {self.code}"

    def _base(self) -> str:
        if self.root_version is None:
            return "nothing: a first ceremony"
        root = f"root version {self.root_version}, {self.root_sha256}"
        if self.snapshot_version is None:
            return f"{root}; no snapshot: nothing of this repository was ever published"
        return f"{root}; snapshot version {self.snapshot_version}"


def review_request(
    verified: VerifiedRequest,
    *,
    now: datetime,
    sample: Sample | None = None,
    life: Mapping[str, timedelta] | None = None,
) -> Review:
    """Say in words what the request asks to sign, at ``now``.

    ``life`` is how long a version of each role may last, by the policy, where there is one. With ``sample``, it says
    what the request does to the releases of a package.
    """
    request, signed = verified.request, verified.signed
    labels = Labels(verified)
    newest = {payload.role: payload.signed for payload in sorted(request.payloads, key=lambda item: item.version)}
    root, targets = newest.get(Root.type), newest.get(Targets.type)
    delegated = signed.targets.signed.delegations if signed.targets is not None else None
    return Review(
        repository=request.repository,
        event=request.event,
        reason=request.reason,
        root_version=signed.root.signed.version if signed.root else None,
        root_sha256=request.base_root_sha256,
        snapshot_version=signed.snapshot.signed.version if signed.snapshot else None,
        roles=tuple(
            _role(verified, payload, labels, sample, _expiry(payload, now, (life or {}).get(payload.role)))
            for payload in request.payloads
        ),
        labels=labels,
        consequences=tuple(
            consequences(
                root if isinstance(root, Root) else None,
                targets if isinstance(targets, Targets) and targets.delegations != delegated else None,
                labels,
                bins={name: role for name, role in newest.items() if isinstance(role, Targets) and _bins(role)},
            )
        ),
        code=verified.code,
    )


def _expiry(payload: Payload, now: datetime, life: timedelta | None) -> tuple[str, ...]:
    """What is odd about the expiry of ``payload``."""
    left = payload.signed.expires - now
    if left <= timedelta():
        return (f"WARNING: expired already, at {format_time(now)}",)
    longest = life or MAX_LIFE
    if left > longest:
        by = f"the policy allows {longest.days}" if life is not None else f"more than {longest.days} is too long"
        return (f"WARNING: expires in {left.days} days, and {by}",)
    return ()


def _role(
    verified: VerifiedRequest, payload: Payload, labels: Labels, sample: Sample | None, expiry: Sequence[str]
) -> RoleReview:
    before = _before(verified, payload)
    found = Explained(differences(before[1] if before is not None else None, payload.data))
    found.explain(("_type",), when=before is None)
    found.explain(("version",))
    found.explain(("expires",))
    old = before[0] if before is not None else None
    facts: list[str] = [*expiry]
    targets: tuple[TargetReview, ...] = ()
    if isinstance(payload.signed, Root):
        was = old if isinstance(old, Root) else None
        facts += _key_facts(was, payload.signed, found, labels)
        facts += _root_facts(was, payload.signed, found, labels)
    else:
        earlier = old if isinstance(old, Targets) else None
        facts += _key_facts(earlier, payload.signed, found, labels)
        facts += _delegation_facts(earlier, payload.signed, found, labels)
        targets = tuple(_target_reviews(verified, earlier.targets if earlier else {}, payload.signed.targets, sample))
        for target in targets:
            found.explain(("targets", target.path, "length"))
            found.explain(("targets", target.path, "hashes"))
            found.explain(("targets", target.path, "custom"))
    return RoleReview(
        role=payload.role,
        version=payload.version,
        before=old.version if old else None,
        expires=format_time(payload.signed.expires),
        expires_before=format_time(old.expires) if old else None,
        payload_sha256=payload.sha256,
        signers=verified.groups[payload.sha256],
        facts=tuple(facts),
        targets=targets,
        also=found.left(),
        key_faults=tuple(
            fault for fault in verified.key_faults if (fault.role, fault.version) == (payload.role, payload.version)
        ),
    )


@dataclass(slots=True)
class Explained:
    """The differences of one payload, and which of them sentences have explained."""

    all: tuple[Difference, ...]
    paths: set[Path] = field(default_factory=set)

    def explain(self, path: Path, *, when: bool = True) -> None:
        """Take note that a sentence shows what stands at ``path``, and all below it."""
        if when:
            self.paths |= {item.path for item in self.all if item.path[: len(path)] == path}

    def touches(self, *paths: Path) -> bool:
        """Whether something at or below one of ``paths`` differs."""
        return any(item.path[: len(path)] == path for item in self.all for path in paths)

    def touches_exactly(self, path: Path) -> bool:
        """Whether ``path`` itself is a leaf that differs, such as the order of a list."""
        return any(item.path == path for item in self.all)

    def explain_exactly(self, path: Path, *, when: bool = True) -> None:
        """Take note that a sentence shows the leaf at ``path``."""
        self.paths |= {path} if when else set()

    def left(self) -> tuple[Difference, ...]:
        """The differences without a sentence."""
        return tuple(item for item in self.all if item.path not in self.paths)


def _before(verified: VerifiedRequest, payload: Payload) -> tuple[Root | Targets, bytes] | None:
    """What the payload follows, and its bytes: of several roots in one request, the one before it there."""
    for other in verified.request.payloads:
        if payload.role == Root.type == other.role and other.version == payload.version - 1:
            return other.signed, other.data
    parsed = verified.signed.role(payload.role)
    return (parsed.signed, parsed.payload) if parsed else None


_KINDS = {
    ("ed25519", "ed25519"),
    ("ecdsa", "ecdsa-sha2-nistp256"),
    ("ml-dsa", "ml-dsa-44/1"),
    ("ml-dsa", "ml-dsa-65/1"),
}
"""Key types and schemes that the algorithm's name says wholly."""


def _key_facts(old: Root | Targets | None, new: Root | Targets, found: Explained, labels: Labels) -> Iterator[str]:
    """The keys that come, go, and become others under the same keyid."""
    where: Path = ("keys",) if isinstance(new, Root) else ("delegations", "keys")
    before, after = listed_keys(old) if old is not None else {}, listed_keys(new)
    for keyid in sorted(before.keys() | after.keys()):
        was, now = before.get(keyid), after.get(keyid)
        if was is not None and now is not None and material(was) == material(now):
            continue
        text = ""
        if now is None:
            yield f"no longer lists the key {labels.of(keyid, before)}, keyid {keyid}"
        else:
            text = f"{labels.of(keyid, after)}, {algorithm(now)}, {grouped(material(now))}"
        if now is not None and was is None:
            yield f"lists the key {text}"
        elif now is not None and was is not None:
            other = f"{labels.of(keyid, before)}, {grouped(material(was))}"
            yield f"the keyid {keyid} is another key now: {text} (was {other})"
        shown = [key for key in (was, now) if key is not None]
        plain = all((key.keytype, key.scheme) in _KINDS for key in shown)
        known = all(not fingerprint(key).startswith("keyid:") for key in shown)
        found.explain((*where, keyid, "keytype"), when=plain)
        found.explain((*where, keyid, "scheme"), when=plain)
        found.explain((*where, keyid, "keyval", "public"), when=known)


def _root_facts(old: Root | None, new: Root, found: Explained, labels: Labels) -> Iterator[str]:
    for name, role in new.roles.items():
        before = (old.roles[name], old.keys) if old else None
        yield from _who_review(name, before, (role, new.keys), labels)
        found.explain(("roles", name, "keyids"))
        found.explain(("roles", name, "threshold"))
    if old is not None and old.consistent_snapshot != new.consistent_snapshot:
        yield f"consistent_snapshot: {new.consistent_snapshot} (was {old.consistent_snapshot})"
        found.explain(("consistent_snapshot",))


_DELEGATIONS: Path = ("delegations", "roles")


def _delegation_facts(old: Targets | None, new: Targets, found: Explained, labels: Labels) -> Iterator[str]:
    before, after = _delegated(old), _delegated(new)
    old_keys, keys = listed_keys(old) if old is not None else {}, listed_keys(new)
    for name, role in after.items():
        was, place = before.get(name), (*_DELEGATIONS, name)
        what = [(*place, member) for member in ("paths", "path_hash_prefixes", "terminating", "name")]
        if was is None or found.touches(*what):
            ends = "and asks no role after it" if role.terminating else "before the roles after it"
            yield f"delegates {_paths(role)} to {name}, {ends}{'' if was is None else _delegated_before(was)}"
        for path in what:
            found.explain(path)
        yield from _who_review(name, (was, old_keys) if was is not None else None, (role, keys), labels)
        found.explain((*place, "keyids"))
        found.explain((*place, "threshold"))
    for name in before:
        if name not in after:
            yield f"delegates no longer to {name}"
    if found.touches_exactly(_DELEGATIONS):
        if len(after) > 1 or len(before) > 1:
            yield f"asks the roles in this order: {', '.join(after) or 'none'} (was {', '.join(before) or 'none'})"
        found.explain_exactly(_DELEGATIONS, when=bool(after.keys() ^ before.keys() or len(after) > 1))
    yield from _unreachable(list(after.values()), keys)
    yield from _bin_facts(old, new, found, labels)


def _delegated(role: Targets | None) -> Mapping[str, DelegatedRole]:
    return (role.delegations.roles or {}) if role is not None and role.delegations is not None else {}


def _paths(role: DelegatedRole) -> str:
    if role.paths is not None:
        return ", ".join(role.paths) or "no path"
    return f"the paths whose hash begins with {', '.join(role.path_hash_prefixes or ()) or 'nothing'}"


def _delegated_before(role: DelegatedRole) -> str:
    return f" (was {_paths(role)}, {'the last' if role.terminating else 'before the roles after it'})"


def _unreachable(roles: Sequence[DelegatedRole], keys: Mapping[str, Key]) -> Iterator[str]:
    """Which delegations can never give a client anything, and why."""
    for position, role in enumerate(roles):
        if not role.paths and not role.path_hash_prefixes:
            yield f"WARNING: {role.name} can never be reached: no path is delegated to it"
            continue
        if len(_distinct(role, keys)) < role.threshold:
            yield f"WARNING: {role.name} can never be signed: its threshold is above the number of its keys"
        for earlier in roles[:position]:
            if earlier.terminating and _covers(earlier, role):
                text = f"{earlier.name} before it ends the search for its paths"
                yield f"WARNING: {role.name} can never be reached: {text}"
                break


def _covers(earlier: DelegatedRole, role: DelegatedRole) -> bool:
    """Whether every path of ``role`` is surely one of ``earlier``'s."""
    if earlier.path_hash_prefixes and role.path_hash_prefixes:
        return all(
            any(item.startswith(start) for start in earlier.path_hash_prefixes) for item in role.path_hash_prefixes
        )
    if earlier.paths and role.paths:
        return all(any(_wider(wide, path) for wide in earlier.paths) for path in role.paths)
    return False


def _wider(wide: str, path: str) -> bool:
    """Whether the pattern ``wide`` matches all that the pattern ``path`` does; a star is within one part (TUF §4.5)."""
    wides, parts = wide.split("/"), path.split("/")
    return len(wides) == len(parts) and all(
        one in {"*", other} or (not set(other) & set("*?[") and fnmatch.fnmatchcase(other, one))
        for one, other in zip(wides, parts, strict=True)
    )


def _bin_facts(old: Targets | None, new: Targets, found: Explained, labels: Labels) -> Iterator[str]:
    was, now = _bins(old), _bins(new)
    place: Path = ("delegations", "succinct_roles")
    if now is None:
        if was is not None:
            yield f"delegates no longer to the bins {was.name_prefix}-…"
            found.explain(place)
        return
    if was is None or (was.name_prefix, was.bit_length) != (now.name_prefix, now.bit_length):
        before = "" if was is None else f" (was {was.number_of_bins}, {was.name_prefix}-…)"
        yield f"delegates everything to {now.number_of_bins} hash bins, {now.name_prefix}-…{before}"
    before_keys = (was, listed_keys(old)) if was is not None and old is not None else None
    yield from _who_review("each bin", before_keys, (now, listed_keys(new)), labels)
    for member in ("name_prefix", "bit_length", "keyids", "threshold"):
        found.explain((*place, member))


def _bins(role: Targets | None) -> SuccinctRoles | None:
    return role.delegations.succinct_roles if role is not None and role.delegations is not None else None


def _target_reviews(
    verified: VerifiedRequest, old: Mapping[str, TargetFile], new: Mapping[str, TargetFile], sample: Sample | None
) -> Iterator[TargetReview]:
    brought = {change.path: change for change in verified.request.targets}
    for path in sorted(old.keys() | new.keys()):
        was, now = old.get(path), new.get(path)
        if was == now:
            continue
        document, change = find_key_document(path), brought[path]
        diff = None
        if document is not None:
            diff = compare(
                document,
                (change.old, was.custom) if was is not None and change.old is not None else None,
                (change.new, now.custom) if now is not None and change.new is not None else None,
            )
        counted = count(sample, diff) if sample is not None and diff is not None else None
        yield TargetReview(path=path, old=was, new=now, keys=diff, sample=counted)


def _describe(target: TargetFile) -> str:
    custom = f", custom {canonical_json(target.custom)}" if target.custom is not None else ""
    hashes = ", ".join(f"{name} {value}" for name, value in sorted(target.hashes.items())) or "no hash"
    return f"{target.length} bytes, {hashes}{custom}"


def _who_review(
    name: str, old: tuple[Role, Mapping[str, Key]] | None, new: tuple[Role, Mapping[str, Key]], labels: Labels
) -> Iterator[str]:
    """Who signs a role, where that changes: its keyids, its threshold, or the keys that the keyids are."""

    def said(role: Role, keys: Mapping[str, Key]) -> str:
        return f"{role.threshold} of {', '.join(labels.of(keyid, keys) for keyid in role.keyids) or 'nobody'}"

    now = said(*new)
    if old is None:
        yield f"{name} is signed by {now}"
    elif (before := said(*old)) != now or old[0].keyids != new[0].keyids:
        yield f"{name} is signed by {now} (was {before})"


def _wrapped(line: str, width: int) -> Iterable[str]:
    """The line in parts of at most ``width``, each further one under its beginning; words longer than that stay."""
    indent = len(line) - len(line.lstrip(" "))
    if not width or len(line) <= width:
        return [line]
    return textwrap.wrap(
        line,
        width,
        subsequent_indent=" " * (indent + 2),
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


REVIEW_FORMAT = "kedge.review/1"


def review_table(review: Review) -> dict[str, Any]:
    """The review as plain values."""
    return {
        "format": REVIEW_FORMAT,
        "repository": review.repository,
        "event": review.event,
        "reason": review.reason,
        "code": review.code,
        "base": {
            "root_version": review.root_version,
            "root_sha256": review.root_sha256 or None,
            "snapshot_version": review.snapshot_version,
        },
        "roles": [_role_reviewjson(role) for role in review.roles],
        "consequences": list(review.consequences),
        "keys": [
            {
                "keyid": key.keyid,
                "name": key.name,
                "label": key.label,
                "algorithm": key.algorithm,
                "fingerprint": key.fingerprint,
                "ssh_fingerprint": key.ssh_fingerprint,
            }
            for key in review.keys
        ],
    }


def _role_reviewjson(role: RoleReview) -> dict[str, Any]:
    return {
        "role": role.role,
        "version": role.version,
        "before": role.before,
        "expires": role.expires,
        "expires_before": role.expires_before,
        "payload_sha256": role.payload_sha256,
        "signers": [
            {"asked_by": group.delegator, "threshold": group.threshold, "keyids": list(group.keys)}
            for group in role.signers
        ],
        "facts": list(role.facts),
        "targets": [_target(target) for target in role.targets],
        "also_signed": [{"member": item.member, "old": item.old, "new": item.new} for item in role.also],
        "key_faults": [
            {"rule": fault.rule.value, "message": fault.message, "keyids": list(fault.keyids)}
            for fault in role.key_faults
        ],
    }


def _target(target: TargetReview) -> dict[str, Any]:
    return {
        "path": target.path,
        "old": _file(target.old),
        "new": _file(target.new),
        "keys": None if target.keys is None else _diff(target.keys),
        "sample": None if target.sample is None else _sample(target.sample),
    }


def _file(target: TargetFile | None) -> dict[str, Any] | None:
    if target is None:
        return None
    return {
        "length": target.length,
        "sha256": target.hashes.get("sha256"),
        "hashes": dict(target.hashes),
        "custom": target.custom,
    }


def _diff(diff: KeyDiff) -> dict[str, Any]:
    return {
        "added": [_key(key) for key in diff.added],
        "removed": [_key(key) for key in diff.removed],
        "changed": [{"before": _key(before), "after": _key(after)} for before, after in diff.changed],
        "revoked": list(diff.revoked),
        "no_longer_revoked": list(diff.no_longer_revoked),
        "problem": diff.problem,
    }


def _key(key: RegistryKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "usages": list(key.usages),
        "algorithm": key.algorithm,
        "fingerprint": key.fingerprint,
        "valid_from": _time(key.valid_from),
        "valid_until": _time(key.valid_until),
    }


def _sample(sample: SampleCount) -> dict[str, Any]:
    return {
        "package": sample.package,
        "releases": sample.releases,
        "verify_before": sample.before,
        "verify_after": sample.after,
        "stop": sample.stop,
        "start": sample.start,
        "timed": sample.timed,
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)
