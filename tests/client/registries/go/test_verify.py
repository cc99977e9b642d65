"""go.sum against a checksum database: what verifies, and each way in which a database or its mirror can lie."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.documents import DocumentError
from kedge.errors import FetchError, KedgeError, Reason, StoreError, VerificationError
from kedge.registries.go.registry import Go
from kedge.registries.go.sumdb import SumDatabase, TreeHead, later, open_head, read_record, remembered
from kedge.registries.go.sumfile import escaped, matches, read_sums
from kedge.registries.go.verify import Outcome, Verified, verify_sums
from kedge.tlog.note import VerifierKey
from kedge.transport.mirror import Mirror
from kedge.transport.open import open_mirror
from support.server import HostileServer, status
from support.sumdb import GoWorld, LogKey, new_key

NOW = datetime(2026, 8, 22, tzinfo=UTC)
NAME = "sum.example"
KEY = new_key(NAME, bytes(32))


@pytest.fixture
def world() -> GoWorld:
    """A database of 700 records: two tiles of the lowest level are full, the third is not."""
    made = GoWorld(NAME, [KEY])
    made.fill(697)
    made.add("example.com/A", "v1.0.0", {"a.go": b"package a\n"})
    made.add("example.com/b/v2", "v2.3.4-rc.1", {"b.go": b"package b\n"})
    made.add("example.com/c", "v0.0.0-20260101000000-0123456789ab", {"c.go": b"package c\n"})
    made.publish()
    return made


def run(
    world: GoWorld | Mapping[str, bytes],
    sums: str | None = None,
    *,
    keys: tuple[LogKey, ...] = (KEY,),
    seen: TreeHead | None = None,
    skip: str = "",
) -> Verified:
    """Verify ``sums`` (all that the world has released, if none are given) over a real server."""
    files = world.files if isinstance(world, GoWorld) else world
    text = sums if sums is not None else "".join(f"{line}\n" for line in world.sums)  # type: ignore[union-attr]
    document = "".join(f"{key.vkey}\n" for key in keys).encode()
    parsed = Go().parse(document, registry=f"go/{NAME}", custom=None, now=NOW)
    with HostileServer(files) as server, closing(open_mirror(mirror(server))) as transport:
        return verify_sums(read_sums(text.encode()), parsed, SumDatabase(transport, timeout_s=20), seen=seen, skip=skip)


def mirror(server: HostileServer) -> Mirror:
    return Mirror(url=f"{server.url}/sumdb", metadata="", targets="")


def outcomes(found: Verified) -> dict[str, Outcome]:
    return {item.name: Outcome(item.outcome) for item in found.items}


def refused(world: GoWorld, reason: Reason, *, seen: TreeHead | None = None) -> VerificationError:
    with pytest.raises(VerificationError) as caught:
        run(world, seen=seen)
    assert caught.value.refusal.reason is reason, caught.value
    return caught.value


def head_of(world: GoWorld, size: int | None = None) -> TreeHead:
    return open_head(world.head(size), [KEY.public], file="head")


def test_every_line_is_proven_to_be_in_the_tree(world: GoWorld) -> None:
    found = run(world)
    assert set(outcomes(found).values()) == {Outcome.VERIFIED}
    assert found.head == head_of(world)
    assert len(found.items) == 6


def test_each_tile_is_asked_for_once(world: GoWorld) -> None:
    document = f"{KEY.vkey}\n".encode()
    keys = Go().parse(document, registry=f"go/{NAME}", custom=None, now=NOW)
    lines = read_sums("".join(f"{line}\n" for line in world.sums).encode())
    with HostileServer(world.files) as server, closing(open_mirror(mirror(server))) as transport:
        verify_sums(lines, keys, SumDatabase(transport, timeout_s=20), seen=None)
        tiles = [path for path in server.paths if "/tile/" in path]
        assert len(tiles) == len(set(tiles))
        assert sorted(set(server.paths)) == sorted(server.paths)


def test_a_hash_that_differs_from_everybodys_is_named(world: GoWorld) -> None:
    line = world.sums[0]
    forged = line.replace(line.split(" ")[2], "h1:" + base64.b64encode(bytes(32)).decode())
    found = run(world, f"{forged}\n{world.sums[1]}\n")
    assert outcomes(found) == {
        "example.com/A@v1.0.0": Outcome.DIGEST_MISMATCH,
        "example.com/A@v1.0.0/go.mod": Outcome.VERIFIED,
    }
    assert found.items[0].is_fault


def test_a_forged_record_is_unproven_and_the_honest_one_verifies(world: GoWorld) -> None:
    line = world.sums[0]
    forged = line.replace(line.split(" ")[2], "h1:" + base64.b64encode(bytes(32)).decode())
    path = "sumdb/lookup/example.com/!a@v1.0.0"
    honest = world.files[path]
    world.files[path] = honest.replace(line.encode(), forged.encode())
    found = run(world, f"{forged}\n")
    assert outcomes(found) == {"example.com/A@v1.0.0": Outcome.UNPROVEN}
    world.files[path] = honest
    assert outcomes(run(world, f"{line}\n")) == {"example.com/A@v1.0.0": Outcome.VERIFIED}


def test_a_record_beyond_the_tree_is_unproven(world: GoWorld) -> None:
    path = "sumdb/lookup/example.com/!a@v1.0.0"
    world.files[path] = world.files[path].replace(b"697\n", b"700\n", 1)
    assert set(outcomes(run(world, f"{world.sums[0]}\n")).values()) == {Outcome.UNPROVEN}


def test_an_unknown_module_is_not_found_and_others_verify(world: GoWorld) -> None:
    found = run(world, f"{world.sums[0]}\nexample.com/gone v1.0.0 h1:{base64.b64encode(bytes(32)).decode()}\n")
    assert outcomes(found)["example.com/gone@v1.0.0"] is Outcome.NOT_FOUND
    assert outcomes(found)["example.com/A@v1.0.0"] is Outcome.VERIFIED


def test_a_look_up_that_fails_leaves_the_others_judged(world: GoWorld) -> None:
    keys = Go().parse(f"{KEY.vkey}\n".encode(), registry=f"go/{NAME}", custom=None, now=NOW)
    lines = read_sums("".join(f"{line}\n" for line in world.sums).encode())
    with HostileServer(world.files) as server, closing(open_mirror(mirror(server))) as transport:
        server.misbehave("sumdb/lookup/example.com/!a@v1.0.0", status(410))
        found = verify_sums(lines, keys, SumDatabase(transport, timeout_s=20), seen=None)
    assert [item.outcome for item in found.items] == [Outcome.UNREACHABLE] * 2 + [Outcome.VERIFIED] * 4
    assert "410 gone" in found.items[0].detail


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"", "must begin with a record's number"),
        (b"<html>", "must begin with a record's number"),
        (b"007\na b c\n\nhead", "must begin with a record's number"),
        (b"9999999999999999\na b c\n\nhead", "must begin with a record's number"),
        (b"7\na b c\n", "must hold a record's lines, an empty line and a signed tree head"),
        (b"7\n\n\nhead", "must hold a record's lines, an empty line and a signed tree head"),
        (b"7\n\xff\n\nhead", "the record is not UTF-8"),
    ],
)
def test_an_answer_that_is_no_record_is_malformed(world: GoWorld, answer: bytes, problem: str) -> None:
    with pytest.raises(DocumentError, match=problem):
        read_record(answer)
    world.files["sumdb/lookup/example.com/!a@v1.0.0"] = answer
    found = run(world, f"{world.sums[0]}\n{world.sums[2]}\n")
    assert [item.outcome for item in found.items] == [Outcome.MALFORMED, Outcome.VERIFIED]
    assert problem in found.items[0].detail


def test_a_record_that_is_silent_about_the_line_is_malformed(world: GoWorld) -> None:
    world.record("example.com/d", "v1.0.0", ["example.com/d v1.0.0/go.mod h1:abc"])
    world.publish()
    found = run(world, f"example.com/d v1.0.0 h1:{base64.b64encode(bytes(32)).decode()}\n")
    assert outcomes(found) == {"example.com/d@v1.0.0": Outcome.MALFORMED}


def test_an_unknown_digest_is_named_and_never_verified(world: GoWorld) -> None:
    world.record("example.com/d", "v1.0.0", ["example.com/d v1.0.0 h2:abc"])
    world.publish()
    found = run(world, "example.com/d v1.0.0 h2:abc\n")
    assert outcomes(found) == {"example.com/d@v1.0.0": Outcome.UNSUPPORTED}
    assert found.items[0].detail == "the line's digest is of the kind h2, and only h1 is compared"


def test_a_head_by_another_key_of_the_same_name_ends_the_run(world: GoWorld) -> None:
    world.keys = [new_key(NAME)]
    world.publish()
    error = refused(world, Reason.SIGNATURES)
    assert (error.exit_code, "latest: is not signed by sum.example" in str(error)) == (3, True)
    world.keys = [KEY]
    world.publish()
    assert run(world).head is not None


def test_a_head_whose_text_was_changed_ends_the_run(world: GoWorld) -> None:
    world.files["sumdb/latest"] = world.files["sumdb/latest"].replace(b"\n700\n", b"\n701\n")
    assert "the signature of sum.example is not right" in str(refused(world, Reason.BAD_SIGNATURE))


def test_a_signed_note_that_is_no_tree_head_ends_the_run(world: GoWorld) -> None:
    from kedge.tlog.note import Note

    text = "something else\n700\n"
    world.files["sumdb/latest"] = Note(text=text, signatures=(KEY.sign(text),)).to_bytes()
    assert "is no tree head of a checksum database" in str(refused(world, Reason.MALFORMED))


def test_a_note_of_more_than_a_hundred_signatures_is_refused(world: GoWorld) -> None:
    line = world.files["sumdb/latest"].splitlines(keepends=True)[-1]
    world.files["sumdb/latest"] += line * 99
    assert run(world).head is not None  # a hundred signatures are read
    world.files["sumdb/latest"] += line
    assert "holds 101 signatures, at most 100 are read" in str(refused(world, Reason.MALFORMED))


def test_while_the_key_changes_either_signature_will_do(world: GoWorld) -> None:
    new = new_key(NAME)
    for keys in ([KEY], [new, KEY], [new]):
        world.keys = keys
        world.publish()
        assert set(outcomes(run(world, keys=(new, KEY))).values()) == {Outcome.VERIFIED}
    with pytest.raises(VerificationError):
        run(world, keys=(KEY,))


def test_an_older_head_beside_a_record_is_no_fault_of_one_tree(world: GoWorld) -> None:
    world.publish(stale_lookups={("example.com/A", "v1.0.0"): 698, ("example.com/b/v2", "v2.3.4-rc.1"): 699})
    found = run(world)
    assert set(outcomes(found).values()) == {Outcome.VERIFIED}
    assert found.head == head_of(world)


def test_a_tree_that_shrank_since_it_was_seen_is_a_rollback_and_both_heads_are_kept(world: GoWorld) -> None:
    seen = head_of(world)
    world.cut(699)
    world.sums = world.sums[:-2]
    world.publish()
    error = refused(world, Reason.ROLLBACK, seen=seen)
    assert "rollback of the checksum database to 699 records; 700 were seen before" in str(error)
    assert error.refusal.exhibits == (seen.note, world.head())
    assert run(world).head is not None  # control: without the memory nobody could tell


def test_a_tree_that_says_something_else_than_what_was_seen_is_a_fork(world: GoWorld) -> None:
    seen = head_of(world)
    world.records[3] = b"example.com/filler v1.0.3 h1:other\n"
    world.fill(1)
    world.publish()
    error = refused(world, Reason.CONFLICT, seen=seen)
    assert error.refusal.exhibits == (seen.note, world.head())
    assert "the checksum database tells two stories: 700 records" in str(error)
    assert error.exit_code == 3


def test_two_heads_of_one_size_that_differ_are_a_fork(world: GoWorld) -> None:
    seen = head_of(world)
    world.records[3] = b"example.com/filler v1.0.3 h1:other\n"
    world.publish()
    refused(world, Reason.CONFLICT, seen=seen)


def test_a_fork_among_the_answers_of_one_run_is_found_without_memory(world: GoWorld) -> None:
    path = "sumdb/lookup/example.com/!a@v1.0.0"
    other = GoWorld(NAME, [KEY], records=[*world.records[:500], b"example.com/x v1.0.0 h1:y\n"])
    number, text, _ = world.files[path].partition(b"\n\n")[0].partition(b"\n")
    answer = number + text + world.files[path].partition(b"\n\n")[0].partition(b"\n")[2] + b"\n\n" + other.head()
    world.files[path] = answer
    refused(world, Reason.CONFLICT)


@pytest.mark.parametrize("level", [0, 1])
def test_a_tile_that_lies_is_blamed_on_who_serves_it_and_not_on_the_signer(world: GoWorld, level: int) -> None:
    seen = head_of(world, 300)
    name = next(path for path in sorted(world.files) if path.startswith(f"sumdb/tile/8/{level}/"))
    honest = world.files[name]
    world.files[name] = bytes(32) + honest[32:]
    text = world.records[2].decode()
    with pytest.raises(VerificationError) as caught:
        run(world.files, text, seen=seen)
    assert caught.value.refusal.reason is Reason.UNPROVEN
    assert "do not lead to the root hash that was signed" in str(caught.value)
    world.files[name] = honest
    assert set(outcomes(run(world.files, text, seen=seen)).values()) == {Outcome.VERIFIED}


def test_a_tile_that_is_missing_is_no_proof(world: GoWorld) -> None:
    name = next(path for path in world.files if path.startswith("sumdb/tile/8/0/") and ".p/" in path)
    del world.files[name]
    with pytest.raises(FetchError, match="is not there, so that nothing can be proven"):
        run(world)


def test_a_tile_that_was_filled_meanwhile_will_do(world: GoWorld) -> None:
    text, head = "".join(f"{line}\n" for line in world.sums), world.head()
    answers = {path: data for path, data in world.files.items() if "/lookup/" in path}
    world.fill(400)
    world.files = {path: data for path, data in world.files.items() if ".p/" not in path}
    world.publish()
    partial = next(path for path in world.files if path.startswith("sumdb/tile/8/1/"))
    world.files = {**world.files, **answers, "sumdb/latest": head}
    assert ".p/" in partial  # only the lowest level has filled up
    world.files["sumdb/tile/8/1/000.p/2"] = world.files[partial][:64]
    assert set(outcomes(run(world.files, text)).values()) == {Outcome.VERIFIED}


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_tile_of_another_length_is_refused(world: GoWorld, size: int) -> None:
    name = next(path for path in world.files if path.startswith("sumdb/tile/8/0/") and ".p/" in path)
    world.files[name] = world.files[name][:size]
    with pytest.raises(KedgeError, match=f"has {size} bytes, not 6016"):
        run(world)


def test_modules_that_are_left_out_are_not_asked_for_and_said_to_be(world: GoWorld) -> None:
    found = run(world, skip="example.com/b,other.example")
    assert [item.outcome for item in found.items if item.name.startswith("example.com/b")] == [Outcome.SKIPPED] * 2
    assert found.items[2].detail == "left out by the pattern example.com/b"


@pytest.mark.parametrize(
    ("patterns", "path", "fits"),
    [
        ("example.com", "example.com/a/b", True),
        ("example.com/*", "example.com", False),
        ("*.example.com, rsc.io/private", "rsc.io/private/x", True),
        ("*.corp.example.com", "git.corp.example.com/x", True),
        ("*.example.com", "a.b/example.com", False),
        ("git.[^a]*", "git.bx/y", True),
        ("", "example.com", False),
    ],
)
def test_patterns_are_those_of_the_go_command(patterns: str, path: str, fits: bool) -> None:
    assert (matches(patterns, path) is not None) is fits


def test_upper_case_is_escaped_as_servers_expect_it() -> None:
    assert escaped("github.com/Azure/Go-sdk") == "github.com/!azure/!go-sdk"


@pytest.mark.parametrize("line", ["a v1.0.0", "a v1.0.0 h1:x y", "a 1.0.0 h1:x", "a\tv1.0.0\th1:x", "a b v1.0.0 h1:x"])
def test_a_line_that_is_none_is_named_by_its_number(line: str) -> None:
    with pytest.raises(DocumentError, match=r"^line 2: must be a module's path, its version and a hash"):
        read_sums(f"\n{line}\n".encode())


@given(st.binary(max_size=300))
def test_go_sum_is_read_or_refused_by_name(data: bytes) -> None:
    try:
        lines = read_sums(data)
    except DocumentError:
        return
    assert read_sums("".join(f"{line.to_text()}\n" for line in lines).encode()) == lines


@given(st.binary(max_size=300))
def test_an_answer_is_read_or_refused_by_name(data: bytes) -> None:
    try:
        record = read_record(data)
    except DocumentError:
        return
    assert b"%d\n%b\n%b" % (record.number, record.text, record.head) == data


@given(st.binary(max_size=300))
def test_a_head_is_read_or_refused(data: bytes) -> None:
    with pytest.raises(VerificationError):
        open_head(data, [KEY.public], file="head")


def test_the_real_tree_heads_verify_also_beside_a_foreign_witness(shared_vectors: Path) -> None:
    key = VerifierKey.from_text((shared_vectors / "go" / "sum.golang.org.vkey").read_text().strip())
    heads = {
        path.name: open_head(path.read_bytes(), [key], file=path.name)
        for path in (shared_vectors / "go").glob("*.note")
    }
    assert {head.size for head in heads.values()} == {6476701, 15067302, 19777102, 28891140}
    assert all(head.signers == ("sum.golang.org+033de0ae",) for head in heads.values())
    for path in (shared_vectors / "go").glob("lookup-*.txt"):
        record = read_record(path.read_bytes())
        head = open_head(record.head, [key], file=path.name)
        assert record.number < head.size
        (module,) = {tuple(line.split(" ")[:2]) for line in record.text.decode().splitlines() if "/go.mod" not in line}
        assert set(record.digests(*module)) == {module[1], f"{module[1]}/go.mod"}


def test_a_changed_byte_in_a_real_tree_head_is_refused(shared_vectors: Path) -> None:
    key = VerifierKey.from_text((shared_vectors / "go" / "sum.golang.org.vkey").read_text().strip())
    note = (shared_vectors / "go" / "treehead-28891140.note").read_bytes()
    with pytest.raises(VerificationError):
        open_head(note.replace(b"28891140", b"28891141"), [key], file="head")


def test_what_is_remembered_is_read_back_and_never_goes_back(world: GoWorld) -> None:
    small, large = head_of(world, 300), head_of(world)
    assert remembered(large.to_table(), place="here") == large
    assert later(large, small) == large
    assert later(None, small) == small
    assert remembered(None, place="here") is None


@pytest.mark.parametrize("change", [{"size": -1}, {"root": "AA=="}, {"root": "x"}, {"note": ""}, {"more": 1}])
def test_a_damaged_memory_is_an_error_and_never_nothing_seen(world: GoWorld, change: dict[str, object]) -> None:
    with pytest.raises(StoreError, match="the tree head that was seen last is damaged"):
        remembered({**head_of(world).to_table(), **change}, place="here")
