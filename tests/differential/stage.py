"""A registry on the loopback whose evil archives leave a mark, and the installers that read lockfiles from it.

Two packages are honest and signed. Everything else that the registry serves, under whatever name or path, holds a file
``MARK``. So a tree with a mark in it is a tree into which an archive came that nobody signed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from interop.npm_world import Issuer, Package, packument, tarball
from interop.npm_world.tools import Ran, Tools

__all__ = ["EVIL_PATH", "INSTALLERS", "MARK", "Installer", "honest_files", "install", "marked", "write_project"]

MARK = "MARK-of-an-unsigned-archive"
EVIL_PATH = "evil/good-1.0.0.tgz"
WANTED = {"good": "1.0.0", "other": "2.0.0", "@scope/thing": "3.0.0"}


def honest_files(url: str, npm: Issuer) -> dict[str, bytes]:
    """What the registry serves: signed packages, and evil ones beside them."""
    files: dict[str, bytes] = {}
    for name, version in WANTED.items():
        files |= packument(url, [Package.made(name, version, npm, files={"index.js": b"ok"})])
    evil = Package.made("evil", "1.0.0", files={MARK: b""})
    files |= packument(url, [evil])
    for path in (EVIL_PATH, "evil/good.git", "evil/good", "other/-/good-1.0.0.tgz"):
        files[path] = tarball("good", "1.0.0", {MARK: b""})
    return files


def write_project(folder: Path, url: str) -> None:
    """A project that wants the three packages, with the configuration of every installer."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {"name": "project", "version": "1.0.0", "private": True, "license": "MIT", "dependencies": WANTED}
    (folder / "package.json").write_text(json.dumps(manifest))
    (folder / ".npmrc").write_text(f"registry={url}/\n")
    (folder / ".yarnrc.yml").write_text(
        f'npmRegistryServer: "{url}"\nunsafeHttpWhitelist: ["127.0.0.1"]\nnodeLinker: node-modules\n'
        "enableGlobalCache: false\nenableTelemetry: false\nenableScripts: false\n"
    )
    (folder / "bunfig.toml").write_text(f'[install]\nregistry = "{url}/"\n')


@dataclass(frozen=True, slots=True, kw_only=True)
class Installer:
    """A package manager: its lockfile, and how it makes one and installs from it."""

    lockfile: str
    make: tuple[str, ...]
    install: tuple[str, ...]
    environment: Mapping[str, str]

    def command(self, tools: Tools, arguments: tuple[str, ...]) -> list[str]:
        """The whole command line."""
        program = {
            "npm": [str(tools.node), str(tools.modules / "npm" / "bin" / "npm-cli.js")],
            "pnpm": tools.pnpm,
            "yarn": [str(tools.node), str(tools.modules / "yarn" / "bin" / "yarn.js")],
            "berry": [str(tools.node), str(tools.modules / "@yarnpkg" / "cli-dist" / "bin" / "yarn.js")],
            "bun": [str(next(iter(sorted(tools.modules.glob("@oven/bun-linux-x64*/bin/bun"))), "bun"))],
        }[arguments[0]]
        return [*program, *arguments[1:]]


_NPM = ("--ignore-scripts", "--no-audit", "--no-fund", "--cache", "../cache", "--fetch-retries=0")
INSTALLERS = {
    "npm": Installer(
        lockfile="package-lock.json",
        make=("npm", "install", "--package-lock-only", *_NPM),
        install=("npm", "ci", *_NPM),
        environment={},
    ),
    "pnpm": Installer(
        lockfile="pnpm-lock.yaml",
        make=("pnpm", "install", "--lockfile-only", "--ignore-scripts", "--store-dir", "../store"),
        install=("pnpm", "install", "--frozen-lockfile", "--ignore-scripts", "--store-dir", "../store"),
        environment={},
    ),
    "yarn": Installer(
        lockfile="yarn.lock",
        make=("yarn", "install", "--ignore-scripts", "--non-interactive", "--cache-folder", "../cache"),
        install=(
            *("yarn", "install", "--frozen-lockfile", "--ignore-scripts", "--non-interactive"),
            *("--cache-folder", "../cache"),
        ),
        environment={},
    ),
    "berry": Installer(
        lockfile="yarn.lock",
        make=("berry", "install", "--mode=update-lockfile"),
        install=("berry", "install", "--immutable"),
        environment={"YARN_ENABLE_IMMUTABLE_INSTALLS": "false"},
    ),
    "bun": Installer(
        lockfile="bun.lock",
        make=("bun", "install", "--save-text-lockfile", "--lockfile-only", "--ignore-scripts"),
        install=("bun", "install", "--frozen-lockfile", "--ignore-scripts"),
        environment={"BUN_INSTALL_CACHE_DIR": "../cache"},
    ),
}


def install(installer: Installer, tools: Tools, folder: Path, *, making: bool = False) -> Ran:
    """Make the lockfile, or install what it holds, with nothing cached from before."""
    for cache in ("cache", "store"):
        shutil.rmtree(folder.parent / cache, ignore_errors=True)
    arguments = installer.make if making else installer.install
    environment = {**installer.environment, "CI": "" if making else "1"}
    return tools.run(installer.command(tools, arguments), cwd=folder, environment=environment)


def marked(folder: Path) -> bool:
    """Whether an archive that nobody signed was unpacked anywhere in the project."""
    return any(MARK in files for _, _, files in os.walk(folder))
