"""Asking for packuments: however a registry fails, it ends in one line and in time, and credentials stay home."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from kedge.errors import FetchError
from kedge.registries.npm.config import Source
from kedge.registries.npm.fetch import Asker, FetchLimits, NotServedError, Watch
from support import server as hostile
from support.server import Exchange, HostileServer

LIMITS = FetchLimits(total_s=60, idle_s=60, attempts=2, max_bytes=1 << 20)
IMPATIENT = FetchLimits(total_s=2.0, idle_s=0.4, attempts=2, max_bytes=1 << 20)  # for servers that never answer in time


@contextmanager
def asking(limits: FetchLimits = LIMITS) -> Iterator[Asker]:
    watch = Watch(limits)
    asker = Asker(watch)
    try:
        yield asker
    finally:
        watch.close()
        asker.close()


def ask(server: HostileServer, name: str = "a", *, limits: FetchLimits = LIMITS, token: str | None = None) -> bytes:
    with asking(limits) as asker:
        return asker.packument(Source(url=f"{server.url}/", authorization=token), name)


def refused(server: HostileServer, *, limits: FetchLimits = LIMITS) -> str:
    with pytest.raises(FetchError) as caught:
        ask(server, limits=limits)
    assert not isinstance(caught.value, NotServedError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_packument_is_given_as_it_is_over_one_connection() -> None:
    with HostileServer({"a": b"{}", "@s/b": b"{ }"}) as server, asking() as asker:
        source = Source(url=f"{server.url}/")
        assert asker.packument(source, "a") == b"{}"
        assert asker.packument(source, "@s/b") == b"{ }"
        with pytest.raises(NotServedError):
            asker.packument(source, "c")
        assert asker.packument(source, "a") == b"{}"
        assert {request.connection for request in server.requests} == {1}


def test_a_compressed_packument_is_read() -> None:
    body = gzip.compress(b"{}" * 100_000)
    with HostileServer({}) as server:
        server.misbehave("a", lambda exchange: exchange.send(200, body, {"Content-Encoding": "gzip"}))
        assert ask(server) == b"{}" * 100_000


@pytest.mark.parametrize("code", [404, 410])
def test_what_the_registry_does_not_have_is_told_apart(code: int) -> None:
    with HostileServer({}) as server:
        server.misbehave("a", hostile.status(code))
        with pytest.raises(NotServedError, match=f"the registry answers {code}"):
            ask(server)


@pytest.mark.parametrize("code", [400, 401, 403, 418, 429, 500, 503])
def test_another_status_is_said(code: int) -> None:
    with HostileServer({"a": b"{}"}) as server:
        server.misbehave("a", hostile.status(code))
        assert f"the registry answers {code}" in refused(server)


@pytest.mark.parametrize(
    "behaviour",
    [hostile.status(503), hostile.status(429, retry_after="0"), hostile.hang_up(), hostile.cut_body(1)],
    ids=["503", "429", "hang up", "cut"],
)
def test_what_can_pass_is_tried_again(behaviour: Callable[[Exchange], None]) -> None:
    with HostileServer({"a": b'{"name": "a"}'}) as server:
        server.misbehave("a", behaviour, once=True)
        assert ask(server) == b'{"name": "a"}'
        assert len(server.requests) == 2


def test_retry_after_never_holds_longer_than_the_deadline() -> None:
    with HostileServer({"a": b"{}"}) as server:
        server.misbehave("a", hostile.status(429, retry_after="999999"))
        begun = time.monotonic()
        assert "429 too many requests" in refused(server)
        assert time.monotonic() - begun < LIMITS.total_s
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "behaviour",
    [hostile.silence(), hostile.slow_body(20), hostile.slow_headers(20), hostile.endless_headers()],
    ids=["silence", "slow body", "slow headers", "endless headers"],
)
def test_a_registry_that_stalls_is_left_long_before_it_ends(behaviour: Callable[[Exchange], None]) -> None:
    with HostileServer({"a": b"{" * 10_000}) as server:
        server.misbehave("a", behaviour)
        begun = time.monotonic()
        refused(server, limits=IMPATIENT)
        assert time.monotonic() - begun < 100, (
            "the quickest of them would take 500 seconds, and two seconds are allowed"
        )


@pytest.mark.parametrize(
    "behaviour",
    [hostile.endless_body(), hostile.endless_body(declared=10**12), hostile.gzip_bomb(20_000_000)],
    ids=["endless", "declared", "bomb"],
)
def test_a_body_without_measure_is_cut_at_the_limit(behaviour: Callable[[Exchange], None]) -> None:
    with HostileServer({}) as server:
        server.misbehave("a", behaviour)
        assert "the answer is larger than 1 MiB" in refused(server)


def test_a_large_packument_is_read_up_to_the_limit() -> None:
    data = b"{" * (20 << 20)
    with HostileServer({"a": data}) as server:
        assert ask(server, limits=FetchLimits(max_bytes=20 << 20)) == data
        assert "larger than 19 MiB" in refused(server, limits=FetchLimits(max_bytes=19 << 20))


def test_a_redirect_is_followed_on_the_same_origin_only() -> None:
    with HostileServer({"a": b"{}", "b": b"{ }"}) as server, HostileServer({"a": b"evil"}) as other:
        server.misbehave("a", hostile.redirect("/b"))
        assert ask(server, token="Bearer t") == b"{ }"
        server.misbehave("a", hostile.redirect(f"{other.url}/a"))
        text = refused(server)
        assert "redirects to another origin" in text
        assert other.requests == []
        server.misbehave("a", hostile.redirect("/a"))
        assert "more than 3 redirects" in refused(server)


def test_credentials_are_sent_to_their_registry() -> None:
    with HostileServer({"a": b"{}"}) as server:
        ask(server, token="Bearer t")
        assert server.requests[0].headers["Authorization"] == "Bearer t"
        ask(server)
        assert "Authorization" not in server.requests[1].headers


def test_credentials_are_never_sent_over_plain_http_to_another_host() -> None:
    with asking() as asker, pytest.raises(FetchError, match="credentials are not sent over plain http"):
        asker.packument(Source(url="http://registry.invalid/", authorization="Bearer t"), "a")


def test_a_registry_that_never_answers_is_given_up() -> None:
    limits = FetchLimits(total_s=60, idle_s=60, attempts=1, failures=3)
    with HostileServer({}) as server, asking(limits) as asker:
        server.misbehave("*", hostile.status(500))
        source = Source(url=f"{server.url}/")
        for _ in range(3):
            with pytest.raises(FetchError, match="answers 500"):
                asker.packument(source, "a")
        with pytest.raises(FetchError, match=r"not asked: .* failed 3 times, and never answered"):
            asker.packument(source, "a")
        assert len(server.requests) == 3


def test_a_registry_that_answered_once_is_asked_on() -> None:
    limits = FetchLimits(total_s=60, idle_s=60, attempts=1, failures=2)
    with HostileServer({"good": b"{}"}) as server, asking(limits) as asker:
        server.misbehave("bad", hostile.status(500))
        source = Source(url=f"{server.url}/")
        asker.packument(source, "good")
        for _ in range(5):
            with pytest.raises(FetchError, match="answers 500"):
                asker.packument(source, "bad")


def test_nothing_listens_is_said_in_one_line() -> None:
    with HostileServer({}) as server:
        url = server.url
    with asking() as asker, pytest.raises(FetchError, match="cannot connect"):
        asker.packument(Source(url=f"{url}/"), "a")


def test_closing_the_watch_ends_what_is_under_way() -> None:
    import threading

    limits = FetchLimits(total_s=60, idle_s=60)
    failed: list[str] = []
    with HostileServer({}) as server:
        server.misbehave("a", hostile.silence())
        watch = Watch(limits)

        def work() -> None:
            try:
                Asker(watch).packument(Source(url=f"{server.url}/"), "a")
            except FetchError as error:
                failed.append(str(error))

        thread = threading.Thread(target=work)
        thread.start()
        while not server.requests:
            time.sleep(0.01)
        watch.close()
        thread.join(30)
        assert not thread.is_alive()
    assert len(failed) == 1
