"""``kedge history --from-log``: every key that was ever allowed for a registry, shown to be all of them."""

from __future__ import annotations

from typing import Any

import typer

from kedge._cli.clients import project_lock
from kedge._cli.mirrors import at_named_mirrors
from kedge._cli.options import settings
from kedge._cli.output import Screen, answer, answer_json
from kedge._cli.words import moment_text
from kedge.anchor import Anchor
from kedge.document import format_time
from kedge.errors import ExitCode
from kedge.keylog.leaf import KeyLeaf
from kedge.wholelog import WholeLog, read_whole_log

__all__ = ["history_from_log"]


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
