"""Which Pythons the smoke test finds, and that it notices a wheel that does not install; ``make smoke`` runs it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from smoke.run import MINORS, absent, found, main, places, smoke

HERE = sys.version_info[:3]

pytestmark = pytest.mark.skipif(HERE[1] not in MINORS, reason=f"Python 3.{HERE[1]} is not among those looked for")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the Python that runs the tests, under the name that it is looked for by."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / f"python3.{HERE[1]}").symlink_to(Path(sys.base_prefix) / "bin" / f"python3.{HERE[1]}")
    return folder


def test_an_installation_is_found_once_by_whatever_name(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / f"python3.{HERE[1]}").symlink_to(folder / f"python3.{HERE[1]}")
    (installation,) = found([tmp_path / "none", folder, tmp_path / "other", folder])
    assert (installation.version, installation.program.parent) == (HERE, folder)
    assert absent([installation]) == [f"3.{minor}" for minor in MINORS if minor != HERE[1]]
    assert absent([]) == ["3.11", "3.12", "3.13", "3.14", "3.15"]


def test_a_name_behind_which_no_python_answers_is_none(tmp_path: Path) -> None:
    # So pyenv's shims answer for a version that is installed and not chosen.
    shim = tmp_path / f"python3.{HERE[1]}"
    shim.write_text("#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    assert found([tmp_path]) == []


def test_the_folders_of_path_go_before_pyenvs_versions(tmp_path: Path) -> None:
    for version in ("3.12.1", "3.11.7"):
        (tmp_path / ".pyenv/versions" / version / "bin").mkdir(parents=True)
    pyenvs = [tmp_path / ".pyenv/versions" / version / "bin" for version in ("3.11.7", "3.12.1")]
    assert places({"PATH": "/a::/b", "HOME": str(tmp_path)}) == [Path("/a"), Path("/b"), *pyenvs]
    assert places({"PATH": "/a", "HOME": "/none", "PYENV_ROOT": str(tmp_path / ".pyenv")}) == [Path("/a"), *pyenvs]


def test_a_wheel_that_cannot_be_installed_is_a_fault(folder: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "kedge-0-py3-none-any.whl"
    wheel.write_bytes(b"no archive")
    (installation,) = found([folder])
    fault = smoke(installation, wheel, tmp_path / "smoke", "http://127.0.0.1:9")
    assert fault is not None
    assert "pip install" in fault.splitlines()[0]


def test_where_no_python_is_found_nothing_is_called_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    wheel = tmp_path / "kedge-0-py3-none-any.whl"
    wheel.touch()
    assert main([str(wheel)]) == 1
    assert capsys.readouterr().out == "not here, and so not tried: 3.11, 3.12, 3.13, 3.14, 3.15\n"
