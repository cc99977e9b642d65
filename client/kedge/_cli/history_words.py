"""The history in words, and as ``kedge.history/1``, ``kedge.history-diff/1`` and ``kedge.history-keys/1``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kedge._cli.output import Screen, Tone
from kedge._cli.words import TONES, moment_text
from kedge.document import format_time
from kedge.history.moments import Moment, RegistryKeys, Story
from kedge.history.questions import Change, Chosen, KeyWindow
from kedge.keys import KeySet, KeyStatus

__all__ = [
    "At",
    "diff_document",
    "diff_lines",
    "history_document",
    "history_lines",
    "windows_document",
    "windows_lines",
]

Row = tuple[str, str] | tuple[str, str, Tone]


@dataclass(frozen=True, slots=True, kw_only=True)
class At:
    """What holds for a day: the moment, keys with their status of that day, and since when each was allowed."""

    day: datetime
    chosen: Chosen
    keys: Mapping[str, KeySet]
    windows: Mapping[str, Sequence[KeyWindow]]


def history_lines(screen: Screen, story: Story, at: At | None) -> list[str]:
    """All moments, a line each; or the answer for a day."""
    if at is not None:
        return _at_lines(screen, at)
    rows = [
        (
            f"root {moment.versions['root']}, timestamp {moment.versions['timestamp']}",
            f"{_since(moment)}; {_end(moment)}",
        )
        for moment in story.moments
    ]
    count = len(story.moments)
    return [*screen.heading(f"{count} {'moment' if count == 1 else 'moments'}"), *screen.rows(rows)]


def diff_lines(screen: Screen, pair: Sequence[At], changes: Sequence[Change]) -> list[str]:
    """What changed."""
    lines: list[str] = []
    for at in pair:
        lines += [*screen.heading(f"as of {moment_text(at.day)}"), *screen.rows(_moment_rows(at.chosen)), ""]
    rows: list[Row] = [(change.what, f"{change.before or 'none'} -> {change.after or 'none'}") for change in changes]
    return [*lines, *screen.heading("changes"), *screen.rows(rows or [("none", "")])]


def windows_lines(screen: Screen, registry: str, found: Sequence[KeyWindow]) -> list[str]:
    """Every key that was ever allowed."""
    lines = screen.heading(f"{registry}: {len(found)} {'entry' if len(found) == 1 else 'entries'}")
    for window in found:
        rows: list[Row] = [
            ("usages", ", ".join(window.key.usages)),
            ("allowed", _since(window.first)),
            ("by", _by(window.brought)),
            ("last", _last(window), Tone.PLAIN if window.gone is None else Tone.CAUTION),
            ("fingerprint", window.key.fingerprint),
        ]
        lines += ["", *screen.heading(window.key.id), *screen.rows(rows)]
    return lines


def history_document(anchor: str, story: Story, at: At | None) -> dict[str, Any]:
    """``kedge.history/1``."""
    return {
        "format": "kedge.history/1",
        "anchor": anchor,
        "moments": [_moment(moment) for moment in story.moments],
        "at": _at(at) if at is not None else None,
        "left_out": list(story.left_out),
    }


def diff_document(anchor: str, pair: Sequence[At], changes: Sequence[Change]) -> dict[str, Any]:
    """``kedge.history-diff/1``."""
    return {
        "format": "kedge.history-diff/1",
        "anchor": anchor,
        "before": _at(pair[0]),
        "after": _at(pair[1]),
        "changes": [{"what": change.what, "before": change.before, "after": change.after} for change in changes],
    }


def windows_document(anchor: str, registry: str, found: Sequence[KeyWindow]) -> dict[str, Any]:
    """``kedge.history-keys/1``."""
    return {
        "format": "kedge.history-keys/1",
        "anchor": anchor,
        "registry": registry,
        "keys": [
            {
                "id": window.key.id,
                "usages": list(window.key.usages),
                "fingerprint": window.key.fingerprint,
                "valid_from": _time(window.key.valid_from),
                "valid_until": _time(window.key.valid_until),
                "first": _moment(window.first),
                "last": _moment(window.last),
                "gone": _moment(window.gone) if window.gone is not None else None,
                "revoked": window.revoked is not None,
                "brought_by": _entry(window.brought),
            }
            for window in found
        ],
    }


def _at_lines(screen: Screen, at: At) -> list[str]:
    lines = [*screen.heading(f"as of {moment_text(at.day)}"), *screen.rows(_moment_rows(at.chosen))]
    for registry, keys in sorted(at.keys.items()):
        entry = at.chosen.moment.registries[registry]
        rows: list[Row] = []
        for key in keys.keys:
            window = _window(at, registry, key.id, key.usages)
            since = f"; allowed {_since(window.first)}, by {_by(window.brought)}" if window is not None else ""
            rows.append((key.status.value, f"{key.id} {', '.join(key.usages)}{since}", TONES[key.status]))
        rows += [
            (KeyStatus.REVOKED.value, keyid) for keyid in keys.revoked if keyid not in {key.id for key in keys.keys}
        ]
        lines += ["", *screen.heading(f"{registry}, by {_by(entry)}"), *screen.rows(rows)]
    return lines


def _moment_rows(chosen: Chosen) -> list[Row]:
    moment = chosen.moment
    rows: list[Row] = [
        ("versions", ", ".join(f"{name} {version}" for name, version in sorted(moment.versions.items()))),
        ("held", _since(moment)),
        ("valid until", f"{moment_text(moment.valid_until)} (signed)"),
        ("from", moment.origin),
    ]
    if not chosen.certain:
        rows.append(
            ("note", "nobody says since when: it is the oldest known set that had not expired by then", Tone.CAUTION)
        )
    if chosen.expired:
        rows.append(("note", "it had expired by then, and no newer set is known", Tone.CAUTION))
    return rows


def _window(at: At, registry: str, keyid: str, usages: tuple[str, ...]) -> KeyWindow | None:
    named = [each for each in at.windows[registry] if (each.key.id, each.key.usages) == (keyid, usages)]
    return named[0] if named else None


def _since(moment: Moment) -> str:
    if moment.since is None or moment.basis is None:
        return f"since some time before {moment_text(moment.valid_until)}"
    how = "signed" if moment.basis.value == "signed" else "first seen by this machine"
    return f"since {moment_text(moment.since)} ({how})"


def _end(moment: Moment) -> str:
    return f"valid until {moment_text(moment.valid_until)}"


def _last(window: KeyWindow) -> str:
    if window.gone is None:
        return "allowed to the end of the history"
    verb = "revoked" if window.revoked is not None else "dropped"
    return f"{verb} {_since(window.gone)}"


def _by(entry: RegistryKeys) -> str:
    signers = ", ".join(keyid[:8] for keyid in entry.signed_by)
    return f"{entry.role} version {entry.version}, signed by {signers}"


def _at(at: At) -> dict[str, Any]:
    return {
        "time": format_time(at.day),
        "moment": _moment(at.chosen.moment),
        "certain": at.chosen.certain,
        "expired": at.chosen.expired,
        "registries": [
            {
                "registry": registry,
                "target": keys.target,
                "sha256": keys.sha256,
                "brought_by": _entry(at.chosen.moment.registries[registry]),
                "keys": [_key(at, registry, index) for index in range(len(keys.keys))],
                "revoked": list(keys.revoked),
            }
            for registry, keys in sorted(at.keys.items())
        ],
    }


def _key(at: At, registry: str, index: int) -> dict[str, Any]:
    key = at.keys[registry].keys[index]
    window = _window(at, registry, key.id, key.usages)
    return {
        "id": key.id,
        "usages": list(key.usages),
        "status": key.status.value,
        "fingerprint": key.fingerprint,
        "first": _moment(window.first) if window is not None else None,
    }


def _moment(moment: Moment) -> dict[str, Any]:
    return {
        "origin": moment.origin,
        "since": _time(moment.since),
        "basis": moment.basis.value if moment.basis is not None else None,
        "valid_until": format_time(moment.valid_until),
        "roles": [
            {"name": name, "version": version, "signed_by": list(moment.signed_by.get(name, ()))}
            for name, version in sorted(moment.versions.items())
        ],
    }


def _entry(entry: RegistryKeys) -> dict[str, Any]:
    return {"role": entry.role, "version": entry.version, "signed_by": list(entry.signed_by)}


def _time(moment: datetime | None) -> str | None:
    return format_time(moment) if moment is not None else None
