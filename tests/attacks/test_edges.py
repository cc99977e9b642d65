"""B11: a user without a home, addresses that are none, a CA file that is none; and systems that are not POSIX."""

from __future__ import annotations

import pwd
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NoReturn

import pytest

from kedge._cli import run
from kedge.client.anchor import Anchor, add_anchor
from kedge.client.settings import VARIABLES, unknown_variables
from kedge.errors import InputError
from kedge.transport.mirror import Mirror
from kedge.transport.open import open_mirror
from support.certificates import server_certificate
from support.world import World


def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a user of whom the machine knows a number, and nothing else."""

    def nobody(uid: int) -> NoReturn:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "KEDGE_STATE_DIR", "KEDGE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("command", [["status"], ["refresh"], ["doctor", "--offline"], ["config", "show"]])
def test_b11_without_a_home_it_is_one_line_and_no_folder_is_made(
    command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    homeless(monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert run(command) == 2
    told = capsys.readouterr()
    assert told.out == ""
    first, hint = told.err.splitlines()
    assert first == "kedge: this user has no home folder: HOME is not set"
    assert hint.startswith("hint: set HOME, or KEDGE_")
    assert list(tmp_path.iterdir()) == []


def test_b11_without_a_home_the_named_folders_are_enough(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The control."""
    homeless(monkeypatch)
    monkeypatch.setenv("KEDGE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("KEDGE_CONFIG_DIR", str(tmp_path / "config"))
    assert run(["config", "show", "--json"]) == 0
    assert str(tmp_path / "state") in capsys.readouterr().out


@pytest.mark.parametrize(
    "url", ["https://[::1", "https://host:port", "https://host:99999", "http://127.0.0.1:-1", "https://[not-ip]/"]
)
def test_b11_an_address_that_is_none_is_a_usage_error(url: str, world: World) -> None:
    with pytest.raises(InputError, match="is not an address: ") as caught:
        open_mirror(Mirror(url=url))
    assert caught.value.exit_code == 2
    with pytest.raises(InputError, match="is not an address: "):
        open_mirror(Mirror(url="https://host.invalid", redirect_origins=(url,)))
    client = world.client()
    client.close()
    open_mirror(Mirror(url="https://[::1]:8443/repo")).close()


def test_b11_the_command_says_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str], world: World) -> None:
    root = tmp_path / "root.json"
    root.write_bytes(world.repo.initial_root)
    assert run(["anchor", "add", "odd", "--root", str(root), "--mirror", "https://[::1"]) == 2
    assert "kedge: https://[::1: is not an address: " in capsys.readouterr().err
    assert run(["refresh", "--anchor", "sigstore", "--mirror", "https://host:99999"]) == 2
    assert "kedge: https://host:99999: is not an address: " in capsys.readouterr().err


@pytest.mark.parametrize("text", [b"", b"no PEM\n", b"\x30\x82\x01\x00", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_b11_a_file_of_certificate_authorities_that_is_none(text: bytes, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(text)
    with pytest.raises(InputError, match="is no file of certificate authorities: expected certificates in PEM"):
        open_mirror(Mirror(url="https://127.0.0.1:1", ca_file=str(file)))
    _, right = server_certificate(tmp_path)
    open_mirror(Mirror(url="https://127.0.0.1:1", ca_file=str(right))).close()


def test_b11_a_misspelt_variable_is_named_with_the_nearest_that_is_known() -> None:
    assert unknown_variables(dict.fromkeys(VARIABLES, "x")) == {}
    assert unknown_variables({"KEDGE_TIMEOUT": "5", "KEDGE_ANCHORS": "a", "KEDGE_QQQQQQQQ": "", "PATH": ""}) == {
        "KEDGE_ANCHORS": "KEDGE_ANCHOR",
        "KEDGE_QQQQQQQQ": None,
        "KEDGE_TIMEOUT": "KEDGE_TIMEOUT_S",
    }


@pytest.mark.parametrize("name", ["con", "nul.txt", "com1", "trailing."])
def test_no_anchor_has_a_name_that_windows_forbids(name: str, tmp_path: Path, world: World) -> None:
    anchor = Anchor(name=name, initial_root=world.repo.initial_root, mirrors=(Mirror(url="https://mirror.invalid"),))
    with pytest.raises(InputError, match="Windows"):
        add_anchor(anchor, tmp_path)
    assert list(tmp_path.iterdir()) == []


ELSEWHERE = """
import os, subprocess, sys, types  # subprocess takes msvcrt for Windows
for name in ("fcntl", "pwd", "grp", "resource", "termios"):
    sys.modules[name] = None
locks = []
sys.modules["msvcrt"] = types.SimpleNamespace(
    LK_NBLCK=2, LK_UNLCK=0, locking=lambda descriptor, mode, size: locks.append(mode)
)
for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_DIRECTORY", "register_at_fork", "geteuid", "getuid", "fork"):
    if hasattr(os, name):
        delattr(os, name)
from datetime import datetime
from pathlib import Path
from kedge import TrustClient
from kedge.client import Anchor
from kedge.transport import Mirror
folder = Path(sys.argv[1])
anchor = Anchor(
    name="test", initial_root=(folder / "root.json").read_bytes(), mirrors=(Mirror(url=str(folder / "repository")),)
)
class Clock:
    def now(self):
        return datetime.fromisoformat(sys.argv[2])
for _ in range(2):
    with TrustClient(anchor, state=folder / "state", clock=Clock()) as client:
        trust = client.refresh()
        assert (trust.refreshed, trust.stored, trust.warnings) == (True, True, ()), trust
        print(client.target("registry.example/keys.json").data.decode())
assert 2 in locks and 0 in locks, locks
"""


def test_it_refreshes_where_no_module_or_flag_of_posix_is(tmp_path: Path, world: World) -> None:
    (tmp_path / "root.json").write_bytes(world.repo.initial_root)
    world.repo.write(tmp_path / "repository")
    arguments = [sys.executable, "-c", textwrap.dedent(ELSEWHERE), str(tmp_path), world.clock.moment.isoformat()]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "the keys\nthe keys\n"), done.stderr
    assert world.keys() == b"the keys"
