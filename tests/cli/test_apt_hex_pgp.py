"""``kedge verify apt``, ``hex`` and ``pgp``, and the exports of their keys, as a user runs them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from architecture import schemas
from cli.shell import Shell
from conftest import Require
from kedge._cli.app import run
from kedge.registries.pgp.certificate import read_keyring
from support.aptrepo import AptRepository
from support.gnupg import GnuPG, gnupg, need_gnupg
from support.hexrepo import HexRelease, HexRepository, key_entry, package, signed, tarball
from support.published import Published, publish_for

NOW = datetime.now(UTC)
APT, HEX, GRADLE = "apt/example", "hex/example", "gradle/example"


@pytest.fixture(scope="module")
def gpg(require: Require) -> Iterator[GnuPG]:
    need_gnupg(require)
    with gnupg() as home:
        yield home


@pytest.fixture
def keyholders(shell: Shell, gpg: GnuPG) -> Published:
    published = publish_for(shell)
    published.publish(f"{APT}/archive-keyring.gpg", gpg.public("ours", "second"))
    published.publish(f"{GRADLE}/verification-keyring.keys", gpg.public("ours", armored=True))
    keys = [key_entry("ours", "2016-01-01T00:00:00Z")]
    published.publish(f"{HEX}/keys.json", {"format": "kedge.hex-keys/1", "repository": "example", "keys": keys})
    published.add_anchor(APT, HEX, GRADLE, "hex/oban")
    return published


def test_an_apt_repository_is_verified_down_to_its_packages(keyholders: Published, gpg: GnuPG, tmp_path: Path) -> None:
    repo = AptRepository(folder=tmp_path / "archive", gpg=gpg, architecture="amd64")
    deb = repo.build("one", "1.0")
    repo.publish("ours", date=NOW - timedelta(hours=1))
    arguments = ("verify", "apt", repo.suite, deb, "-r", APT, "--arch", "amd64")
    done = keyholders.shell.run(*arguments)
    assert done.code == 0, done.out + done.err
    assert "3 of 3 files verified" in done.out
    assert "is one 1.0 all" in done.out
    answer = keyholders.shell.run(*arguments, "--json")
    document = json.loads(answer.out)
    assert schemas.faults("checklist", document) == []
    assert [item["facts"]["what"] for item in document["items"]] == ["release", "index", "package"]
    assert document["items"][0]["facts"]["key"] == gpg.key("ours")
    deb.write_bytes(deb.read_bytes() + b"!")
    changed = keyholders.shell.run(*arguments)
    assert changed.code == 5
    assert "digest-mismatch" in changed.out
    index = repo.suite / "main/binary-amd64/Packages.gz"
    by_file = keyholders.shell.run("verify", "apt", repo.suite / "InRelease", "-r", APT, "--index", index)
    assert by_file.code == 0, by_file.out


def test_an_apt_repository_that_a_revoked_key_signs_is_refused(
    keyholders: Published, gpg: GnuPG, tmp_path: Path
) -> None:
    repo = AptRepository(folder=tmp_path / "archive", gpg=gpg, architecture="amd64")
    repo.publish("ours", date=NOW - timedelta(hours=1))
    assert keyholders.shell.run("verify", "apt", repo.suite, "-r", APT).code == 0
    custom = {"revoked": [gpg.key("ours")]}
    keyholders.publish(f"{APT}/archive-keyring.gpg", gpg.public("ours", "second"), custom=custom)
    done = keyholders.shell.run("verify", "apt", repo.suite, "-r", APT)
    assert done.code == 5
    assert "revoked-key" in done.out
    exported = keyholders.shell.run("keys", "export", "apt-keyring-asc", APT)
    assert exported.code == 0
    assert f"{gpg.key('ours')} of {APT} is left out: it was revoked" in exported.err
    assert [each.fingerprint for each in read_keyring(exported.out.encode())] == [gpg.key("second")]


def test_a4_an_exported_keyring_is_packets_readable_by_everybody_and_no_keybox(
    keyholders: Published, gpg: GnuPG, tmp_path: Path
) -> None:
    file = tmp_path / "example.gpg"
    done = keyholders.shell.run("keys", "export", "apt-keyring", APT, "--output", file)
    assert done.code == 0, done.err
    data = file.read_bytes()
    assert data[0] in (0x98, 0x99, 0xC6)
    assert data[8:12] != b"KBXf"
    assert file.stat().st_mode & 0o777 == 0o644
    assert data == gpg.public("ours", "second")
    listed = subprocess.run(["gpg", "--show-keys", "--with-colons", file], capture_output=True, text=True, check=True)
    assert listed.stdout.count("pub:") == 2
    answer = json.loads(keyholders.shell.run("keys", "export", "apt-keyring", APT, "--json").out)
    assert schemas.faults("key-export", answer) == []


WRONG_EXPORTS = (
    (("apt-sources", APT), "a source needs uris"),
    (("apt-sources", APT, "--set", "uri=x"), "--set uri: there is no such setting"),
    (("apt-sources", APT, "--set", "uris"), "--set uris: must be NAME=VALUE"),
    (("apt-sources", APT, "--set", "uris=a\nb", "--set", "suites=x"), "must be one line of visible ASCII"),
    (("apt-hook", APT, "--set", 'keyring=/x"; evil'), "without quotes and backslashes"),
    (("apt-hook", APT, "--set", "keyring=etc/x.gpg"), "must be a whole path"),
    (("apt-keyring", APT, "--set", "x=y"), "there is nothing to set for apt-keyring"),
    (("apt-keyring", HEX), "its keys are no OpenPGP keys"),
    (("hex-pem", APT), "is no Hex repository"),
    (("hex-pem", HEX, APT), "name one registry"),
)


def test_an_export_that_cannot_be_says_what_is_missing(
    keyholders: Published, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in keyholders.shell.environment().items():
        monkeypatch.setenv(name, value)
    for arguments, problem in WRONG_EXPORTS:
        code = run(["keys", "export", *arguments])
        said = capsys.readouterr()
        assert (code, said.out) == (2, "")
        assert problem in said.err


def test_gradle_gets_a_keyring_and_the_fingerprints_to_trust(keyholders: Published, gpg: GnuPG) -> None:
    keyring = keyholders.shell.run("keys", "export", "gradle-keyring", GRADLE)
    assert keyring.code == 0, keyring.err
    ours = gpg.key("ours")
    assert keyring.out.startswith(f"pub    {ours[-16:]}\nuid    ours <ours@example.invalid>\n-----BEGIN PGP PUBLIC KEY")
    assert [each.fingerprint for each in read_keyring(keyring.out.encode())] == [ours]
    trusted = keyholders.shell.run("keys", "export", "gradle-trusted-keys", GRADLE, "--set", 'group=com."a"')
    assert trusted.out == f'<trusted-keys>\n   <trusted-key id="{ours}" group=\'com."a"\'/>\n</trusted-keys>\n'
    everything = keyholders.shell.run("keys", "export", "gradle-trusted-keys", GRADLE)
    assert "these keys are trusted for every artifact" in everything.err


def test_a_file_and_its_signature_are_verified_by_a_verified_keyring(
    keyholders: Published, gpg: GnuPG, tmp_path: Path
) -> None:
    file, signature = tmp_path / "artifact.jar", tmp_path / "artifact.jar.asc"
    file.write_bytes(b"content")

    arguments = ("verify", "pgp", file, signature, "--registry")
    signature.write_bytes(gpg.detach(b"content", "ours"))
    good = keyholders.shell.run(*arguments, GRADLE, "--json")
    assert good.code == 0
    document = json.loads(good.out)
    assert schemas.faults("checklist", document) == []
    assert document["items"][0]["facts"]["key"] == gpg.key("ours")
    other = keyholders.shell.run(*arguments, HEX)
    assert (other.code, other.out) == (2, "")
    assert "its keys are no OpenPGP keys" in other.err
    signature.write_bytes(gpg.detach(b"other", "ours"))
    bad = keyholders.shell.run(*arguments, GRADLE)
    assert bad.code == 5
    assert "bad-signature: " in bad.out


def test_a_mix_lock_is_verified_against_a_mirror(keyholders: Published, tmp_path: Path) -> None:
    release = HexRelease.of("1.0.0", tarball("content"))
    mirror = HexRepository(folder=tmp_path / "mirror")
    mirror.serve("one", signed(package("one", [release], repository="example")))
    outer = (release.outer or b"").hex()
    lock = f'%{{\n  "one": {{:hex, :one, "1.0.0", "{release.inner.hex()}", [:mix], [], "example", "{outer}"}},\n}}\n'
    (tmp_path / "mix.lock").write_text(lock)
    arguments = ("verify", "hex", tmp_path, "-r", HEX, "--mirror", mirror.folder)
    done = keyholders.shell.run(*arguments)
    assert done.code == 0, done.out + done.err
    assert "1 of 1 package verified" in done.out
    assert schemas.faults("checklist", json.loads(keyholders.shell.run(*arguments, "--json").out)) == []
    (tmp_path / "mix.lock").write_text(lock.replace(outer, "0" * 64))
    changed = keyholders.shell.run(*arguments)
    assert changed.code == 5
    assert "digest-mismatch: locked is the outer checksum" in changed.out
    (tmp_path / "mix.lock").write_text("%{")
    broken = keyholders.shell.run(*arguments)
    assert (broken.code, broken.out) == (2, "")
    assert "mix.lock: line 1: " in broken.err


def test_each_repository_of_a_mix_lock_is_verified_by_its_own_keys(keyholders: Published, tmp_path: Path) -> None:
    keys = [key_entry("second", "2016-01-01T00:00:00Z")]
    document = {"format": "kedge.hex-keys/1", "repository": "oban", "keys": keys}
    keyholders.publish("hex/oban/keys.json", document)
    lock, mirrors = "%{\n", []
    for app, repository, key in (("one", "example", "ours"), ("oban_pro", "oban", "second")):
        release = HexRelease.of("1.0.0", tarball(app))
        mirror = HexRepository(folder=tmp_path / repository)
        mirror.serve(app, signed(package(app, [release], repository=repository), key))
        outer = (release.outer or b"").hex()
        lock += (
            f'  "{app}": {{:hex, :{app}, "1.0.0", "{release.inner.hex()}", [:mix], [], "{repository}", "{outer}"}},\n'
        )
        mirrors.append(f"hex/{repository}={mirror.folder}")
    (tmp_path / "mix.lock").write_text(lock + """  "g": {:git, "https://x.example/g.git", "0", [tag: 'v1']},\n}\n""")
    arguments = ("verify", "hex", tmp_path, "-r", HEX, "--mirror", mirrors[0])
    done = keyholders.shell.run(*arguments)
    assert done.code == 5
    assert "no-keys: is of the repository oban" in done.out
    assert "unvouched: comes from git https://x.example/g.git" in done.out
    both = keyholders.shell.run(*arguments, "--mirror", mirrors[1], "--allow", "git=x.example/*")
    assert both.code == 0, both.out + both.err
    assert "2 of 3 packages verified" in both.out
    left_out = keyholders.shell.run(*arguments, "--allow", "registry=hex/oban", "--allow", "git=x.example/*")
    assert left_out.code == 0, left_out.out


def test_trust_that_fails_ends_with_3_before_anything_is_judged(
    keyholders: Published, gpg: GnuPG, tmp_path: Path
) -> None:
    repo = AptRepository(folder=tmp_path / "archive", gpg=gpg, architecture="amd64")
    repo.publish("ours", date=NOW - timedelta(hours=1))
    keyholders.publish(f"{APT}/archive-keyring.gpg", gpg.secret("ours"))
    done = keyholders.shell.run("verify", "apt", repo.suite, "-r", APT)
    assert (done.code, done.out) == (3, "")
    assert "archive-keyring.gpg: holds a PRIVATE key" in done.err
