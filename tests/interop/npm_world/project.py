"""A project as three tools see it: lockfiles for npm and pnpm, and what npm wants to find installed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

__all__ = ["write_project"]


def write_project(folder: Path, locked: Mapping[str, tuple[str, str]], *, registry: str) -> None:
    """Write a project that depends on packages, by name: their version and integrity.

    ``npm audit signatures`` reads what is installed, which is a folder and a package.json for each package here;
    ``pnpm audit signatures`` reads pnpm-lock.yaml.
    """
    wanted = {name: version for name, (version, _) in locked.items()}
    manifest = {"name": "project", "version": "1.0.0", "private": True, "dependencies": wanted}
    entries = {
        f"node_modules/{name}": {
            "version": version,
            "resolved": f"{registry}/{name}/-/{name.rpartition('/')[2]}-{version}.tgz",
            "integrity": integrity,
        }
        for name, (version, integrity) in locked.items()
    }
    head = {"name": "project", "version": "1.0.0", "lockfileVersion": 3, "requires": True}
    top = {"name": "project", "version": "1.0.0", "dependencies": wanted}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text(json.dumps(manifest, indent=2))
    (folder / "package-lock.json").write_text(json.dumps({**head, "packages": {"": top, **entries}}, indent=2))
    (folder / "pnpm-lock.yaml").write_text(_pnpm_lock(locked))
    (folder / ".npmrc").write_text(f"registry={registry}/\naudit=false\nfund=false\nupdate-notifier=false\n")
    for name, (version, _) in locked.items():
        installed = folder / "node_modules" / name
        installed.mkdir(parents=True, exist_ok=True)
        (installed / "package.json").write_text(json.dumps({"name": name, "version": version}))
    hidden = folder / "node_modules" / ".package-lock.json"
    hidden.write_text(json.dumps({**head, "packages": entries}))


def _pnpm_lock(locked: Mapping[str, tuple[str, str]]) -> str:
    lines = ["lockfileVersion: '9.0'", "", "settings:", "  autoInstallPeers: true", "  excludeLinksFromLockfile: false"]
    lines += ["", "importers:", "", "  .:", "    dependencies:"]
    for name, (version, _) in locked.items():
        lines += [f"      '{name}':", f"        specifier: {version}", f"        version: {version}"]
    lines += ["", "packages:", ""]
    for name, (version, integrity) in locked.items():
        lines += [f"  '{name}@{version}':", f"    resolution: {{integrity: {integrity}}}", ""]
    lines += ["snapshots:", ""]
    for name, (version, _) in locked.items():
        lines += [f"  '{name}@{version}': {{}}", ""]
    return "\n".join(lines)
