"""Release files and Packages indexes, read as what they are and as nothing else."""

from __future__ import annotations

import gzip
import lzma
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.documents import DocumentError
from kedge.registries.apt.release import Index, Release, paragraph, suite_of, unpack
from kedge.registries.pgp.verify import split
from support.aptrepo import release_text

DATE = datetime(2026, 7, 11, 10, 16, 37, tzinfo=UTC)
TEXT = release_text({"main/binary-amd64/Packages": b"x"}, date=DATE)


def test_debians_releases_are_read(shared_vectors: Path) -> None:
    text = split((shared_vectors / "apt/bookworm.InRelease").read_bytes()).text
    release = Release.from_text(text)
    assert (release.date, release.valid_until) == (DATE, None)
    assert release.identity == "Debian Debian oldstable bookworm"
    assert release.is_called("bookworm")
    assert release.is_called("oldstable")
    assert not release.is_called("trixie")
    listed = release.files["main/binary-amd64/Packages"]
    assert (listed.size, listed.digests["SHA256"][:8]) == (50060337, "515e692f")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b"Date: ", b"Dates: ", "Date: is missing"),
        (b"SHA256:", b"SHA1:", "SHA256: is missing"),
        (b"Suite: stable", b"Suite: stable\nsuite: other", "suite: stands there twice"),
        (b"Suite: stable", b"Suite: stable\n\nSuite: other", "is empty: a second paragraph"),
        (b"Suite: stable", b"Suite: stable\nno field", "is no field"),
        (b"Origin: Example", b" Example", "line 1: continues a field"),
        (b"Sat, 11 Jul 2026 10:16:37 UTC", b"2026-07-11", "Date: must be a date such as"),
        (b"11 Jul 2026 10:16:37 UTC", b"11 Jul 2026 10:16:37 +0200", "Date: must be a date such as"),
        (b"11 Jul", b"31 Feb", "Date: is no date that there is"),
        (b"main/binary-amd64/Packages\n", b"", "SHA256: holds"),
        (b" 1 main/", b" -1 main/", "SHA256: holds"),
        (b"Example", b"Ex\xffmple", "is not UTF-8"),
    ],
)
def test_a_release_that_is_none_names_the_field(old: bytes, new: bytes, problem: str) -> None:
    assert Release.from_text(TEXT).date == DATE
    assert old in TEXT
    with pytest.raises(DocumentError, match=problem):
        Release.from_text(TEXT.replace(old, new, 1))


def test_a_file_with_two_contents_is_refused_and_one_that_is_listed_twice_is_not() -> None:
    entry = TEXT.splitlines(keepends=True)[-1]
    assert len(Release.from_text(TEXT + entry).files) == 1
    with pytest.raises(DocumentError, match="lists main/binary-amd64/Packages with two contents"):
        Release.from_text(TEXT + entry.replace(b" 1 ", b" 2 "))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_release_or_a_named_fault(data: bytes) -> None:
    try:
        Release.from_text(TEXT + data)
    except DocumentError:
        return


@given(st.text(alphabet="AB:\n \t-x", max_size=60))
def test_any_text_is_a_paragraph_or_a_named_fault(text: str) -> None:
    try:
        paragraph(text.encode())
    except DocumentError:
        return


STANZAS = b"""Package: one
Version: 1:2.0
Architecture: all
Description: mentions SHA256: 1111111111111111111111111111111111111111111111111111111111111111
 SHA256: 1111111111111111111111111111111111111111111111111111111111111111
Filename: pool/one_2.0_all.deb
Size: 3
SHA256: 2222222222222222222222222222222222222222222222222222222222222222

SHA256: 3333333333333333333333333333333333333333333333333333333333333333
Package: two
Version: 3
Architecture: amd64
Filename: pool/two_3_amd64.deb
Size: 4
"""


def test_a_package_is_found_by_its_digest_and_by_its_file() -> None:
    index = Index("main/binary-all/Packages", STANZAS)
    one, two = (index.by_digest({"SHA256": digit * 64}) for digit in "23")
    assert one is not None
    assert (one.package, one.version, one.size, one.filename) == ("one", "1:2.0", 3, "pool/one_2.0_all.deb")
    assert two is not None
    assert (two.package, two.architecture) == ("two", "amd64")
    assert index.by_file("two_3_amd64.deb") == two
    assert index.by_digest({"SHA256": "1" * 64}) is None, "what a description says is no digest"
    assert index.by_file("wo_3_amd64.deb") is None


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b"Version: 1:2.0\n", b"", "holds a package without Version"),
        (b"Size: 3\n", b"Size: three\n", "holds a package of the size"),
        (b"Size: 3\n", b"Size: 3\nSize: 4\n", "Size: stands there twice"),
    ],
)
def test_a_stanza_that_is_none_is_named(old: bytes, new: bytes, problem: str) -> None:
    with pytest.raises(DocumentError, match=problem):
        Index("main/binary-all/Packages", STANZAS.replace(old, new, 1)).by_digest({"SHA256": "2" * 64})


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bytes], ids=["gzip", "xz", "plain"])
def test_an_index_is_unpacked_within_its_limit(pack: object) -> None:
    assert callable(pack)
    bomb = pack(bytes(1 << 20))
    assert unpack(bomb, max_bytes=1 << 20) == bytes(1 << 20)
    with pytest.raises(DocumentError, match="to more than 1048575 bytes"):
        unpack(bomb, max_bytes=(1 << 20) - 1)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress], ids=["gzip", "xz"])
def test_a_damaged_index_is_named(pack: object) -> None:
    assert callable(pack)
    packed = pack(b"text" * 100)
    assert unpack(packed + packed) == b"text" * 200, "several members are one index"
    for spoilt, problem in (
        (packed[:-9], "cut short"),
        (packed + b"tail of junk", "damaged"),
        (packed[:20] + b"\0\0\0\0" + packed[24:], "damaged"),
    ):
        with pytest.raises(DocumentError, match=problem):
            unpack(spoilt)


@given(st.sampled_from([gzip.compress(b"abc" * 20, mtime=0), lzma.compress(b"abc" * 20)]), st.data())
def test_any_spoilt_index_is_unpacked_or_a_named_fault(packed: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(packed) - 1))
    spoilt = packed[:position] + data.draw(st.binary(max_size=8)) + packed[position + 1 :]
    try:
        assert len(unpack(spoilt, max_bytes=1000)) <= 1000
    except DocumentError:
        return


@pytest.mark.parametrize(
    ("place", "suite"),
    [
        ("https://deb.example/debian/dists/bookworm", "bookworm"),
        ("https://deb.example/debian/dists/bookworm/", "bookworm"),
        ("/srv/debian/dists/bookworm-updates/InRelease", "bookworm-updates"),
        ("dists/stable", "stable"),
        ("/var/lib/apt/lists/deb.example_debian_dists_bookworm_InRelease", "bookworm"),
        ("/var/lib/apt/lists/deb.example_debian_dists_buster_updates_Release", "buster/updates"),
        ("/srv/flat", None),
        ("InRelease", None),
    ],
)
def test_the_suite_that_is_meant_is_read_off_the_address(place: str, suite: str | None) -> None:
    assert suite_of(place) == suite
