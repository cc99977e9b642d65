"""Four foreign clients as functions: python-tuf's ``Updater``, tuf-js, @sigstore/tuf and go-tuf v2, over HTTP.

Each starts from a root the first time, keeps its cache in a folder of its own, and gives the version of the root that
it came to and the bytes of the targets that it was asked for; or raises :class:`RefusedError`.

@sigstore/tuf knows one layout only, Sigstore's: metadata at the top, targets below ``targets/``. :class:`BothLayouts`
serves a published folder in that layout too, below ``sigstore/``.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.ngclient import Updater

__all__ = ["BothLayouts", "Found", "GoTuf", "PythonTuf", "Reader", "RefusedError", "SigstoreTuf", "TufJs"]

TIMEOUT_S = 60


class RefusedError(Exception):
    """The client would not take what it was served; the text is its own."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a client came to."""

    root: int
    targets: dict[str, bytes]


class BothLayouts:
    """A published folder as :class:`support.server.HostileServer` serves it, with Sigstore's layout beside ours."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def files(self) -> Mapping[str, bytes]:
        """Path to bytes, as the folder is now."""
        paths = [path for path in self._folder.rglob("*") if path.is_file()]
        files = {path.relative_to(self._folder).as_posix(): path.read_bytes() for path in paths}
        return {**files, **{f"sigstore/{path.removeprefix('metadata/')}": data for path, data in files.items()}}


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
        _begin(folder, initial_root)

    def read(self, url: str, paths: Sequence[str]) -> Found:
        script = Path(__file__).with_name("read_with_tuf_js.cjs")
        where = (str(self._modules), f"{url}/metadata", f"{url}/targets", str(self._folder))
        return _run("node", str(script), *where, *paths)


class SigstoreTuf:
    """@sigstore/tuf, run by node; the server must serve :class:`BothLayouts`."""

    def __init__(self, folder: Path, initial_root: bytes, modules: Path) -> None:
        self._folder = folder
        self._modules = modules
        folder.mkdir(parents=True)
        (folder / "root.json").write_bytes(initial_root)

    def read(self, url: str, paths: Sequence[str]) -> Found:
        script = Path(__file__).with_name("read_with_sigstore_tuf.cjs")
        return _run("node", str(script), str(self._modules), f"{url}/sigstore", str(self._folder), *paths)


class GoTuf:
    """go-tuf v2, in the small program of go-tuf-reader/ that ``make peers`` builds."""

    def __init__(self, folder: Path, initial_root: bytes, program: Path) -> None:
        self._folder = folder
        self._program = program
        _begin(folder, initial_root)

    def read(self, url: str, paths: Sequence[str]) -> Found:
        return _run(str(self._program), f"{url}/metadata", f"{url}/targets", str(self._folder), *paths)


def _begin(folder: Path, initial_root: bytes) -> None:
    for name in ("metadata", "targets"):
        (folder / name).mkdir(parents=True)
    (folder / "metadata" / "root.json").write_bytes(initial_root)


def _run(*command: str) -> Found:
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    if done.returncode == 3:
        raise RefusedError(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return Found(found["root"], {path: base64.b64decode(data) for path, data in found["targets"].items()})
