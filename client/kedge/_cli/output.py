"""What leaves the process: the answer on stdout, all else on stderr.

Texts that somebody else chose pass through :func:`visible`, so that no served name can move a terminal's cursor.
Colour is for terminals only, and ``NO_COLOR`` switches it off. Lines are folded where a width is known: on a terminal,
or where ``COLUMNS`` says so; a file or a pipe gets whole lines.

Files that the user named: read whole, and no further than what a file of their kind may be.

Files that a command was asked to write: whole or not at all, and never through a planted link.

A bar on stderr while something takes its time, where that is a terminal; nothing elsewhere.

The objects of ``--json``: ``kedge.trust/1``, ``kedge.keys/1`` and ``kedge.anchors/1``.

Their schemas stand in docs/reference/formats.md. Times are texts such as ``2025-01-27T00:00:00Z``.

The same answers in words: aligned lines that fit a narrow terminal and a wide one.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

from kedge import tuf
from kedge.client import Anchor, Transparency
from kedge.documents import format_time
from kedge.errors import InputError, KedgeError, StoreError
from kedge.files import sync_folder
from kedge.registries import KeySet, KeyStatus, RegistryKey
from kedge.tuf import AgeBasis, LogState, RoleState, Trust


def read_file(file: Path, max_bytes: int, *, what: str | None = None, hint: str | None = None) -> bytes:
    """Read a file; ``what`` it is meant to be is said where it is too long for that, ``hint`` where it is not there.

    Raises:
        InputError: it cannot be read, or is longer than ``max_bytes``.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{file}: cannot be read: {reason.lower()}", hint=hint) from error
    if len(data) > max_bytes:
        more = f", which no {what} is" if what is not None else ""
        raise InputError(f"{file}: is longer than {max_bytes >> 20} MiB{more}")
    return data


def replace_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put ``data`` at ``path`` in one step: a reader sees the old file or the new one, whole.

    Raises:
        StoreError: it cannot be written; what was there stays.
    """
    try:
        _replace(path, data, mode)
    except OSError as error:
        text = f"{path}: cannot be written: {(error.strerror or str(error)).lower()}"
        raise StoreError(text, hint="make room, mend the permissions, or name another file") from error


def _replace(path: Path, data: bytes, mode: int) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        os.replace(temporary, path)  # noqa: PTH105 the name for what the docstring promises
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)  # noqa: PTH108 as above
        raise
    sync_folder(path.parent)


MIN_VALUE_COLUMNS = 16


class Tone(Enum):
    """How a piece of text is set off on a terminal that shows colour."""

    PLAIN = ""
    HEADING = "1"
    GOOD = "32"
    CAUTION = "33"
    BAD = "31"


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """What stdout can show. ``columns`` is None where lines need no folding."""

    columns: int | None
    colour: bool

    @classmethod
    def of_stdout(cls) -> Screen:
        """What this process's stdout can show."""
        terminal = sys.stdout.isatty()
        known = terminal or os.environ.get("COLUMNS", "").isdecimal()
        return cls(
            columns=shutil.get_terminal_size().columns if known else None,
            colour=terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
        )

    def heading(self, text: str, tone: Tone = Tone.HEADING) -> list[str]:
        """A line of its own, at the left."""
        return [self._set(line, tone) for line in self._fold(visible(text), 0)]

    def rows(self, rows: Sequence[tuple[str, str] | tuple[str, str, Tone]]) -> list[str]:
        """Labels and values, aligned; the tone is the value's first word's."""
        indent = 4 + max((len(visible(label)) for label, *_ in rows), default=0)
        if self.columns is not None and self.columns - indent < MIN_VALUE_COLUMNS:
            indent = 4
        lines: list[str] = []
        for label, value, *tone in rows:
            first, *rest = self._fold(visible(value), indent) or [""]
            if tone:
                word, space, others = first.partition(" ")
                first = f"{self._set(word.rstrip(','), tone[0])}{',' * word.endswith(',')}{space}{others}"
            shown = visible(label)
            if len(shown) + 4 > indent:
                lines += [f"  {shown}", f"{' ' * indent}{first}"]
            else:
                lines.append(f"  {shown:<{indent - 2}}{first}".rstrip())
            lines += [f"{' ' * indent}{line}" for line in rest]
        return lines

    def _fold(self, text: str, indent: int) -> list[str]:
        if self.columns is None:
            return [text]
        return textwrap.wrap(text, max(self.columns - indent, MIN_VALUE_COLUMNS), break_on_hyphens=False)

    def _set(self, text: str, tone: Tone) -> str:
        return f"\x1b[{tone.value}m{text}\x1b[0m" if self.colour and tone.value else text


def visible(text: str) -> str:
    """Show control characters, line ends and whatever else has no form of its own as escapes."""
    return text if text.isprintable() else "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def answer(lines: Iterable[str]) -> None:
    """Print the answer.

    Raises:
        StoreError: stdout cannot be written.
    """
    text = "".join(f"{line}\n" for line in lines)
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        raise StoreError(f"stdout cannot be written: {(error.strerror or str(error)).lower()}") from error


def answer_json(document: dict[str, Any], *, compact: bool = False) -> None:
    """Print the answer as one JSON object, in ASCII; ``compact``, on one line, is quicker where there is much of it.

    Raises:
        StoreError: stdout cannot be written.
    """
    answer([json.dumps(document, indent=None if compact else 1)])


def warn(text: str) -> None:
    """Say on stderr what the user should know beside the answer."""
    sys.stderr.write(f"kedge: warning: {_one_line(text)}\n")


def report(error: KedgeError) -> None:
    """Say on stderr what went wrong, and what to do next."""
    sys.stderr.write(f"kedge: {_one_line(error.message)}\n")
    if error.hint:
        sys.stderr.write(f"hint: {_one_line(error.hint)}\n")


def _one_line(text: str) -> str:
    return visible(re.sub(r"\s+", " ", text))


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Give a function that is told how many were just done."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda _count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda count: bar.advance(task, count)


def trust_document(answers: Sequence[Trust]) -> dict[str, Any]:
    """The answer of ``refresh`` and ``status``."""
    return {"format": "kedge.trust/1", "anchors": [trust_entry(trust) for trust in answers]}


def keys_document(answers: Sequence[tuple[KeySet, Trust]]) -> dict[str, Any]:
    """The answer of ``keys show`` (one registry) and ``keys list``."""
    return {"format": "kedge.keys/1", "registries": [_registry(keys, trust) for keys, trust in answers]}


def anchors_document(answers: Sequence[tuple[Anchor, bool]]) -> dict[str, Any]:
    """The answer of ``anchor add``, ``list`` and ``show``; beside each anchor, whether it ships with kedge."""
    return {"format": "kedge.anchors/1", "anchors": [_anchor(anchor, ships) for anchor, ships in answers]}


def trust_entry(trust: Trust) -> dict[str, Any]:
    """One anchor's entry."""
    return {
        "anchor": trust.anchor,
        "root": _role(trust.root),
        "timestamp": _role(trust.timestamp),
        "snapshot": _role(trust.snapshot),
        "targets": _role(trust.targets),
        "valid_until": format_time(trust.valid_until),
        "reference_time": format_time(trust.reference_time),
        "fetched": _time(trust.fetched),
        "source": trust.source,
        "refreshed": trust.refreshed,
        "stale": trust.stale,
        "age_s": int(trust.age.age.total_seconds()) if trust.age.age is not None else None,
        "age_basis": trust.age.basis.value if trust.age.basis is not None else None,
        "next_by": format_time(trust.age.next_by),
        "as_of": _time(trust.as_of),
        "warnings": list(trust.warnings),
        "log": _log(trust.log),
    }


def _log(log: LogState | None) -> dict[str, Any] | None:
    return {"origin": log.origin, "size": log.size, "time": _time(log.time)} if log is not None else None


def _registry(keys: KeySet, trust: Trust) -> dict[str, Any]:
    return {
        "registry": keys.registry,
        "target": keys.target,
        "sha256": keys.sha256,
        "keys": [_key(key) for key in keys.keys],
        "revoked": list(keys.revoked),
        "trust": trust_entry(trust),
    }


def _key(key: RegistryKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "usages": list(key.usages),
        "status": key.status.value,
        "valid_from": _time(key.valid_from),
        "valid_until": _time(key.valid_until),
        "time_basis": key.time_basis.value,
        "algorithm": key.algorithm,
        "format": key.format.value,
        "material": base64.b64encode(key.material).decode("ascii"),
        "fingerprint": key.fingerprint,
        "pem": key.pem,
    }


def _anchor(anchor: Anchor, ships: bool) -> dict[str, Any]:
    root = tuf.begin(anchor.initial_root, file=f"the root of anchor {anchor.name}").root
    return {
        "name": anchor.name,
        "ships": ships,
        "registries": list(anchor.registries),
        "mirrors": [
            {"url": mirror.url, "metadata": mirror.metadata, "targets": mirror.targets} for mirror in anchor.mirrors
        ],
        "root": {
            "version": root.version,
            "expires": format_time(root.expires),
            "sha256": hashlib.sha256(anchor.initial_root).hexdigest(),
        },
        "not_before": _time(anchor.not_before),
        "max_staleness_s": int(anchor.max_staleness.total_seconds()),
        "refresh_after_s": int(anchor.refresh_after.total_seconds()),
        "warn_after_s": int(anchor.warn_after.total_seconds()),
        "red_line_s": int(anchor.red_line.total_seconds()),
        "keep_history": anchor.keep_history,
        "transparency": anchor.transparency.value,
        "log_policy": anchor.log_policy,
    }


def _role(role: RoleState) -> dict[str, Any]:
    return {"version": role.version, "expires": format_time(role.expires)}


def _time(moment: datetime | None) -> str | None:
    return format_time(moment) if moment is not None else None


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
    root = tuf.begin(anchor.initial_root, file=f"the root of anchor {anchor.name}").root
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
        rows.append(("staleness", f"expired trust is used for {tuf.describe_age(anchor.max_staleness)}"))
    if anchor.refresh_after:
        rows.append(("refresh", f"asked for again after {tuf.describe_age(anchor.refresh_after)}"))
    if anchor.warn_after:
        rows.append(("warning", f"of trust that is {tuf.describe_age(anchor.warn_after)} old"))
    if anchor.red_line:
        rows.append(("red line", f"no answer from trust that is {tuf.describe_age(anchor.red_line)} old"))
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
        age = tuf.describe_age(trust.reference_time - trust.valid_until)
        rows.append(("stale", f"expired {age} ago; the anchor's policy still allows it", Tone.BAD))
    if trust.age.age is not None and trust.age.basis is AgeBasis.SIGNED and trust.age.since is not None:
        rows.append(("issued", f"{moment_text(trust.age.since)} (signed), {tuf.describe_age(trust.age.age)} ago"))
    if trust.age.age is not None and trust.age.basis is AgeBasis.SEEN:
        under = trust.age.age < timedelta(hours=1)
        told = "under an hour" if under else f"at least {tuf.describe_age(trust.age.age)}"
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
