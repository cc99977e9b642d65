"""The same answers in words: aligned lines that fit a narrow terminal and a wide one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta

from kedge import checks
from kedge._cli.output import Screen, Tone, warn
from kedge.aging import AgeBasis
from kedge.anchor import Anchor, Transparency
from kedge.keys import KeySet, KeyStatus, RegistryKey
from kedge.trust import Trust

__all__ = ["anchor_lines", "key_lines", "key_list_lines", "moment_text", "say_warnings", "trust_lines", "trust_rows"]

Row = tuple[str, str] | tuple[str, str, Tone]

TONES = {KeyStatus.ACTIVE: Tone.GOOD, KeyStatus.RETIRED: Tone.CAUTION, KeyStatus.REVOKED: Tone.BAD}


def trust_lines(screen: Screen, trust: Trust) -> list[str]:
    """How far trust reaches, role by role."""
    return [*screen.heading(trust.anchor), *screen.rows(trust_rows(trust))]


def trust_rows(trust: Trust) -> list[Row]:
    """The same as labels and values."""
    roles = {"root": trust.root, "timestamp": trust.timestamp, "snapshot": trust.snapshot, "targets": trust.targets}
    rows: list[Row] = [
        (name, f"version {role.version}, expires {moment_text(role.expires)}") for name, role in roles.items()
    ]
    return [*rows, *_freshness(trust)]


def key_lines(screen: Screen, keys: KeySet, trust: Trust, *, pem: bool) -> list[str]:
    """A registry's keys, one by one, and what they stand on."""
    lines = screen.heading(f"{keys.registry}: {_count(keys)}")
    for entries in _by_id(keys):
        first = entries[0]
        rows: list[Row] = [
            (", ".join(key.usages), f"{key.status.value}, {_window(key)}", TONES[key.status]) for key in entries
        ]
        rows += [
            ("time basis", first.time_basis.value),
            ("algorithm", first.algorithm),
            ("fingerprint", first.fingerprint),
        ]
        lines += ["", *screen.heading(first.id), *screen.rows(rows)]
        if pem:
            lines += ["", *(first.pem or f"(no PEM form: {first.format.value})").splitlines()]
    if gone := _gone(keys):
        lines += [
            "",
            *screen.heading("revoked, and no longer in the key document"),
            *screen.rows([(keyid, "") for keyid in gone]),
        ]
    document: list[Row] = [
        ("document", keys.target),
        ("sha256", keys.sha256),
        ("anchor", trust.anchor),
        ("root", f"version {trust.root.version}, expires {moment_text(trust.root.expires)}"),
    ]
    return [*lines, "", *screen.heading("where they come from"), *screen.rows([*document, *_freshness(trust)])]


def key_list_lines(screen: Screen, keys: KeySet, trust: Trust) -> list[str]:
    """A registry's keys, a line each."""
    rows: list[Row] = []
    for entries in _by_id(keys):
        for status in dict.fromkeys(key.status for key in entries):
            usages = ", ".join(dict.fromkeys(usage for key in entries if key.status is status for usage in key.usages))
            rows.append((status.value, f"{entries[0].id} {usages}"))
    rows += [(KeyStatus.REVOKED.value, f"{keyid} (no longer in the key document)") for keyid in _gone(keys)]
    return [*screen.heading(f"{keys.registry} (anchor {trust.anchor})"), *screen.rows(rows)]


def anchor_lines(screen: Screen, anchor: Anchor, *, ships: bool) -> list[str]:
    """An anchor: where it leads, what it may speak for, and its root."""
    root = checks.begin(anchor.initial_root, file=f"the root of anchor {anchor.name}").root
    holders = root.roles["root"]
    rows: list[Row] = [("speaks for", ", ".join(anchor.registries) or "no registry, unless you name this anchor")]
    for mirror in anchor.mirrors:
        rows.append(("mirror", mirror.url))
        rows.append(("", f"metadata in {mirror.metadata or 'its top'}, targets in {mirror.targets or 'its top'}"))
    rows += [
        ("root", f"version {root.version}, expires {moment_text(root.expires)}"),
        ("", f"signed by {holders.threshold} of {len(holders.keyids)} keys"),
        ("sha256", hashlib.sha256(anchor.initial_root).hexdigest()),
    ]
    if anchor.not_before is not None:
        rows.append(("not before", moment_text(anchor.not_before)))
    if anchor.max_staleness:
        rows.append(("staleness", f"expired trust is used for {checks.describe_age(anchor.max_staleness)}"))
    if anchor.refresh_after:
        rows.append(("refresh", f"asked for again after {checks.describe_age(anchor.refresh_after)}"))
    if anchor.warn_after:
        rows.append(("warning", f"of trust that is {checks.describe_age(anchor.warn_after)} old"))
    if anchor.red_line:
        rows.append(("red line", f"no answer from trust that is {checks.describe_age(anchor.red_line)} old"))
    if anchor.keep_history:
        rows.append(("history", "every set that was trusted is kept"))
    if anchor.transparency is not Transparency.OFF:
        whose = "your log policy" if anchor.log_policy is not None else "the repository's log policy"
        rows.append(("log", f"{anchor.transparency.value}: must vouch for everything, by {whose}"))
    rows.append(("origin", "ships with kedge" if ships else "added on this machine"))
    return [*screen.heading(anchor.name), *screen.rows(rows)]


def say_warnings(answers: Sequence[Trust]) -> None:
    """Say on stderr what must be known beside the answers."""
    for trust in answers:
        for text in trust.warnings:
            warn(f"{trust.anchor}: {text}")


def _freshness(trust: Trust) -> list[Row]:
    rows: list[Row] = [("valid until", f"{moment_text(trust.valid_until)} (signed)")]
    if trust.stale:
        age = checks.describe_age(trust.reference_time - trust.valid_until)
        rows.append(("stale", f"expired {age} ago; the anchor's policy still allows it", Tone.BAD))
    if trust.age.age is not None and trust.age.basis is AgeBasis.SIGNED and trust.age.since is not None:
        rows.append(("issued", f"{moment_text(trust.age.since)} (signed), {checks.describe_age(trust.age.age)} ago"))
    if trust.age.age is not None and trust.age.basis is AgeBasis.SEEN:
        under = trust.age.age < timedelta(hours=1)
        told = "under an hour" if under else f"at least {checks.describe_age(trust.age.age)}"
        rows.append(("age", f"{told}, since this machine first accepted it"))
    rows.append(("next by", moment_text(trust.age.next_by)))
    if trust.fetched is not None:
        rows.append(("fetched", f"{moment_text(trust.fetched)} (by this machine's clock)"))
    if trust.source is not None:
        rows.append(("from", trust.source))
    rows.append(("refreshed", "yes" if trust.refreshed else "no, this is what is stored"))
    if trust.log is not None:
        when = f", witnessed {moment_text(trust.log.time)}" if trust.log.time is not None else ""
        rows.append(("log", f"{trust.log.origin}, {trust.log.size} entries{when}"))
    if trust.as_of is not None:
        rows.append(("as of", f"{moment_text(trust.as_of)}, and nothing was kept", Tone.CAUTION))
    return rows


def _count(keys: KeySet) -> str:
    ids = {key.id for key in keys.keys}
    active = {key.id for key in keys.keys if key.status is KeyStatus.ACTIVE}
    return f"{len(ids)} {'key' if len(ids) == 1 else 'keys'}, {len(active)} active"


def _by_id(keys: KeySet) -> list[list[RegistryKey]]:
    found: dict[str, list[RegistryKey]] = {}
    for key in keys.keys:
        found.setdefault(key.id, []).append(key)
    return list(found.values())


def _gone(keys: KeySet) -> list[str]:
    """The revoked keyids that no longer stand in the key document."""
    present = {key.id for key in keys.keys}
    return [keyid for keyid in keys.revoked if keyid not in present]


def _window(key: RegistryKey) -> str:
    start = f" from {moment_text(key.valid_from)}" if key.valid_from else ""
    end = f" until {moment_text(key.valid_until)}" if key.valid_until else ""
    return f"valid{start}{end}" if start or end else "no limits in time"


def moment_text(moment: datetime) -> str:
    """A time in UTC; at midnight the date says it all."""
    moment = moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%d" if moment.time() == time.min else "%Y-%m-%d %H:%M:%SZ")
