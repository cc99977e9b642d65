"""What a Hex repository signs: hexpm's own first, then every way in which a served message can be wrong."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from kedge.documents import DocumentError
from kedge.registries.hex.resource import MAX_RESOURCE_BYTES, Message, Package, Signed, UnsignedError
from kedge.registries.hex.verify import Tarball
from support.hexrepo import HexRelease, field, package, signed, tarball

ARCHIVE = tarball("content")
ONE = HexRelease.of("1.0.0", ARCHIVE)


def test_hexpms_own_package_is_read(shared_vectors: Path) -> None:
    found = Package.from_payload(Signed.from_bytes((shared_vectors / "hex/package_exfmt").read_bytes()).payload)
    assert (found.name, found.repository, len(found.releases)) == ("exfmt", "hexpm", 10)
    assert found.releases["0.5.0"].outer == "97569ddada83f077c6d8caf0411139e454fc3bcff6311615342f338bbe095f6d"


def test_every_field_that_counts_is_read() -> None:
    full = HexRelease.of("2.0.0", ARCHIVE, retired=(2, "stolen"), published_at=1_750_000_000)
    stamped = HexRelease.of("2.1.0", ARCHIVE, published_at=field(1, 1_760_000_000) + field(2, 5))
    other = field(4, b"advisory") + field(9, 7)  # what a newer Hex adds
    found = Package.from_payload(package("one", [ONE, full, stamped], repository="acme") + other)
    assert found.repository == "acme"
    assert [release.version for release in found.releases.values()] == ["1.0.0", "2.0.0", "2.1.0"]
    assert found.releases["1.0.0"].retired is None
    assert found.releases["2.0.0"].retired == "security: stolen"
    assert found.releases["2.0.0"].published_at == 1_750_000_000
    assert found.releases["2.1.0"].published_at == 1_760_000_000


def named(value: object) -> str:
    """Names that are the same in each run: signatures are not."""
    return value if isinstance(value, str) else "data"


def pack(message: bytes) -> bytes:
    return gzip.compress(message, mtime=0)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is gzip that was cut short"),
        (b"<html>sign in</html>", "is no gzip"),
        (pack(b"x" * 100)[:-9], "cut short"),
        (signed(b"x") + pack(b"y"), "goes on after the end of its gzip"),
        (pack(field(2, b"s")), r"Signed\.payload: is missing"),
        (pack(field(1, b"p") + field(1, b"q") + field(2, b"s")), r"Signed\.payload: stands there 2 times"),
        (pack(field(1, b"p") + field(2, b"s") + field(2, b"t")), r"Signed\.signature: stands there 2 times"),
        (pack(field(1, 5) + field(2, b"s")), r"Signed\.payload: is a number, expected bytes"),
        (pack(b"\x0a\x05ab"), "Signed: ends inside the field 1"),
        (pack(b"\x0a"), "Signed: ends inside a number"),
        (pack(b"\x0a" + b"\xff" * 11), "a number of more than 64 bits"),
        (pack(b"\x02\x00"), "a field of the number 0"),
        (pack(b"\x0b\x00"), "a field of the wire type 3"),
    ],
    ids=named,
)
def test_h3_h4_a_frame_that_is_none_is_named(data: bytes, problem: str) -> None:
    assert Signed.from_bytes(signed(b"payload")).payload == b"payload"
    with pytest.raises(DocumentError, match=problem):
        Signed.from_bytes(data)


def test_a_resource_whose_gzip_was_taken_off_on_the_way_is_the_same() -> None:
    served = signed(package("one", [ONE]))
    assert Signed.from_bytes(gzip.decompress(served)) == Signed.from_bytes(served)


@pytest.mark.parametrize("message", [field(1, b"p"), field(1, b"p") + field(2, b"")])
def test_h3_a_resource_without_a_signature_is_an_error_of_its_own(message: bytes) -> None:
    with pytest.raises(UnsignedError, match="somebody on the way left it out"):
        Signed.from_bytes(pack(message))


def test_h4_a_gzip_bomb_is_refused_by_what_comes_out_of_it() -> None:
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    zeros = bytes(1 << 20)
    bomb = b"".join(packer.compress(zeros) for _ in range(2 + (MAX_RESOURCE_BYTES >> 20))) + packer.flush()
    assert len(bomb) < 100_000
    with pytest.raises(DocumentError, match="unpacks to more than 67108864 bytes"):
        Signed.from_bytes(bomb)


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (field(3, "hexpm"), r"Package\.name: is missing"),
        (field(2, "one"), r"Package\.repository: is missing"),
        (field(2, "one") + field(2, "two") + field(3, "hexpm"), r"Package\.name: stands there 2 times"),
        (field(2, b"\xff") + field(3, "hexpm"), r"Package\.name: is not UTF-8"),
        (package("one", [ONE, ONE]), r"Package\.releases\[1\]: is 1\.0\.0, which stands further up"),
        (package("one", []) + field(1, 3), r"Package\.releases\[0\]: is a number, expected a message"),
        (package("one", []) + field(1, field(1, "1.0")), r"releases\[0\]\.inner_checksum: is missing"),
        (package("one", []) + field(1, field(1, "1.0") + field(2, b"short")), "has 5 bytes, expected the 32"),
        (package("one", []) + field(1, field(2, b"x" * 32)), r"releases\[0\]\.version: is missing"),
        (package("one", []) + field(1, ONE.to_bytes() + field(5, b"x" * 32)), "outer_checksum: stands there 2 times"),
    ],
)
def test_a_payload_that_is_no_package_names_the_field(payload: bytes, problem: str) -> None:
    assert Package.from_payload(package("one", [ONE])).releases
    with pytest.raises(DocumentError, match=problem):
        Package.from_payload(payload)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_resource_or_a_named_fault(data: bytes) -> None:
    for form in (data, pack(data), pack(field(1, data) + field(2, b"s"))):
        try:
            Package.from_payload(Signed.from_bytes(form).payload)
        except DocumentError:
            continue


def protobufs_own() -> type:
    """The same frame in Google's library, which is the oracle: optional fields of bytes and of a number."""
    file = descriptor_pb2.FileDescriptorProto(name="frame.proto", package="kedge", syntax="proto2")
    message = file.message_type.add(name="Frame")
    kinds = descriptor_pb2.FieldDescriptorProto
    for number, name, kind in (
        (1, "payload", kinds.TYPE_BYTES),
        (2, "signature", kinds.TYPE_BYTES),
        (3, "count", kinds.TYPE_UINT64),
    ):
        message.field.add(name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("kedge.Frame"))


FRAME = protobufs_own()
PARTS = st.one_of(
    st.tuples(st.integers(1, 5), st.binary(max_size=200)),
    st.tuples(st.just(3), st.integers(0, (1 << 64) - 1)),
)


@given(st.lists(PARTS, max_size=6), st.binary(max_size=3))
def test_what_is_read_is_what_googles_library_reads_and_doubled_fields_are_what_it_hides(
    parts: list[tuple[int, bytes | int]], tail: bytes
) -> None:
    data = b"".join(field(number, value) for number, value in parts) + tail
    theirs = FRAME()
    try:
        theirs.ParseFromString(data)
    except DecodeError:
        theirs = None
    try:
        ours = Message(data, "Frame")
    except DocumentError:
        # Ours knows no groups, which nobody uses; in all else it refuses what Google's refuses.
        assert theirs is None or any(octet & 7 in (3, 4) for octet in tail)
        return
    if theirs is None:
        return
    for number, name in ((1, "payload"), (2, "signature")):
        values = [value for found, value in parts if found == number]
        if tail or any(isinstance(value, int) for value in values):
            continue
        if len(values) == 1:
            assert ours.octets(number, name) == getattr(theirs, name) == values[0]
        elif values:
            assert getattr(theirs, name) == values[-1]
            with pytest.raises(DocumentError, match="may stand once"):
                ours.octets(number, name)
        else:
            assert number not in ours
            assert not theirs.HasField(name)


def test_a_tarballs_checksums_are_read() -> None:
    found = Tarball.from_bytes(ARCHIVE)
    assert bytes.fromhex(found.outer) == ONE.outer
    assert bytes.fromhex(found.inner) == ONE.inner


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is no tar archive"),
        (b"x" * 2000, "is no tar archive"),
        (ARCHIVE[:700], "is no tar archive|is missing"),
        (tarball("content", CHECKSUM=b"0" * 64), "CHECKSUM: is 0000"),
        (tarball("content", metadata__config=b"changed"), "CHECKSUM: is"),
        (tarball("content", extra=b"x"), "extra: is no file of a package"),
        (gzip.compress(ARCHIVE), "is no tar archive"),
    ],
)
def test_a_tarball_that_is_none_is_named(data: bytes, problem: str) -> None:
    with pytest.raises(DocumentError, match=problem):
        Tarball.from_bytes(data)


@given(st.data())
def test_any_spoilt_tarball_is_read_or_a_named_fault(data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(ARCHIVE) - 1))
    spoilt = ARCHIVE[:position] + data.draw(st.binary(max_size=20)) + ARCHIVE[position + 1 :]
    try:
        Tarball.from_bytes(spoilt)
    except DocumentError:
        return
