"""Fuzzing, as far as it fits into every run of the tests: the corpus, and it bent in the same ways each time."""

from __future__ import annotations

import gc
import random
import zlib

import pytest

from fuzz.seeds import CORPUS, seeds
from fuzz.targets import TARGETS, check

BENT = 300
DICTIONARY = (
    *(b"", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xe2\x80\xa8", b"\\ud800", b"\\u0000", b'"', b"\\"),
    *(b"{}", b"[]", b"[" * 100, b"{" * 100, b"null", b"true", b"-1", b"0", b"1e9", b"9" * 20, b"NaN", b"''", b'""'),
    *(b"\r\n", b"\n", b" ", b":", b",", b"..", b"/", b"%2e", b"\t", b"#", b"'''", b"&a *a", b"<<: ", b"- ", b"|"),
)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_and_what_it_is_bent_into_is_read_or_refused_and_nothing_else(target: str) -> None:
    start = seeds(target)
    assert start
    spread = random.Random(zlib.crc32(target.encode()))
    for seed in start:
        check(target, seed)
    for _ in range(BENT // 10 if target == "http" else BENT):
        check(target, bent(spread.choice(start), spread))
    gc.collect()  # a socket that nobody closed is this test's fault, not that of the next one


@pytest.mark.parametrize("target", TARGETS)
def test_each_target_starts_from_something_that_is_read(target: str) -> None:
    assert any(check(target, seed) for seed in seeds(target))


def test_each_corpus_belongs_to_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir() if path.is_dir()} <= set(TARGETS)


def test_a_finding_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(data: bytes) -> None:
        raise IndexError(len(data))

    monkeypatch.setitem(TARGETS, "json", broken)
    with pytest.raises(IndexError):
        check("json", b"{}")


def bent(data: bytes, spread: random.Random) -> bytes:
    """Cut, double, change or fill in, a few times."""
    for _ in range(spread.randint(1, 4)):
        start = spread.randint(0, len(data))
        end = min(len(data), start + spread.choice((0, 1, 1, 2, 8, 64)))
        piece = data[start:end]
        match spread.randint(0, 4):
            case 0:
                new = b""
            case 1:
                new = piece * 2
            case 2:
                new = bytes(byte ^ 1 << spread.randint(0, 7) for byte in piece)
            case 3:
                new = spread.choice(DICTIONARY)
            case _:
                new = piece[::-1]
        data = data[:start] + new + data[end:]
    return data
