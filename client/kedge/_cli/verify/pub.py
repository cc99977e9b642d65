"""``kedge verify pub``: hold a ``pubspec.lock`` against signed listings of versions, and a mirror too."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from kedge._cli.keys import speaking_anchor
from kedge._cli.options import AnchorName, Json, RequireRefresh, open_client
from kedge._cli.output import progress_bar, read_file
from kedge._cli.verify import conclude
from kedge.client import TrustClient
from kedge.documents import blame_served, blame_user
from kedge.errors import Reason, VerificationError
from kedge.registries import Checked, Checklist
from kedge.registries.pub import (
    GOOD,
    LockedPackage,
    Mirrored,
    Pub,
    PubSource,
    ask_mirror,
    default_source,
    find_archives,
    judge,
    plan,
    read_lock,
    read_source,
)
from kedge.transport import Mirror, open_mirror
from kedge.tuf import get_all

DEFAULT = "pub/pub.dev"
MAX_LOCK_BYTES = 64 << 20


def pub(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A pubspec.lock, or a folder with one.")] = ".",
    registry: Annotated[str, typer.Option(metavar="ID", help="The registry's id.")] = DEFAULT,
    mirror: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Hold what this mirror shows against it too.", show_default=False),
    ] = None,
    archives: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Hold the archives in this folder against it too.", show_default=False),
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Leave out this package (repeat).", show_default=False)
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="A version that was retracted is a fault.", show_default=False)
    ] = False,
    timeout: Annotated[
        float, typer.Option(metavar="S", min=0.1, max=3600, help="Seconds in all for the listings, and for the mirror.")
    ] = 120.0,
    anchor: AnchorName = None,
    require_refresh: RequireRefresh = False,
    everything: Annotated[bool, typer.Option("--all", help="List every package.", show_default=False)] = False,
    json: Json = False,
) -> None:
    """Verify a pubspec.lock.

    Each hosted package is held against the signed listing of its versions; offline too, from what is stored. Exit
    status 5: something is not verified.
    """
    Pub().target_path(registry)  # another kind of registry is the user's mistake
    name, packages = _read(path)
    with open_client(speaking_anchor(registry, anchor), require_refresh=require_refresh) as client:
        source = _source(client, registry)
        planned = plan(packages, registry, source, skip or ())
        listings = get_all(partial(client.follow, timeout_s=timeout), planned.paths.values())
        trust = client.trust
    mirrored = _mirrored(mirror, list(planned.paths), timeout) if mirror is not None else None
    found = find_archives(archives, packages) if archives is not None else None
    items = tuple(judge(packages, planned, listings, mirrored=mirrored, archives=found, strict=strict))
    checked = _checklist(name, items, source, registry, mirror, archives, found, strict=strict)
    conclude(checked, trust, everything=everything, json=json)


def _read(path: str) -> tuple[str, tuple[LockedPackage, ...]]:
    file = Path(path) / "pubspec.lock" if Path(path).is_dir() else Path(path)
    data = read_file(file, MAX_LOCK_BYTES)
    with blame_user(str(file)):
        return str(file), read_lock(data)


def _source(client: TrustClient, registry: str) -> PubSource:
    """What the repository says of the registry; where it says nothing, its own URL."""
    path = Pub().target_path(registry)
    try:
        target = client.target(path)
    except VerificationError as error:
        if error.refusal.reason is not Reason.NOT_FOUND:
            raise
        return default_source(registry)
    with blame_served(path):
        return read_source(target.data)


def _mirrored(mirror: str, names: list[str], timeout: float) -> dict[str, Mirrored]:
    transport = open_mirror(Mirror(url=mirror, metadata="", targets=""))
    with closing(transport), progress_bar("asking the mirror", len(names)) as progress:
        return ask_mirror(transport, names, timeout_s=timeout, progress=progress)


def _checklist(
    name: str,
    items: tuple[Checked, ...],
    source: PubSource,
    registry: str,
    mirror: str | None,
    archives: Path | None,
    found: dict[tuple[str, str], Path] | None,
    *,
    strict: bool,
) -> Checklist:
    basis = [("listings of", f"{registry}, which is {source.url}")]
    if source.mirrors:
        basis.append(("the same source", ", ".join(source.mirrors)))
    if mirror is not None:
        basis.append(("mirror", mirror))
    if archives is not None:
        basis.append(("archives", f"{len(found or {})} in {archives}"))
    if strict:
        basis.append(("strict", "a version that was retracted is a fault"))
    return Checklist(
        kind="pub",
        subject=name,
        things=("package", "packages"),
        good=frozenset(GOOD),
        items=items,
        basis=tuple(basis),
        remarks=(_remark(mirror, archives),) if items else (),
    )


def _remark(mirror: str | None, archives: Path | None) -> str:
    more = ", what the mirror shows" if mirror is not None else ""
    more += ", and the archives that were found" if archives is not None else ""
    return (
        f"Checked: the lock file's digests{more}, against listings that keyholders signed for and that cannot be taken "
        "back. Not checked: who wrote a package; what the pub cache holds today."
    )
