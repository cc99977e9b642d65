"""The key document of a checksum database: what is read, in which order it counts, and what is refused by name."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.documents import DocumentError
from kedge.errors import InputError, Reason, VerificationError
from kedge.registries.export import Source
from kedge.registries.go.export import go_env, gosumdb
from kedge.registries.go.registry import Go, read_lines
from kedge.registries.keys import KeySet, KeyStatus
from kedge.registries.registry import NoKeysError, Registry, Severity
from support.sumdb import new_key

NOW = datetime(2026, 8, 22, tzinfo=UTC)
SUM = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
NAME = "sum.example"
OLD, NEW = new_key(NAME, bytes(32)), new_key(NAME, bytes([1] * 32))


def parsed(*lines: str, registry: str = f"go/{NAME}", revoked: tuple[str, ...] = ()) -> KeySet:
    module: Registry = Go()
    custom = {"kedge": {"v": 1, "revoked": list(revoked)}} if revoked else None
    return module.parse("".join(f"{line}\n" for line in lines).encode(), registry=registry, custom=custom, now=NOW)


def source(keys: KeySet) -> Source:
    def no_fetch(path: str) -> None:
        raise AssertionError(path)

    return Source(keys=keys, fetch=no_fetch)  # type: ignore[arg-type]  # it is never called


def test_the_real_key_is_read_though_its_base64_holds_a_plus() -> None:
    (key,) = parsed(SUM, registry="go/sum.golang.org").keys
    assert (key.id, key.material.decode(), key.status) == ("sum.golang.org+033de0ae", SUM, KeyStatus.ACTIVE)
    assert Go().target_path("go/sum.golang.org") == "go/sum.golang.org/vkey"


def test_the_shared_vkey_is_the_same(shared_vectors: Path) -> None:
    assert (shared_vectors / "go" / "sum.golang.org.vkey").read_text().strip() == SUM


@pytest.mark.parametrize("registry", ["go", "go/", "go/a/b", "go/a b", "go/-a", "gone/sum.example", "go/" + "a" * 201])
def test_what_is_no_databases_id_is_refused(registry: str) -> None:
    with pytest.raises(InputError, match="is not a checksum database's id"):
        Go().target_path(registry)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (OLD.vkey.encode(), "must end with the end of a line"),
        (b"\n", "line 1: must be a verifier key such as example.com/log+0123abcd+base64"),
        (f"{OLD.vkey}\n{OLD.vkey}\n".encode(), "holds a key twice"),
        (f"{OLD.vkey}\r\n".encode(), "line 1: sum.example: the key is not base64"),
        (f"{OLD.vkey} http://sum.example\n".encode(), "line 1: the URL must be https: plain http is for this machine"),
        (f"{OLD.vkey} https://u:p@sum.example\n".encode(), "line 1: the URL must be https, with a host, without"),
        (f"{OLD.vkey} https://[sum.example\n".encode(), "line 1: the URL must be https, with a host, without"),
        (f"{OLD.vkey} \n".encode(), "line 1: the URL must be https, with a host, without"),
        (f"{new_key('other.example').vkey}\n".encode(), "line 1: must be a key of sum.example, not of other.example"),
        (OLD.vkey.replace("+", "+0", 1).encode() + b"\n", "line 1: sum.example: the key id must be 8 lower-case"),
        ("ключ\n".encode(), "is not ASCII (byte 0)"),
        (b"x\n" * 101, "holds 101 lines, at most 100 are read"),
        (b"x" * 65_537, "is longer than 65536 bytes"),
    ],
    ids=range(13),  # the keys differ in each process
)
def test_a_document_that_is_not_in_order_is_refused_by_line(data: bytes, problem: str) -> None:
    with pytest.raises(DocumentError) as caught:
        Go().parse(data, registry=f"go/{NAME}", custom=None, now=NOW)
    assert str(caught.value).startswith(problem)


def test_an_empty_document_is_no_keys_and_not_nothing_to_check() -> None:
    with pytest.raises(NoKeysError):
        parsed()


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_whatever_stands_there_is_read_or_refused_by_name(data: bytes) -> None:
    try:
        lines = read_lines(data)
    except DocumentError:
        return
    assert "".join(f"{line.to_text()}\n" for line in lines).encode() == data


def test_the_first_line_is_exported_and_the_other_named() -> None:
    keys = parsed(f"{NEW.vkey} https://sums.example/db", OLD.vkey)
    exported = gosumdb.export([source(keys)], with_retired=True)
    assert exported.content.decode() == f"export GOSUMDB='{NEW.vkey} https://sums.example/db'\n"
    assert exported.notes == (f"{OLD.id} is left out: a go command takes one key, and {NEW.id} stands first",)
    settled = go_env.export([source(parsed(SUM, registry="go/sum.golang.org"))], with_retired=True)
    assert settled.content.decode() == f"go env -w GOSUMDB={SUM}\n"


def test_a_revoked_key_is_never_exported() -> None:
    exported = gosumdb.export([source(parsed(OLD.vkey, NEW.vkey, revoked=(OLD.id,)))], with_retired=True)
    assert exported.value == NEW.vkey
    assert [key.id for key in exported.left_out] == [OLD.id]
    with pytest.raises(VerificationError, match="no key is left to export") as caught:
        gosumdb.export([source(parsed(OLD.vkey, revoked=(OLD.id,)))], with_retired=True)
    assert caught.value.refusal.reason is Reason.NO_KEYS


def test_two_databases_do_not_fit_into_one_variable() -> None:
    with pytest.raises(InputError, match="a go command asks one checksum database"):
        gosumdb.export([source(parsed(OLD.vkey)), source(parsed(NEW.vkey))], with_retired=True)


def test_a_rotation_without_overlap_is_stopped_before_anybody_signs() -> None:
    (finding,) = Go().lint(parsed(OLD.vkey), parsed(NEW.vkey))
    assert (finding.rule, finding.severity) == ("go/no-overlap", Severity.ERROR)
    assert Go().lint(parsed(OLD.vkey), parsed(NEW.vkey, OLD.vkey)) == ()
    assert Go().lint(parsed(NEW.vkey, OLD.vkey), parsed(NEW.vkey)) == ()
    assert Go().lint(None, parsed(NEW.vkey)) == ()


def test_a_stolen_key_may_go_at_once_with_a_warning() -> None:
    (finding,) = Go().lint(parsed(OLD.vkey), parsed(NEW.vkey, revoked=(OLD.id,)))
    assert finding.severity is Severity.WARNING


def test_a_revoked_key_may_not_stand_first() -> None:
    findings = Go().lint(parsed(OLD.vkey), parsed(OLD.vkey, NEW.vkey, revoked=(OLD.id,)))
    assert (findings[0].rule, findings[0].severity) == ("go/first-key-revoked", Severity.ERROR)
