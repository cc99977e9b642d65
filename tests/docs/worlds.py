"""What a page finds on the machine that it is typed on: named in the page as ``<!-- world: NAME -->``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

from interop.npm_world import Issuer, Package, key_document, packument
from interop.npm_world.project import write_project
from kedge import Anchor, Mirror
from kedge.anchor import add
from support.server import HostileServer
from support.simulator import RepositorySimulator

__all__ = ["world_of"]

NPM = "registry.npmjs.org"

World = Callable[[Path, Mapping[str, str]], AbstractContextManager[Mapping[str, str]]]


def world_of(text: str, folder: Path, environment: Mapping[str, str]) -> AbstractContextManager[Mapping[str, str]]:
    """Make the world that a page asks for; what it gives are names of the page and what stands for them here."""
    match = re.search(r"^<!-- world: (\S+) -->$", text, re.MULTILINE)
    return WORLDS[match[1]](folder, environment) if match else nullcontext({})


@contextmanager
def _mirror(folder: Path, environment: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """A project with one package, its mirror on the loopback, and an anchor that speaks for npm's registry."""
    npm = Issuer()
    repo = RepositorySimulator(now=datetime(2098, 1, 1, tzinfo=UTC))  # what it signs outlasts every test
    repo.add_target(f"{NPM}/keys.json", key_document(npm))
    repo.publish()
    repo.write(folder.parent / "repository")
    mirror = Mirror(url=str(folder.parent / "repository"))
    anchor = Anchor(name="example", initial_root=repo.initial_root, mirrors=(mirror,), registries=(NPM,))
    add(anchor, Path(environment["KEDGE_CONFIG_DIR"]))
    files: dict[str, bytes] = {}
    with HostileServer(files) as server:
        package = Package.made("left-pad", "1.3.0", npm)
        files.update(packument(server.url, [package]))
        write_project(folder, {package.name: (package.version, package.integrity)}, registry=server.url)
        yield {"https://npm.corp.example": server.url}


WORLDS: Mapping[str, World] = {"mirror": _mirror}
