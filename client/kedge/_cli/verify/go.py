"""``kedge verify go``: hold a ``go.sum`` against a checksum database, with a key that no proxy can replace."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from kedge._cli.keys import speaking_anchor
from kedge._cli.options import AnchorName, Json, RequireRefresh, open_client, takes_mirrors
from kedge._cli.output import progress_bar, read_file, warn
from kedge._cli.verify import conclude
from kedge.client import Store
from kedge.documents import blame_user
from kedge.errors import StoreError, VerificationError
from kedge.files import state_folder
from kedge.registries import Checklist, KeySet, Memory
from kedge.registries.go import (
    GOOD,
    SumDatabase,
    SumLine,
    TreeHead,
    Verified,
    database_name,
    later,
    read_lines,
    read_sums,
    remembered,
    verify_sums,
)
from kedge.transport import Mirror, open_mirror

DEFAULT = "go/sum.golang.org"
MAX_SUM_BYTES = 256 << 20


@takes_mirrors
def go(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A go.sum, or a folder with one.")] = ".",
    registry: Annotated[str, typer.Option(metavar="ID", help="The checksum database's id.")] = DEFAULT,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where it is served, such as a proxy's https://PROXY/sumdb/NAME; else where its key says.",
            show_default=False,
        ),
    ] = None,
    skip: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERNS", help="Leave out such modules (else: GONOSUMDB or GOPRIVATE).", show_default=False
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(metavar="S", min=0.1, max=3600, help="Seconds in all.")] = 120.0,
    anchor: AnchorName = None,
    require_refresh: RequireRefresh = False,
    everything: Annotated[bool, typer.Option("--all", help="List every line.", show_default=False)] = False,
    json: Json = False,
) -> None:
    """Verify a go.sum.

    Each line is proven to be in the tree of the checksum database, and the tree to go on from the one that was seen
    last. Exit status: 5 if a line is not verified, 3 if the database's tree heads must not be trusted.
    """
    database_name(registry)  # another kind of registry is the user's mistake
    name, lines = _read(path)
    patterns, told = _patterns(skip)
    with open_client(speaking_anchor(registry, anchor), require_refresh=require_refresh) as client:
        keys = client.registry_keys(registry)
        trust = client.trust
    memory = Memory("go")
    seen = remembered(memory.recall(registry), place=str(memory.path(registry)))
    transport = open_mirror(Mirror(url=url or _address(keys), metadata="", targets=""))
    modules = len({line.module for line in lines})
    with closing(transport), progress_bar("looking up", modules) as progress:
        database = SumDatabase(transport, timeout_s=timeout)
        try:
            verified = verify_sums(lines, keys, database, seen=seen, skip=patterns, progress=progress)
        except VerificationError as error:
            raise _with_exhibits(error, trust.anchor) from error
    if verified.head is not None:
        _remember(memory, registry, verified.head)
    found = _checklist(name, verified, keys, database.source, seen, told)
    conclude(found, trust, everything=everything, json=json)


def _read(path: str) -> tuple[str, tuple[SumLine, ...]]:
    file = Path(path) / "go.sum" if Path(path).is_dir() else Path(path)
    data = read_file(file, MAX_SUM_BYTES)
    with blame_user(str(file)):
        return str(file), read_sums(data)


def _patterns(skip: str | None) -> tuple[str, str]:
    """The patterns of modules that are left out, and where they come from."""
    if skip is not None:
        return skip, "--skip"
    for variable in ("GONOSUMDB", "GOPRIVATE"):
        if os.environ.get(variable):
            return os.environ[variable], variable
    return "", ""


def _address(keys: KeySet) -> str:
    first = read_lines(keys.document)[0]
    return first.url or f"https://{database_name(keys.registry)}"


def _with_exhibits(error: VerificationError, anchor: str) -> VerificationError:
    """Keep the signed heads that contradict each other, and say where."""
    if not error.refusal.exhibits:
        return error
    store = Store(state_folder() / anchor)
    try:
        kept = [str(store.keep_exhibit(data, suffix="note")) for data in error.refusal.exhibits]
    except StoreError as fault:
        warn(f"the two tree heads could not be kept: {fault.message}")
        return error
    return type(error)(f"{error.message}; kept as {' and '.join(kept)}", refusal=error.refusal, hint=error.hint)


def _remember(memory: Memory, registry: str, head: TreeHead) -> None:
    place = str(memory.path(registry))
    try:
        memory.update(registry, lambda seen: later(remembered(seen, place=place), head).to_table())
    except StoreError as error:
        warn(f"what was seen could not be written down: {error.message}")


def _checklist(
    name: str, verified: Verified, keys: KeySet, source: str, seen: TreeHead | None, skipped_by: str
) -> Checklist:
    basis = [
        ("keys of", f"{keys.target} ({len(keys.keys)} {'key' if len(keys.keys) == 1 else 'keys'})"),
        ("asked", source),
    ]
    if verified.head is not None:
        basis.append(("tree", verified.head.describe()))
        basis.append(("signed by", ", ".join(verified.head.signers)))
    basis.append(("seen before", seen.describe() if seen is not None else "nothing: this is the first tree head here"))
    if skipped_by:
        basis.append(("left out by", skipped_by))
    remark = (
        "Checked: that each line is what the database has recorded for everybody, and that its tree goes on from what "
        "this machine has seen. Not checked: the module files on this disk (go mod verify does that); whether newer "
        "versions exist. A tree head has no date: a mirror can hold a machine on an old tree, but not take it back."
    )
    return Checklist(
        kind="go",
        subject=name,
        things=("line", "lines"),
        good=frozenset(GOOD),
        items=verified.items,
        basis=tuple(basis),
        remarks=(remark,) if verified.items else (),
    )
