"""``kedge verify hex``: hold what a ``mix.lock`` names against the signatures of a Hex repository."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from kedge._cli.keys import speaking_anchor
from kedge._cli.options import Allow, AnchorName, Json, RequireRefresh, open_client, read_allow
from kedge._cli.output import read_file
from kedge._cli.verify import basis_of, conclude, is_short
from kedge.documents import blame_user
from kedge.errors import InputError
from kedge.registries import Checked, Checklist, Memory, Served, find_registry
from kedge.registries.hex import GOOD, JOBS, NAME, Locked, Policy, Settings, read_lock, verify_packages
from kedge.tuf import Trust

MAX_LOCK_BYTES = 8 << 20
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
        list[str] | None,
        typer.Option(
            metavar="[ID=]URL",
            help="Where it is served: URL or folder, else HEX_MIRROR; hex/NAME=URL for more (repeat).",
            show_default=False,
        ),
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
    allow: Allow = None,
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
    addresses, allowances = _addresses(registry, mirror or []), read_allow(allow)
    checks: dict[Locked, Checked] = {}
    basis: list[tuple[str, str]] = []
    trusts: list[Trust] = []
    for each, address in addresses.items():
        part = [one for one in locked if _registry_of(one, addresses, registry) == each]
        with open_client(speaking_anchor(each, anchor), require_refresh=require_refresh) as client:
            keys, trust = client.registry_keys(each), client.trust
        settings = Settings(
            keys=keys,
            open_served=partial(Served, address, timeout_s=timeout),
            memory=Memory("hex"),
            allowances=allowances,
            policy=Policy(accept_older=accept_older),
            tarballs=tarballs,
            jobs=jobs,
        )
        checks.update(zip(part, verify_packages(part, settings), strict=True))
        basis += [*basis_of(keys, trust), ("asked", address)]
        trusts.append(trust)
    found = Checklist(
        kind="hex",
        subject=", ".join(package) if package else str(path),
        things=("package", "packages"),
        good=GOOD,
        items=tuple(checks[one] for one in locked),
        basis=tuple(basis),
        remarks=(REMARK,) if checks else (),
    )
    conclude(found, *trusts, everything=everything or is_short(found), json=json)


def _registry_of(locked: Locked, addresses: Mapping[str, str], default: str) -> str:
    """By whose keys a package is judged: its repository's, where it is known where that is served."""
    registry = f"hex/{locked.repository.partition(':')[0]}"
    return registry if registry in addresses else default


def _named(name: str, registry: str) -> Locked:
    if re.fullmatch(NAME, name) is None:
        raise InputError(f"--package {name}: is no name of a Hex package")
    return Locked(app=name, kind="hex", name=name, repository=registry.removeprefix("hex/"))


def _read_lock(path: Path) -> tuple[Locked, ...]:
    file = path / "mix.lock" if path.is_dir() else path
    data = read_file(file, MAX_LOCK_BYTES, what="lock file", hint="name a mix.lock, or a folder with one")
    with blame_user(str(file)):
        return read_lock(data)


def _addresses(registry: str, mirrors: list[str]) -> dict[str, str]:
    """Where each repository is served, the one of ``--registry`` first."""
    named: dict[str, str] = {}
    for text in mirrors:
        name, equals, url = text.partition("=")
        each = name if equals and name.startswith("hex/") and "://" not in name else registry
        if each in named:
            raise InputError(f"--mirror {text}: {each} has another one", hint="--mirror hex/NAME=URL names whose it is")
        named[each] = url if each == name else text
    if registry not in named:
        if registry != "hex/hexpm":
            raise InputError(f"{registry}: nobody says where it is served", hint="--mirror URL, or a folder")
        named[registry] = os.environ.get("HEX_MIRROR") or HEXPM
    for each in named:
        find_registry(each).target_path(each)
    return {registry: named.pop(registry), **named}
