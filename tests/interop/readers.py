"""Two foreign clients as functions: python-tuf's ``Updater`` and the npm package tuf-js, over HTTP.

Each starts from a root the first time, keeps its cache in a folder of its own, and gives the version of the root that
it came to and the bytes of the targets that it was asked for; or raises :class:`RefusedError`.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.ngclient import Updater

__all__ = ["Found", "PythonTuf", "Reader", "RefusedError", "TufJs"]

TIMEOUT_S = 60


class RefusedError(Exception):
    """The client would not take what it was served; the text is its own."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a client came to."""

    root: int
    targets: dict[str, bytes]


class Reader(Protocol):
    """A client with a cache."""

    def read(self, url: str, paths: Sequence[str]) -> Found:
        """Refresh from the repository at ``url`` and download the targets."""
        ...


class PythonTuf:
    """python-tuf's ``Updater``."""

    def __init__(self, folder: Path, initial_root: bytes) -> None:
        self._folder = folder
        self._initial_root: bytes | None = initial_root

    def read(self, url: str, paths: Sequence[str]) -> Found:
        for name in ("metadata", "targets"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        metadata, targets = self._folder / "metadata", self._folder / "targets"
        try:
            updater = Updater(
                str(metadata), f"{url}/metadata/", str(targets), f"{url}/targets/", bootstrap=self._initial_root
            )
            updater.refresh()
            found = {}
            for path in paths:
                info = updater.get_targetinfo(path)
                if info is None:
                    raise RefusedError(f"no target {path}")
                found[path] = Path(updater.download_target(info)).read_bytes()
        except (RepositoryError, DownloadError) as error:
            raise RefusedError(f"{type(error).__name__}: {error}") from error
        self._initial_root = None  # from now on the cache is what it starts from
        return Found(json.loads((metadata / "root.json").read_bytes())["signed"]["version"], found)


class TufJs:
    """tuf-js, run by node."""

    def __init__(self, folder: Path, initial_root: bytes, modules: Path) -> None:
        self._folder = folder
        self._modules = modules
        for name in ("metadata", "targets"):
            (folder / name).mkdir(parents=True)
        (folder / "metadata" / "root.json").write_bytes(initial_root)

    def read(self, url: str, paths: Sequence[str]) -> Found:
        script = Path(__file__).with_name("read_with_tuf_js.cjs")
        where = (str(self._modules), f"{url}/metadata", f"{url}/targets", str(self._folder))
        done = subprocess.run(["node", str(script), *where, *paths], capture_output=True, text=True, timeout=TIMEOUT_S)
        if done.returncode == 3:
            raise RefusedError(done.stderr.strip())
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        return Found(found["root"], {path: base64.b64decode(data) for path, data in found["targets"].items()})
