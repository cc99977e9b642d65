"""What ``kedge verify npm`` reads from this machine: the lockfile, ``.npmrc`` files, ``npm.toml``."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kedge import anchor as anchors
from kedge._cli.infile import read_file
from kedge.anchor import Anchor
from kedge.document import blame_user
from kedge.errors import InputError
from kedge.folders import config_folder
from kedge.registries.npm.document import NPM
from kedge.registries.npm.locked import Lockfile
from kedge.registries.npm.lockfiles import NAMES, read_lines, read_lockfile
from kedge.registries.npm.mapping import Mappings
from kedge.registries.npm.npmrc import Registries, parse_npmrc
from kedge.registries.npm.report import Input

__all__ = ["Given", "find_speaker", "read_given", "read_mappings", "read_registries"]

MAX_LOCKFILE_BYTES = 256 << 20
MAX_SETTINGS_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The lockfile that the user means: ``folder`` is where its project's ``.npmrc`` lies."""

    described: Input
    lockfile: Lockfile
    text: str
    folder: Path


def read_given(path: str) -> Given:
    """Read a lockfile, the one in a folder, or (``-``) lines from stdin.

    Raises:
        InputError: there is none, there are several to choose from, or it cannot be read.
    """
    if path == "-":
        data, name, folder = sys.stdin.buffer.read(MAX_LOCKFILE_BYTES + 1), "stdin", Path.cwd()
    else:
        file = _choose(Path(path))
        data, name, folder = read_file(file, MAX_LOCKFILE_BYTES), str(file), file.parent
    if len(data) > MAX_LOCKFILE_BYTES:
        raise InputError(f"{name}: is longer than {MAX_LOCKFILE_BYTES >> 20} MiB, which no lockfile is")
    with blame_user(name):
        lockfile = read_lines(data) if path == "-" else read_lockfile(data)
    described = Input(name=name, kind=lockfile.kind, sha256=hashlib.sha256(data).hexdigest())
    return Given(described=described, lockfile=lockfile, text=data.decode("utf-8-sig"), folder=folder)


def read_registries(folder: Path, environment: Mapping[str, str], registry: str | None) -> Registries:
    """Read the project's and the user's ``.npmrc``; ``registry`` replaces every registry that they name.

    Raises:
        InputError: one of them cannot be read, or names a registry that cannot be used.
    """
    named = next((value for name, value in environment.items() if name.lower() == "npm_config_userconfig"), None)
    files = [folder / ".npmrc", Path(named) if named else Path.home() / ".npmrc"]
    tables = []
    for file in dict.fromkeys(files):
        if file.is_file():
            try:
                tables.append(parse_npmrc(read_file(file, MAX_SETTINGS_BYTES).decode("utf-8-sig")))
            except UnicodeDecodeError as error:
                raise InputError(f"{file}: is not UTF-8 (byte {error.start})") from error
    with blame_user("the registries of .npmrc, the environment and the command line"):
        return Registries.of(tables, environment, registry=registry)


def read_mappings() -> Mappings:
    """Read ``npm.toml`` of the user's configuration; without it nothing is mapped.

    Raises:
        InputError: it cannot be read.
    """
    file = config_folder() / "npm.toml"
    if not file.is_file():
        return Mappings()
    with blame_user(str(file)):
        return Mappings.from_toml(read_file(file, MAX_SETTINGS_BYTES))


def find_speaker(issuer: str, name: str | None) -> Anchor | None:
    """Find the anchor that speaks for a registry: the one that is named, if it does, else the one that claims it.

    Raises:
        InputError: the id is none, there is no anchor of that name, or two claim the registry.
    """
    NPM().target_path(issuer)
    config = config_folder()
    if name is not None:
        anchor = anchors.load(name, config)
        return anchor if not anchor.registries or issuer in anchor.registries else None
    if any(issuer in anchors.load(each, config).registries for each in anchors.names(config)):
        return anchors.for_registry(issuer, config)
    return None


def _choose(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = [name for name in NAMES if (path / name).is_file()]
    if found[:2] == list(NAMES[:2]):
        del found[1]  # npm itself reads the shrinkwrap, and not the other
    if not found:
        listed = ", ".join(NAMES)
        hint = " (bun.lockb is binary: bun install --save-text-lockfile)" if (path / "bun.lockb").is_file() else ""
        raise InputError(
            f"{path}: there is no lockfile here", hint=f"expected is one of {listed}, or - for lines{hint}"
        )
    if len(found) > 1:
        raise InputError(f"{path}: there are several lockfiles: {', '.join(found)}", hint="name the one that you mean")
    return path / found[0]
