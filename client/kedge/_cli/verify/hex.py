"""``kedge verify hex``: hold what a ``mix.lock`` names against the signatures of a Hex repository."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from kedge._cli.keys import speaking_anchor
from kedge._cli.options import AnchorName, Json, RequireRefresh, open_client
from kedge._cli.output import read_file
from kedge._cli.verify import basis_of, conclude, is_short
from kedge.documents import blame_user
from kedge.errors import InputError
from kedge.registries import Checklist, Memory, Served, find_registry
from kedge.registries.hex import GOOD, JOBS, NAME, Locked, Policy, Settings, read_lock, verify_packages

MAX_LOCK_BYTES = 64 << 20
HEXPM = "https://repo.hex.pm"
REMARK = (
    "Checked: that the repository's key signed each package's list of releases, that it hides nothing which this "
    "machine saw before, and that the locked content is the signed one. Not checked: releases that nobody here has "
    "seen yet; who wrote a package; what lies unpacked in deps."
)


def hex_(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A mix.lock, or a folder with one.")] = Path(),
    package: Annotated[
        list[str] | None,
        typer.Option(
            "--package", metavar="NAME", help="Verify these packages, no lock file (repeat).", show_default=False
        ),
    ] = None,
    registry: Annotated[
        str, typer.Option("--registry", "-r", metavar="ID", help="Whose keys: hex/NAME.")
    ] = "hex/hexpm",
    mirror: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where it is served: a URL or a folder; else HEX_MIRROR.", show_default=False),
    ] = None,
    tarballs: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Hold NAME-VERSION.tar in this folder against it too.", show_default=False),
    ] = None,
    accept_older: Annotated[
        bool, typer.Option("--accept-older", help="Take what hides releases seen before, and remember it.")
    ] = False,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, max=64, help="Ask for so many at a time.")] = JOBS,
    timeout: Annotated[
        float, typer.Option(metavar="S", min=0.1, max=3600, help="Seconds for each package, in all.")
    ] = 60.0,
    anchor: AnchorName = None,
    require_refresh: RequireRefresh = False,
    everything: Annotated[bool, typer.Option("--all", help="List every package.")] = False,
    json: Json = False,
) -> None:
    """Verify what a mix.lock holds.

    The signature over each package's releases is checked with keys from the verified repository, then the locked
    checksums are held against it. Exit status 5: something is not verified.
    """
    locked = [_named(name, registry) for name in package] if package else _read_lock(path)
    address = _address(registry, mirror)
    with open_client(speaking_anchor(registry, anchor), require_refresh=require_refresh) as client:
        keys, trust = client.registry_keys(registry), client.trust
    settings = Settings(
        keys=keys,
        open_served=lambda: Served(address, timeout_s=timeout),
        memory=Memory("hex"),
        policy=Policy(accept_older=accept_older),
        tarballs=tarballs,
        jobs=jobs,
    )
    checks = verify_packages(locked, settings)
    found = Checklist(
        kind="hex",
        subject=", ".join(package) if package else str(path),
        things=("package", "packages"),
        good=GOOD,
        items=checks,
        basis=(*basis_of(keys, trust), ("asked", address)),
        remarks=(REMARK,) if checks else (),
    )
    conclude(found, trust, everything=everything or is_short(found), json=json)


def _named(name: str, registry: str) -> Locked:
    if re.fullmatch(NAME, name) is None:
        raise InputError(f"--package {name}: is no name of a Hex package")
    return Locked(app=name, kind="hex", name=name, repository=registry.removeprefix("hex/"))


def _read_lock(path: Path) -> tuple[Locked, ...]:
    file = path / "mix.lock" if path.is_dir() else path
    data = read_file(file, MAX_LOCK_BYTES, what="lock file", hint="name a mix.lock, or a folder with one")
    with blame_user(str(file)):
        return read_lock(data)


def _address(registry: str, mirror: str | None) -> str:
    find_registry(registry).target_path(registry)
    if mirror is not None:
        return mirror
    if registry == "hex/hexpm":
        return os.environ.get("HEX_MIRROR") or HEXPM
    raise InputError(f"{registry}: nobody says where it is served", hint="--mirror URL, or a folder")
