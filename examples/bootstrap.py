"""What Corepack does, without compiled-in keys: run the package manager that package.json names, once it is verified.

When the registry changes its key, this program needs no new version: TUF carries the new key to it.

python bootstrap.py ARGUMENTS...   (KEDGE_EXAMPLE_REGISTRY, _SIGNER, _ANCHOR and _CACHE change the defaults)
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from pathlib import Path

from install import download, unpack
from kedge.client.client import TrustClient
from kedge.errors import KedgeError

REGISTRY = os.environ.get("KEDGE_EXAMPLE_REGISTRY", "https://registry.npmjs.org")
SIGNER = os.environ.get("KEDGE_EXAMPLE_SIGNER", "registry.npmjs.org")
ANCHOR = os.environ.get("KEDGE_EXAMPLE_ANCHOR", "sigstore")
CACHE = Path(os.environ.get("KEDGE_EXAMPLE_CACHE", "~/.cache/kedge-bootstrap")).expanduser()
WANTED = re.compile(r"(npm|pnpm|yarn)@([0-9]+\.[0-9]+\.[0-9]+)(\+.*)?")


def main() -> None:
    """Fetch and verify what package.json names, unless it is there already, and become it."""
    try:
        name, version = wanted(Path("package.json"))
        program = command(ready(name, version), name)
    except KedgeError as error:
        print(f"bootstrap: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"bootstrap: {error}")
    os.execvp("node", ["node", str(program), *sys.argv[1:]])


def wanted(manifest: Path) -> tuple[str, str]:
    """Give the package manager and the version that ``packageManager`` names."""
    text = json.loads(manifest.read_bytes()).get("packageManager", "")
    match = WANTED.fullmatch(text)
    if match is None:
        raise ValueError(f"{manifest}: packageManager: expected such as pnpm@10.1.0, not {text!r}")
    return match[1], match[2]


def ready(name: str, version: str) -> Path:
    """Give the folder with a verified copy; it appears there whole or not at all."""
    folder = CACHE / name / version
    if not folder.exists():
        with TrustClient(ANCHOR) as client:
            data = download(REGISTRY, name, version, client.registry_keys(SIGNER))
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".new.", dir=folder.parent))
        unpack(data, fresh).rename(folder)
    return folder


def command(folder: Path, name: str) -> Path:
    """Give the program of that name, as the package's own manifest says."""
    programs = json.loads((folder / "package.json").read_bytes())["bin"]
    path = folder / (programs if isinstance(programs, str) else programs[name])
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{folder}: its program lies outside of it")
    return path


if __name__ == "__main__":
    main()
