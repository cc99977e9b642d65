"""The real ``apt-get update`` against a repository that is signed here, before and after its signer rotates.

apt runs on folders of its own, given by ``-o Dir::…``, so that nothing of this machine takes part, and needs no root.
What apt is told is what ``kedge keys export`` wrote.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli.shell import Shell
from conftest import Require
from support.aptrepo import AptRepository
from support.gnupg import GnuPG, gnupg, need_gnupg
from support.published import Published, publish_for

TARGET = "apt/example/archive-keyring.gpg"
NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def gpg(require: Require) -> Iterator[GnuPG]:
    need_gnupg(require)
    missing = [name for name in ("apt-get", "dpkg", "dpkg-deb") if not shutil.which(name)]
    require(not missing, f"{', '.join(missing)} not installed: this is no Debian")
    with gnupg() as home:
        yield home


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine with apt and kedge, the repository that it installs from, and the keyholders' repository."""

    top: Path
    repo: AptRepository
    keyholders: Published

    @property
    def keyring(self) -> Path:
        return self.top / "etc" / "keyrings" / "example.gpg"

    @property
    def shell(self) -> Shell:
        return self.keyholders.shell

    def export(self, layout: str, *more: str | Path) -> str:
        done = self.shell.run("keys", "export", layout, "apt/example", *more)
        assert done.code == 0, done.err
        return done.out

    def trust_by_file(self) -> None:
        """Name the keyring file in a source."""
        source = f"Types: deb\nURIs: {self.repo.folder.as_uri()}\nSuites: example\nComponents: main\n"
        source += f"Signed-By: {self.keyring}\n"
        (self.top / "etc/sources.list.d/example.sources").write_text(source)

    def update(self) -> subprocess.CompletedProcess[str]:
        """Run ``apt-get update`` as apt does, an index that cannot be had being an error."""
        options = {
            "Dir::State": self.top / "state",
            "Dir::State::status": self.top / "state/status",
            "Dir::Cache": self.top / "cache",
            "Dir::Etc": self.top / "etc",
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::sourceparts": self.top / "etc/sources.list.d",
            "Dir::Etc::parts": self.top / "etc/apt.conf.d",
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::trusted": "/dev/null",
            "Dir::Etc::trustedparts": "/dev/null",
            "APT::Architecture": self.repo.architecture,
            "APT::Sandbox::User": "",
            "APT::Update::Error-Mode": "any",
            "Acquire::Languages": "none",
            "Debug::NoLocking": "1",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return subprocess.run(
            ["apt-get", *words, "update"],
            capture_output=True,
            text=True,
            timeout=120,
            env={**self.shell.environment(), "APT_CONFIG": str(self.top / "apt.conf"), "LC_ALL": "C"},
        )

    def knows(self, package: str) -> bool:
        """Whether apt has an index that names the package."""
        lists = (self.top / "state" / "lists").glob("*_Packages*")
        return any(f"Package: {package}".encode() in file.read_bytes() for file in lists)


@pytest.fixture
def machine(gpg: GnuPG, tmp_path: Path) -> Machine:
    for folder in (
        "etc/keyrings",
        "etc/sources.list.d",
        "etc/apt.conf.d",
        "state/lists/partial",
        "cache/archives/partial",
    ):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "state/status").touch()
    # apt reads its configuration folders before it reads -o: only this file comes before both.
    (tmp_path / "apt.conf").write_text(f'Dir::Etc::parts "{tmp_path}/etc/apt.conf.d";\nDir::Etc::main "/dev/null";\n')
    architecture = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout
    repo = AptRepository(folder=tmp_path / "archive", gpg=gpg, architecture=architecture.strip())
    repo.build("one", "1.0")
    repo.publish("old", date=NOW - 3 * HOUR)
    (tmp_path / "user").mkdir()
    keyholders = publish_for(Shell(folder=tmp_path / "user"))
    keyholders.publish(TARGET, gpg.public("old"))
    keyholders.add_anchor("apt/example")
    return Machine(top=tmp_path, repo=repo, keyholders=keyholders)


def test_a_rotation_breaks_the_machine_until_kedge_has_refreshed(machine: Machine, gpg: GnuPG) -> None:
    machine.trust_by_file()
    machine.export("apt-keyring", "--output", machine.keyring)
    assert machine.keyring.stat().st_mode & 0o777 == 0o644
    first = machine.update()
    assert first.returncode == 0, first.stderr
    assert machine.knows("one")
    machine.repo.build("two", "2.0")
    machine.repo.publish("new", date=NOW - 2 * HOUR)
    broken = machine.update()
    assert broken.returncode == 100
    assert "NO_PUBKEY" in broken.stderr or "Missing key" in broken.stderr
    assert not machine.knows("two")
    machine.keyholders.publish(TARGET, gpg.public("old", "new"))
    machine.export("apt-keyring", "--output", machine.keyring)
    mended = machine.update()
    assert mended.returncode == 0, mended.stderr
    assert machine.knows("two")


def test_a_source_with_the_keys_in_it_is_all_that_apt_needs(machine: Machine, gpg: GnuPG) -> None:
    machine.keyholders.publish(TARGET, gpg.public("old", "other"))
    where = ("--set", f"uris={machine.repo.folder.as_uri()}", "--set", "suites=example", "--set", "components=main")
    machine.export("apt-sources", *where, "--output", machine.top / "etc/sources.list.d/example.sources")
    updated = machine.update()
    assert updated.returncode == 0, updated.stderr
    assert machine.knows("one")


def test_the_hook_renews_the_keyring_before_the_update(machine: Machine, gpg: GnuPG) -> None:
    machine.trust_by_file()
    (machine.top / "kedge").write_text(f'#!/bin/sh\nexec {sys.executable} -m kedge "$@"\n')
    (machine.top / "kedge").chmod(0o755)
    settings = {
        "keyring": machine.keyring,
        "state": machine.top / "var/lib/kedge",
        "config": machine.shell.config,
        "program": machine.top / "kedge",
    }
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    machine.export("apt-hook", *words, "--output", machine.top / "etc/apt.conf.d/80kedge")
    first = machine.update()
    assert first.returncode == 0, first.stderr
    assert machine.knows("one")
    assert (machine.top / "var/lib/kedge/repo/floors.json").is_file(), "root's state, apart from the user's"
    machine.repo.build("two", "2.0")
    machine.repo.publish("new", date=NOW - 2 * HOUR)
    machine.keyholders.publish(TARGET, gpg.public("new"), custom={"revoked": [gpg.key("old")]})
    rotated = machine.update()
    assert rotated.returncode == 0, rotated.stderr
    assert machine.knows("two")
    # Trust is refused: so is the update, and the keyring stays what it was.
    kept = machine.keyring.read_bytes()
    timestamp = machine.keyholders.folder / "metadata/timestamp.json"
    timestamp.write_bytes(re.sub(rb'"sig": ?"..', b'"sig":"00', timestamp.read_bytes()))
    refused = machine.update()
    assert refused.returncode == 100
    assert "signed by 0 of the 1 keys" in refused.stderr
    assert machine.keyring.read_bytes() == kept


def test_a_replayed_release_is_nothing_to_apt_and_a_fault_to_kedge(machine: Machine) -> None:
    machine.trust_by_file()
    machine.export("apt-keyring", "--output", machine.keyring)
    old = {file: file.read_bytes() for file in machine.repo.suite.rglob("*") if file.is_file()}
    machine.repo.build("two", "2.0-security-fix")
    machine.repo.publish("old", date=NOW - 2 * HOUR)
    verified = machine.shell.run("verify", "apt", machine.repo.suite, "-r", "apt/example")
    assert verified.code == 0, verified.out + verified.err
    assert machine.update().returncode == 0
    for file, data in old.items():
        file.write_bytes(data)
    replayed = machine.update()
    assert replayed.returncode == 0
    assert replayed.stderr == ""
    ours = machine.shell.run("verify", "apt", machine.repo.suite, "-r", "apt/example")
    assert ours.code == 5
    assert "rolled-back" in ours.out
    assert "a replay" in ours.out
