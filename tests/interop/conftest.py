"""The package managers that others wrote, for tests that run them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conftest import Require
from interop.npm_world.tools import PACKAGES, Tools


@pytest.fixture
def npm_tools(require: Require, repository: Path, tmp_path: Path) -> Tools:
    """npm, pnpm and two Corepacks, with a home of their own; ``KEDGE_PEERS`` names another folder than ``.peers``."""
    home = tmp_path / "home"
    home.mkdir()
    return _tools(require, repository, home)


@pytest.fixture(scope="module")
def npm_tools_of_module(require: Require, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Tools:
    """The same, for tests of a module that share what they made."""
    return _tools(require, repository, tmp_path_factory.mktemp("home"))


def _tools(require: Require, repository: Path, home: Path) -> Tools:
    modules = Path(os.environ.get("KEDGE_PEERS") or repository / ".peers") / "node_modules"
    missing = [name for name in (*PACKAGES, ".bin/node", "../tarballs") if not (modules / name).exists()]
    require(not missing, f"{', '.join(missing)} not there: run make peers")
    return Tools(modules=modules, home=home)
