"""The zip around a signature: one meaning, or a named refusal; and the digest is that of the package without it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.registries.nuget.archive import ArchiveError, SignedArchive, UnsignedError, read_archive
from support.nuget import insert_signature, unsigned

PACKAGE = unsigned("Example", "1.0.0")
SIGNED = insert_signature(PACKAGE, b"a signature")


def read(data: bytes) -> SignedArchive:
    return read_archive(io.BytesIO(data))


def refused(data: bytes) -> str:
    with pytest.raises(ArchiveError) as caught:
        read(data)
    assert not isinstance(caught.value, UnsignedError)
    return str(caught.value)


def end_at(data: bytes) -> int:
    return data.rfind(b"PK\x05\x06")


def record_at(data: bytes) -> int:
    """Where the signature's central record stands."""
    return data.rfind(b"PK\x01\x02")


def patched(data: bytes, at: int, layout: str, *values: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(layout, changed, at, *values)
    return bytes(changed)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_digest_is_that_of_the_package_before_it_was_signed(first: bool, algorithm: str) -> None:
    signed = insert_signature(PACKAGE, b"a signature", first=first)
    archive = read(signed)
    assert archive.signature == b"a signature"
    assert archive.digest(io.BytesIO(signed), algorithm) == hashlib.new(algorithm, PACKAGE).digest()


def signatures_own(data: bytes) -> set[int]:
    """The bytes of the signature's entry: its local part and its central record."""
    archive = read(data)
    at, size = archive.record
    local = range(archive.signature_at, archive.signature_at + archive.signature_size)
    return {*local, *range(archive.directory_at + at, archive.directory_at + at + size)}


@pytest.mark.parametrize("at", sorted({*range(0, len(SIGNED), 13)} - signatures_own(SIGNED)))
def test_every_byte_that_is_not_the_signatures_is_in_the_digest(at: int) -> None:
    changed = bytearray(SIGNED)
    changed[at] ^= 1
    try:
        archive = read(bytes(changed))
    except ArchiveError:
        return
    assert archive.digest(io.BytesIO(bytes(changed)), "sha256") != hashlib.sha256(PACKAGE).digest()


def test_a_package_without_a_signature_is_unsigned_and_no_broken_zip() -> None:
    with pytest.raises(UnsignedError, match="holds no signature"):
        read(PACKAGE)


def test_two_signatures_are_refused_whichever_is_right() -> None:
    assert refused(insert_signature(SIGNED, b"another")) == "holds 2 signatures, where one may be"


@pytest.mark.parametrize("name", [b".SIGNATURE.P7S", b"./.signature.p7s", b"/.signature.p7s", b"\\.signature.p7s"])
def test_a_name_that_some_readers_take_for_the_signatures_is_refused(name: bytes) -> None:
    expected = "holds an entry whose name some readers take for the signature's"
    assert refused(insert_signature(SIGNED, b"another", name=name)) == expected
    assert refused(insert_signature(PACKAGE, b"another", name=name)) == expected


def test_bytes_that_no_entry_holds_are_refused_behind_the_signature() -> None:
    directory = struct.unpack_from("<I", SIGNED, end_at(SIGNED) + 16)[0]
    data = patched(SIGNED, end_at(SIGNED) + 16, "<I", directory + 4)
    data = data[:directory] + b"junk" + data[directory:]
    assert refused(data) == "something stands behind the signature that no entry holds"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is no zip file: too short"),
        (b"x" * 100, "is no zip file: it has no end record that ends with the file"),
        (SIGNED + b"\0", "is no zip file: it has no end record that ends with the file"),
        (patched(SIGNED, end_at(SIGNED) + 4, "<H", 1), "the zip is split over several disks"),
        (patched(SIGNED, end_at(SIGNED) + 8, "<H", 1), "the zip is split over several disks"),
        (patched(SIGNED, end_at(SIGNED) + 8, "<HH", 2, 2), "the central directory holds 3 entries, and its end record"),
        (
            patched(SIGNED, end_at(SIGNED) + 8, "<HH", 65535, 65535),
            "the zip is a Zip64 file, which NuGet does not sign",
        ),
        (patched(SIGNED, end_at(SIGNED) + 16, "<I", 0xFFFFFFFF), "the zip is a Zip64 file, which NuGet does not sign"),
        (
            patched(SIGNED, end_at(SIGNED) + 12, "<I", 7),
            "the central directory does not end where the end record begins",
        ),
        (patched(SIGNED, record_at(SIGNED), "<H", 0), "the central directory is broken at its byte"),
        (patched(SIGNED, record_at(SIGNED) + 28, "<H", 500), "the central directory is cut short at its byte"),
        (patched(SIGNED, record_at(SIGNED) + 8, "<H", 8), "the signature is not stored in the clear"),
        (patched(SIGNED, record_at(SIGNED) + 10, "<H", 8), "the signature is not stored in the clear"),
        (patched(SIGNED, record_at(SIGNED) + 20, "<II", 2 << 20, 2 << 20), "the signature is longer than 1024 KiB"),
        (patched(SIGNED, record_at(SIGNED) + 16, "<I", 1), "the signature's two headers contradict each other"),
        (
            patched(SIGNED, record_at(SIGNED) + 42, "<I", 0),
            "two entries of the central directory point to the same data",
        ),
        (patched(SIGNED, record_at(SIGNED) + 42, "<I", 1), "the signature's local header is not where"),
        (patched(SIGNED, record_at(SIGNED) + 42, "<I", len(SIGNED) + 9), "the signature's local header is not where"),
        (
            SIGNED.replace(b".signature.p7sa", b".signature.p7Sa"),
            "the signature bears another name in its local header",
        ),
    ],
)
def test_a_zip_that_can_be_read_in_two_ways_is_refused_by_name(data: bytes, problem: str) -> None:
    assert refused(data).startswith(problem)


def test_the_end_record_that_ends_with_the_file_is_the_one_that_counts() -> None:
    with_comment = bytearray(SIGNED)
    struct.pack_into("<H", with_comment, end_at(SIGNED) + 20, 4)
    data = bytes(with_comment) + b"PK\x05\x06"
    assert read(data).signature == b"a signature"


@given(st.binary(max_size=200) | st.integers(0, len(SIGNED)).map(lambda size: SIGNED[:size]))
def test_whatever_the_file_holds_is_read_or_refused_by_name(data: bytes) -> None:
    with contextlib.suppress(ArchiveError):
        assert read(data).signature == b"a signature"


@given(st.integers(0, len(SIGNED) - 1), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_read_and_never_worse(at: int, value: int) -> None:
    data = SIGNED[:at] + bytes((value,)) + SIGNED[at + 1 :]
    try:
        archive = read(data)
    except ArchiveError:
        return
    if archive.digest(io.BytesIO(data), "sha256") == hashlib.sha256(PACKAGE).digest():
        assert archive.signature == b"a signature"
