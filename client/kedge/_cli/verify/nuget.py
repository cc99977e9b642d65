"""``kedge verify nuget``: hold packages against a feed's certificates, which the feed itself cannot replace."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kedge._cli.keys import speaking_anchor
from kedge._cli.options import AnchorName, Json, RequireRefresh, open_client, takes_mirrors
from kedge._cli.output import progress_bar
from kedge._cli.verify import conclude
from kedge.documents import blame_served
from kedge.registries import Checked, Checklist, KeySet
from kedge.registries.nuget import (
    GOOD,
    REPOSITORY,
    TIMESTAMP,
    Feed,
    NuGet,
    Outcome,
    find_packages,
    read_feed,
    verify_packages,
)

DEFAULT = "nuget/api.nuget.org"


@takes_mirrors
def nuget(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH", help="Package files (*.nupkg), or folders with some; else this folder."),
    ] = None,
    registry: Annotated[str, typer.Option(metavar="ID", help="The feed's id.")] = DEFAULT,
    strict: Annotated[
        bool, typer.Option("--strict", help="A time that nobody vouches for is a fault.", show_default=False)
    ] = False,
    anchor: AnchorName = None,
    require_refresh: RequireRefresh = False,
    everything: Annotated[bool, typer.Option("--all", help="List every package.", show_default=False)] = False,
    json: Json = False,
) -> None:
    """Verify NuGet packages.

    Each file's content, the signatures over it, and the certificates that made them are held against the feed's list
    in the verified repository, and never against what the feed offers today. Exit status 5: something is not verified.
    """
    NuGet().target_path(registry)  # another kind of registry is the user's mistake
    files = find_packages(paths or [Path()])
    with open_client(speaking_anchor(registry, anchor), require_refresh=require_refresh) as client:
        keys = client.registry_keys(registry)
        target = client.target(keys.target)
        trust = client.trust
    with blame_served(keys.target):
        feed = read_feed(registry, target.custom)
    with progress_bar("verifying", len(files)) as progress:
        items = tuple(verify_packages(files, keys, feed, strict=strict, progress=progress))
    found = _checklist(paths, items, keys, feed, strict=strict)
    conclude(found, trust, everything=everything, json=json)


def _checklist(
    paths: list[Path] | None, items: tuple[Checked, ...], keys: KeySet, feed: Feed, *, strict: bool
) -> Checklist:
    count = sum(REPOSITORY in key.usages for key in keys.keys)
    pinned = sum(TIMESTAMP in key.usages for key in keys.keys)
    index = feed.service_index or f"any on {feed.host.partition('/')[0]}: none is signed for"
    return Checklist(
        kind="nuget",
        subject=", ".join(map(str, paths)) if paths else "this folder",
        things=("package", "packages"),
        good=frozenset(GOOD),
        items=items,
        basis=(
            ("certificates of", f"{keys.target} ({count})"),
            ("service index", index),
            ("time stamps", _pinned(pinned)),
            *([("strict", "a time that nobody vouches for is a fault")] if strict else []),
        ),
        remarks=tuple(_remarks(items)),
    )


def _pinned(count: int) -> str:
    return "1 authority is pinned" if count == 1 else f"{count or 'no'} authorities are pinned"


CHECKED = (
    "Checked: that what each file holds is what was signed, by whom, for which service index, and when. Not checked: "
    "what an installed folder holds; whether newer versions exist; the chain above a certificate, since it is pinned."
)
UNVERIFIED = (
    "{} signed with a certificate that has expired. A time stamp says that it was valid then, and nobody vouches for "
    "whoever made the time stamp: whoever stole the expired key could have made one. The keyholders can pin time stamp "
    "authorities (custom.nuget.timestamp_authorities); --strict counts it as a fault."
)


def _remarks(items: tuple[Checked, ...]) -> list[str]:
    count = sum(item.outcome is Outcome.VERIFIED_TIME_UNVERIFIED for item in items)
    are = "1 package is" if count == 1 else f"{count} packages are"
    return ([CHECKED] if items else []) + ([UNVERIFIED.format(are)] if count else [])
