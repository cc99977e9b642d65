"""``kedge verify apt``: hold a suite, its indexes and packages against keys that no mirror can replace."""

from __future__ import annotations

import platform
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from kedge._cli.keys import speaking_anchor
from kedge._cli.options import AnchorName, Json, RequireRefresh, open_client, takes_mirrors
from kedge._cli.output import read_file
from kedge._cli.verify import basis_of, conclude, is_short
from kedge.registries import Checked, Checklist, KeySet, Memory, Served
from kedge.registries.apt import (
    GOOD,
    Policy,
    check_indexes,
    check_packages,
    fetch_indexes,
    not_needed,
    suite_of,
    verify_release,
    verify_served,
)
from kedge.registries.pgp import find_checker
from kedge.tuf import Trust

MAX_INDEX_BYTES = 512 << 20
MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "armhf", "i686": "i386", "ppc64le": "ppc64el"}
REMARK = (
    "Checked: that a key of this registry signed the Release, that it is as new as can be known, and that the indexes "
    "and packages named are those it lists. Not checked: what else the archive holds, and what is installed."
)


@takes_mirrors
def apt(
    release: Annotated[
        str,
        typer.Argument(metavar="SUITE", help="A suite's folder at a mirror (URL or path), or a Release file on disk."),
    ],
    packages: Annotated[
        list[Path] | None, typer.Argument(metavar="DEB", help="Packages on disk to hold against it.")
    ] = None,
    registry: Annotated[
        str, typer.Option("--registry", "-r", metavar="ID", help="Whose keys: apt/NAME.")
    ] = "apt/debian",
    suite: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The suite that is meant, if the address does not say.", show_default=False),
    ] = None,
    index: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A Packages index on disk, not the mirror's (repeat).", show_default=False),
    ] = None,
    component: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Look for packages in this component (repeat).", show_default=False),
    ] = None,
    arch: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Look for packages of this architecture (repeat).", show_default=False),
    ] = None,
    max_age: Annotated[
        int, typer.Option(metavar="DAYS", min=0, max=36500, help="How old a Release without Valid-Until may be.")
    ] = 180,
    accept_older: Annotated[
        bool, typer.Option("--accept-older", help="Take a Release older than one seen, and remember it.")
    ] = False,
    anchor: AnchorName = None,
    require_refresh: RequireRefresh = False,
    timeout: Annotated[
        float, typer.Option(metavar="S", min=0.1, max=3600, help="Seconds for each file, in all.")
    ] = 60.0,
    everything: Annotated[bool, typer.Option("--all", help="List everything that was checked.")] = False,
    json: Json = False,
) -> None:
    """Verify an apt repository.

    The Release's signatures are judged by gpgv's word, its age by its dates and by what this machine saw before, and
    packages by the chain of digests below it. Exit status 5: something is not verified.
    """
    keys, trust = _keys(registry, anchor, require_refresh=require_refresh)
    policy = Policy(max_age=timedelta(days=max_age), suite=suite or suite_of(release), accept_older=accept_older)
    base, file = _place(release)
    with Served(base, timeout_s=timeout, allow_plain_http=True) as served:
        judge = partial(verify_release, keys=keys, checker=find_checker(), policy=policy, memory=Memory("apt"))
        verified = verify_served(served, file, partial(judge, now=trust.reference_time))
        checks: list[Checked] = [verified.check]
        given = [(str(path), read_file(path, MAX_INDEX_BYTES)) for path in index or []]
        if packages and not given and verified.release is not None:
            architectures = arch or [MACHINES.get(platform.machine(), platform.machine())]
            for found in fetch_indexes(
                served, verified.release, components=component or (), architectures=architectures
            ):
                if isinstance(found, Checked):
                    checks.append(found)
                else:
                    given.append(found)
    indexes, told = check_indexes(verified.release, given)
    found_packages = check_packages(indexes, packages or [])
    if not component and packages and not any(check.is_fault for check in found_packages):
        checks = [not_needed(check) for check in checks]
    checks += [*told, *found_packages]
    result = Checklist(
        kind="apt",
        subject=release,
        things=("file", "files"),
        good=GOOD,
        items=tuple(checks),
        basis=basis_of(keys, trust),
        remarks=(REMARK,),
    )
    conclude(result, trust, everything=everything or is_short(result), json=json)


def _keys(registry: str, anchor: str | None, *, require_refresh: bool) -> tuple[KeySet, Trust]:
    with open_client(speaking_anchor(registry, anchor), require_refresh=require_refresh) as client:
        return client.registry_keys(registry), client.trust


def _place(release: str) -> tuple[str, str | None]:
    """The folder or URL of a suite, and the file in it that is meant, if one is."""
    base, slash, name = release.rpartition("/")
    if name.endswith(("InRelease", "Release")):
        return (base or (slash or ".")), name
    return release, None
