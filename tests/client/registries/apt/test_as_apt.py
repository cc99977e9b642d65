"""Repositories as they are: what apt accepts is verified, and nothing that it would refuse."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import lz4.frame
import pytest
import zstandard

from conftest import REPOSITORY, Require
from kedge.documents import DocumentError
from kedge.registries.apt.registry import APT
from kedge.registries.apt.release import Release, SignedRelease, unpack
from kedge.registries.apt.verify import (
    Outcome,
    Policy,
    check_indexes,
    check_packages,
    fetch_indexes,
    not_needed,
    verify_release,
)
from kedge.registries.last_seen import Memory
from kedge.registries.pgp.verify import find_checker
from kedge.registries.report import Checked
from kedge.registries.served import Served
from support.gnupg import need_gnupg

CASES = REPOSITORY.parent / "shared" / "cases.zip"
MADE = datetime(2026, 11, 30, 23, 30, tzinfo=UTC)
DATE = "Date: Mon, 30 Nov 2026 23:03:17 UTC\n"
DEB = b"the bytes of a package"
NAMES: Mapping[str, Callable[[bytes], str]] = {
    "SHA256": lambda data: hashlib.sha256(data).hexdigest(),
    "SHA512": lambda data: hashlib.sha512(data).hexdigest(),
}


def listing(files: Mapping[str, bytes], *names: str) -> str:
    return "".join(
        f"{name}:\n" + "".join(f" {NAMES[name](data)} {len(data)} {path}\n" for path, data in files.items())
        for name in names
    )


def stanza(name: str = "one", *names: str) -> bytes:
    digests = "".join(f"{each}: {NAMES[each](DEB)}\n" for each in names or ("SHA256",))
    head = f"Package: {name}\nVersion: 1\nArchitecture: all\nFilename: pool/{name}.deb\nSize: {len(DEB)}\n"
    return (head + digests).encode()


def serve(folder: Path, files: Mapping[str, bytes]) -> Served:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return Served(str(folder))


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "one.deb").write_bytes(DEB)
    return tmp_path / "one.deb"


@pytest.mark.parametrize("name", ["apt-flat-minimal", "apt-no-final-newline", "apt-sha1-bound"])
def test_real_files_that_apt_accepts_are_verified(require: Require, tmp_path: Path, name: str) -> None:
    require(CASES.is_file(), "../shared/cases.zip is not beside this repository")
    need_gnupg(require)
    with zipfile.ZipFile(CASES) as archive:
        data = archive.read(f"cases/ecosystems/{name}.InRelease")
        keyring = "apt-sha1-bound-key" if "sha1" in name else "apt-good"
        keys = APT().parse(
            archive.read(f"cases/ecosystems/{keyring}.gpg"), registry="apt/example", custom=None, now=MADE
        )
    signed = SignedRelease(name="InRelease", data=data, signature=None)
    checker = find_checker()
    verified = verify_release(signed, keys, checker, Policy(), Memory("apt", state=tmp_path), now=MADE)
    assert verified.check.outcome is Outcome.VERIFIED, verified.check.detail
    warned = [note for note in verified.check.notes if "apt of Debian 13 refuses key" in note]
    assert [("SHA-1" in note) for note in warned] == ([True] if "sha1" in name else [])
    assert ["weak-binding" in finding.rule for finding in APT().lint(None, keys)].count(True) == len(warned)


def test_a_component_with_a_folder_before_it_lists_its_last_part(tmp_path: Path, package: Path) -> None:
    # Debian's security suite: Components: updates/main, and main/binary-amd64/Packages among the files.
    files = {"main/binary-amd64/Packages": stanza()}
    release = Release.from_text((DATE + "Suite: s\nComponents: updates/main\n" + listing(files, "SHA256")).encode())
    for named in ((), ("main",), ("updates/main",)):
        given = [*fetch_indexes(serve(tmp_path, files), release, components=named, architectures=["amd64"])]
        indexes, _ = check_indexes(release, [each for each in given if isinstance(each, tuple)])
        assert check_packages(indexes, [package])[0].outcome is Outcome.VERIFIED


@pytest.mark.parametrize("release_names", [("SHA512",), ("SHA256", "SHA512"), ("SHA256",)])
@pytest.mark.parametrize("package_names", [("SHA512",), ("SHA256", "SHA512"), ("SHA256",)])
def test_either_digest_is_enough_and_each_that_is_stated_must_hold(
    tmp_path: Path, package: Path, release_names: tuple[str, ...], package_names: tuple[str, ...]
) -> None:
    files = {"Packages": stanza("one", *package_names)}
    release = Release.from_text((DATE + listing(files, *release_names)).encode())
    (given,) = fetch_indexes(serve(tmp_path, files), release, components=(), architectures=["amd64"])
    assert not isinstance(given, Checked)
    indexes, _ = check_indexes(release, [given])
    assert check_packages(indexes, [package])[0].outcome is Outcome.VERIFIED
    for name in package_names:
        other = stanza("one", *package_names).replace(NAMES[name](DEB).encode(), NAMES[name](b"other").encode())
        lying = Release.from_text((DATE + listing({"Packages": other}, *release_names)).encode())
        indexes, _ = check_indexes(lying, [("Packages", other)])
        assert check_packages(indexes, [package])[0].is_fault


def test_two_sizes_or_two_digests_of_one_file_are_refused() -> None:
    one, other = {"Packages": b"a"}, {"Packages": b"bb"}
    text = DATE + listing(one, "SHA256") + listing(other, "SHA512")
    with pytest.raises(DocumentError, match="two contents"):
        Release.from_text(text.encode())


@pytest.mark.parametrize("pack", [lz4.frame.compress, zstandard.ZstdCompressor().compress])
def test_lz4_and_zstd_are_unpacked_within_the_limit(pack: Callable[[bytes], bytes]) -> None:
    text = bytes(3 << 20)
    packed = pack(text)
    assert unpack(packed) == text
    assert unpack(packed + packed) == text + text
    with pytest.raises(DocumentError, match="unpacks to more than"):
        unpack(packed, max_bytes=1 << 20)
    with pytest.raises(DocumentError, match=r"cut short|damaged"):
        unpack(packed[:-9])


@pytest.mark.parametrize(("form", "pack"), [("lz4", lz4.frame.compress), ("zst", zstandard.ZstdCompressor().compress)])
def test_an_index_that_is_there_in_a_newer_form_alone_is_found(
    tmp_path: Path, package: Path, form: str, pack: Callable[[bytes], bytes]
) -> None:
    files = {f"main/binary-amd64/Packages.{form}": pack(stanza())}
    release = Release.from_text((DATE + "Suite: s\nComponents: main\n" + listing(files, "SHA256")).encode())
    (given,) = fetch_indexes(serve(tmp_path, files), release, components=(), architectures=["amd64"])
    assert not isinstance(given, Checked)
    indexes, _ = check_indexes(release, [given])
    assert check_packages(indexes, [package])[0].outcome is Outcome.VERIFIED


def test_a_mirror_without_a_component_that_no_package_needs_is_no_failure(tmp_path: Path) -> None:
    files = {"main/binary-amd64/Packages": stanza(), "contrib/binary-amd64/Packages": b""}
    text = DATE + "Suite: s\nComponents: main contrib\n" + listing(files, "SHA256")
    del files["contrib/binary-amd64/Packages"]
    found = [
        *fetch_indexes(serve(tmp_path, files), Release.from_text(text.encode()), components=(), architectures=["amd64"])
    ]
    (missing,) = [each for each in found if isinstance(each, Checked)]
    assert (missing.outcome, missing.is_fault) == (Outcome.MISSING, True)
    assert not not_needed(missing).is_fault


def test_an_older_release_is_a_replay_at_its_own_address_and_a_note_at_another(
    require: Require, tmp_path: Path
) -> None:
    """Two repositories of one archive, under one name and one key, as NodeSource has a folder a version."""
    require(CASES.is_file(), "../shared/cases.zip is not beside this repository")
    need_gnupg(require)
    with zipfile.ZipFile(CASES) as archive:
        old = archive.read("cases/ecosystems/apt-flat-minimal.InRelease")
        keyring = archive.read("cases/ecosystems/apt-good.gpg")
    keys = APT().parse(keyring, registry="apt/example", custom=None, now=MADE)
    memory = Memory("apt", state=tmp_path)
    release = Release.from_text((DATE + "SHA256:\n").encode())
    newer = {"date": "2026-12-01T00:00:00Z", "sha256": "0" * 64}
    archive_of = "apt/example - - -"
    for subject in (archive_of, f"{archive_of} https://one.example/18.x"):
        memory.update(subject, lambda _: newer)
    checks = []
    for place in ("18.x", "20.x"):
        signed = SignedRelease(name=f"https://one.example/{place}/InRelease", data=old, signature=None)
        checks.append(
            verify_release(signed, keys, find_checker(), Policy(), memory, now=MADE + timedelta(days=1)).check
        )
    assert [check.outcome for check in checks] == [Outcome.ROLLED_BACK, Outcome.VERIFIED]
    assert checks[1].notes == ("another address of this archive served a newer Release",)
    assert release.identity == "- - - -"
