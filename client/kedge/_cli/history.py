"""``kedge history``: which keys were trusted on a day, since when, by which metadata, and who signed it.

``kedge history --from-log``: every key that was ever allowed for a registry, shown to be all of them.

The history in words, and as ``kedge.history/1``, ``kedge.history-diff/1`` and ``kedge.history-keys/1``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from kedge._cli.options import (
    AnchorName,
    Json,
    at_named_mirrors,
    project_lock,
    read_as_of,
    read_mirror,
    registry_ids,
    settings,
    takes_mirrors,
    the_anchor,
)
from kedge._cli.output import TONES, Screen, Tone, answer, answer_json, moment_text, warn
from kedge.audit import (
    Change,
    Chosen,
    KeptSet,
    KeyWindow,
    Moment,
    RegistryKeys,
    Story,
    WholeLog,
    differences,
    kept_in_folder,
    kept_in_mirror,
    kept_in_state,
    moment_at,
    read_whole_log,
    tell,
    windows,
)
from kedge.client import Anchor, KeyLeaf, Store
from kedge.documents import format_time
from kedge.errors import ExitCode, InputError
from kedge.files import state_folder
from kedge.registries import KeySet, KeyStatus
from kedge.transport import BUNDLE_SUFFIX


def history_from_log(anchor: Anchor, registry: str | None, *, as_json: bool) -> None:
    """Print every key event of the log, of one registry or of all; exit 5 where the log contradicts itself."""
    timeout_s = float(settings().timeout_s.value)
    log = read_whole_log(at_named_mirrors(anchor), timeout_s=timeout_s, lock=project_lock(), registry=registry)
    events = [(entry.index, entry.leaf) for entry in log.history.entries if isinstance(entry.leaf, KeyLeaf)]
    if as_json:
        answer_json(_table(anchor, log, events))
    else:
        answer(_lines(log, events))
    if log.history.faults:
        raise typer.Exit(ExitCode.FAULTS)


def _table(anchor: Anchor, log: WholeLog, events: list[tuple[int, KeyLeaf]]) -> dict[str, Any]:
    witnessed = log.witnessed
    return {
        "format": "kedge.log-history/1",
        "anchor": anchor.name,
        "log": {
            "origin": witnessed.origin,
            "size": witnessed.size,
            "root": witnessed.root.hex(),
            "time": format_time(witnessed.time) if witnessed.time is not None else None,
        },
        "events": [
            {
                "index": index,
                "registry": leaf.registry,
                "event": leaf.event.value,
                "document": leaf.document,
                "key": {**_EVERY_FIELD, **leaf.key.to_table()},
            }
            for index, leaf in events
        ],
        "faults": [{"index": fault.index, "problem": fault.problem} for fault in log.history.faults],
    }


_EVERY_FIELD = dict.fromkeys(
    ("id", "usages", "algorithm", "format", "sha256", "material", "from", "until", "time_basis", "revoked")
)


def _lines(log: WholeLog, events: list[tuple[int, KeyLeaf]]) -> list[str]:
    screen, witnessed = Screen.of_stdout(), log.witnessed
    when = f", witnessed {moment_text(witnessed.time)}" if witnessed.time is not None else ""
    lines = screen.heading(f"{witnessed.origin}: all {witnessed.size} entries{when}")
    rows = [("root hash", witnessed.root.hex())]
    for index, leaf in events:
        window = " ".join(
            part
            for part in (
                f"from {leaf.key.valid_from}" if leaf.key.valid_from else "",
                f"until {leaf.key.valid_until}" if leaf.key.valid_until else "",
            )
            if part
        )
        usages = ", ".join(leaf.key.usages)
        rows.append((f"{index} {leaf.event.value}", f"{leaf.registry} {leaf.key.id}"))
        rows.append(("", ", ".join(part for part in (usages, window) if part) or "no entry in the key document"))
    lines += screen.rows(rows)
    for fault in log.history.faults:
        lines += screen.rows([("contradiction", f"entry {fault.index}: {fault.problem}")])
    return lines


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


Places = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        metavar="DIR|URL",
        help="A folder of bundles, a copy, or a mirror; else this machine's state. May be repeated.",
        show_default=False,
    ),
]
Registries = Annotated[
    list[str] | None,
    typer.Option(
        "--registry", metavar="ID", help="Registries; else those that the anchor speaks for. May be repeated."
    ),
]
Day = Annotated[str, typer.Argument(metavar="TIME", help="A time, or a date.")]


@takes_mirrors
def history(
    context: typer.Context,
    at: Annotated[
        str | None,
        typer.Option("--at", "--as-of", metavar="TIME", help="Answer for this time, or date.", show_default=False),
    ] = None,
    place: Places = None,
    from_log: Annotated[
        bool,
        typer.Option("--from-log", help="Every key ever allowed, by the whole log: none is left out."),
    ] = False,
    registry: Registries = None,
    anchor: AnchorName = None,
    json: Json = False,
) -> None:
    """Which keys were trusted on a day, since when, by which metadata version, and who signed it.

    Without a command it lists every moment that it knows, or answers for the day of --at. What it knows comes from a
    state with keep_history, or from places that --from names: a folder of bundles, or a copy that kedge mirror sync
    made. All of it is verified from the anchor.

    With --from-log all entries of the repository's log are read, and must make the root hash that the log and its
    witnesses signed. Exit 5 where the log contradicts itself.
    """
    if context.invoked_subcommand is not None:
        return
    chosen = the_anchor(anchor)
    if from_log:
        _from_log(chosen, place, at, registry or [], json=json)
        return
    story = _story(chosen, place, registry or chosen.registries)
    asked = _at_history(story, _time_history(at)) if at is not None else None
    if json:
        answer_json(history_document(chosen.name, story, asked))
    else:
        answer(history_lines(Screen.of_stdout(), story, asked))


def diff(
    before: Day,
    after: Day,
    place: Places = None,
    registry: Registries = None,
    anchor: AnchorName = None,
    json: Json = False,
) -> None:
    """Say what changed between two times: versions, signers, and keys one by one."""
    chosen = the_anchor(anchor)
    story = _story(chosen, place, registry or chosen.registries)
    pair = tuple(_at_history(story, _time_history(day)) for day in (before, after))
    changes = differences(pair[0].chosen.moment, pair[1].chosen.moment)
    if json:
        answer_json(diff_document(chosen.name, pair, changes))
    else:
        answer(diff_lines(Screen.of_stdout(), pair, changes))


def keys(
    registry: Annotated[
        str, typer.Argument(metavar="REGISTRY", help="A registry's id, such as its host.", autocompletion=registry_ids)
    ],
    place: Places = None,
    anchor: AnchorName = None,
    json: Json = False,
) -> None:
    """List every key that was ever allowed for a registry: from when, until when, and by whose word."""
    chosen = the_anchor(anchor)
    found = windows(_story(chosen, place, [registry]), registry)
    if json:
        answer_json(windows_document(chosen.name, registry, found))
    else:
        answer(windows_lines(Screen.of_stdout(), registry, found))


def _from_log(
    anchor: Anchor, places: Sequence[str] | None, at: str | None, registries: Sequence[str], *, json: bool
) -> None:
    if places or at is not None or len(registries) > 1:
        raise InputError("--from-log goes with one --registry at most, and with neither --from nor --at")
    history_from_log(anchor, registries[0] if registries else None, as_json=json)


def _story(anchor: Anchor, places: Sequence[str] | None, registries: Iterable[str]) -> Story:
    story = tell(anchor, _sets(anchor, places), registries)
    for text in story.left_out:
        warn(f"left out: {text}")
    return story


def _sets(anchor: Anchor, places: Sequence[str] | None) -> Iterator[KeptSet]:
    if not places:
        yield from kept_in_state(Store(state_folder() / anchor.name))
    for place in places or ():
        folder = Path(place)
        if "://" not in place and not folder.is_dir():
            raise InputError(f"{place}: there is no such folder", hint="name a folder of bundles, a copy, or a URL")
        if "://" not in place and (folder / "state.json").is_file():
            yield from kept_in_state(Store(folder))
        elif "://" not in place and next(folder.rglob(f"*{BUNDLE_SUFFIX}"), None) is not None:
            yield from kept_in_folder(folder)
        else:
            yield from kept_in_mirror(read_mirror(place, anchor.mirrors[0]), anchor)


def _at_history(story: Story, day: datetime) -> At:
    chosen = moment_at(story, day)
    entries = {registry: entry.as_of(day) for registry, entry in chosen.moment.registries.items()}
    known = {registry: windows(story, registry) for registry in entries}
    return At(day=day, chosen=chosen, keys=entries, windows=known)


def _time_history(text: str) -> datetime:
    moment = read_as_of(text)
    if moment is None:
        raise InputError("a time must be given")
    return moment
