"""A13 to A17, A20, A21 and B8: a real server that misbehaves, through the HTTP transport.

Deadlines are short, so that the tests end; none of them asserts how long something took.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from kedge.client.client import TrustClient
from kedge.errors import ExpiredError, FetchError, Reason, VerificationError
from kedge.transport.http import HttpLimits, HttpTransport
from kedge.transport.mirror import Mirror
from support.certificates import server_certificate
from support.server import (
    Behaviour,
    Exchange,
    HostileServer,
    captive_portal,
    cut_body,
    endless_body,
    endless_headers,
    gzip_bomb,
    hang_up,
    redirect,
    silence,
    slow_body,
    slow_headers,
    status,
)
from support.world import KEYS, World

ROOT, TIMESTAMP = "metadata/2.root.json", "metadata/timestamp.json"


@pytest.fixture
def server(world: World) -> Iterator[HostileServer]:
    with HostileServer(world.repo) as running:
        yield running


@contextmanager
def client_of(
    world: World, url: str, *, timeout_s: float = 20, ca_file: Path | None = None, limits: HttpLimits | None = None
) -> Iterator[TrustClient]:
    transport = HttpTransport(Mirror(url=url, ca_file=str(ca_file) if ca_file else None), limits=limits)
    with world.client(transport, timeout_s=timeout_s) as client:
        yield client


def keys(world: World, server: HostileServer) -> bytes:
    with client_of(world, server.url) as client:
        return client.target(KEYS).data


def files_and_limits() -> list[str]:
    return [ROOT, TIMESTAMP, "metadata/2.snapshot.json", "metadata/2.targets.json", "metadata/1.registry.example.json"]


# Row A13: more than anybody wants to read


@pytest.mark.parametrize("path", files_and_limits())
@pytest.mark.parametrize(
    "behaviour", [endless_body(), endless_body(declared=10**9), gzip_bomb(20_000_000)], ids=["endless", "1-GB", "gzip"]
)
def test_a13_a_body_without_end_is_refused_and_nothing_of_it_kept(
    world: World, server: HostileServer, path: str, behaviour: Behaviour
) -> None:
    server.misbehave(path, behaviour)
    with client_of(world, server.url) as client:
        error = world.refused(f"{path}: is longer than the", "bytes that are allowed", run=lambda: client.target(KEYS))
    assert error.refusal.reason is Reason.TOO_LARGE
    assert sum(file.stat().st_size for file in world.folder.rglob("*") if file.is_file()) < 100_000
    server.behave()
    assert keys(world, server) == b"the keys"


def test_a13_headers_without_end_are_an_error(world: World, server: HostileServer) -> None:
    server.misbehave(TIMESTAMP, endless_headers())
    with client_of(world, server.url, limits=HttpLimits(attempts=1)) as client:
        world.refused(TIMESTAMP, "headers", kind=FetchError, run=client.refresh)
    server.behave()
    assert keys(world, server) == b"the keys"


# Row A14: slower than anybody wants to wait


@pytest.mark.parametrize("path", [ROOT, TIMESTAMP, "metadata/2.targets.json"])
@pytest.mark.parametrize(
    "behaviour", [slow_body(20), slow_headers(20), silence()], ids=["slow-body", "slow-headers", "silence"]
)
def test_a14_a_server_that_never_finishes_is_given_up(
    world: World, server: HostileServer, path: str, behaviour: Behaviour
) -> None:
    server.misbehave(path, behaviour)
    # The last of the files is reached in time on a slow machine, too.
    timeout_s = 3 if path.endswith("targets.json") else 0.5
    with client_of(world, server.url, timeout_s=timeout_s) as client:
        error = world.refused(
            path,
            f"no complete answer within the {timeout_s} seconds allowed",
            kind=FetchError,
            run=lambda: client.target(KEYS),
        )
    assert error.hint
    server.behave()
    assert keys(world, server) == b"the keys"


def test_a14_a_client_with_valid_state_answers_all_the_same_and_says_so(world: World, server: HostileServer) -> None:
    assert keys(world, server) == b"the keys"
    server.misbehave("*", silence())
    with client_of(world, server.url, timeout_s=0.3) as client:
        trust = client.refresh()
    assert not trust.refreshed
    (warning,) = trust.warnings
    assert "not refreshed" in warning
    assert "no complete answer within the 0.3 seconds allowed" in warning
    server.behave()
    with client_of(world, server.url) as client:
        assert client.refresh().refreshed


# Row A15: a server that asks for patience


@pytest.mark.parametrize("code", [429, 503])
def test_a15_retry_after_does_not_outlast_the_deadline(world: World, server: HostileServer, code: int) -> None:
    server.misbehave(TIMESTAMP, status(code, retry_after="999999"))
    with client_of(world, server.url) as client:
        world.refused(TIMESTAMP, f"answers {code}", kind=FetchError, run=client.refresh)
    assert server.paths.count(TIMESTAMP) == 1
    server.behave()
    assert keys(world, server) == b"the keys"


# Row A16: a server that sends the client elsewhere


@pytest.mark.parametrize("path", [ROOT, TIMESTAMP, "metadata/2.snapshot.json"])
@pytest.mark.parametrize("to", ["http://127.0.0.2:9/x", "file:///etc/passwd", "https://127.0.0.1:9/x", "//[::1]/x"])
def test_a16_a_redirect_to_another_origin_is_refused(world: World, server: HostileServer, path: str, to: str) -> None:
    server.misbehave(path, redirect(to))
    with client_of(world, server.url) as client:
        world.refused(path, "redirects to another origin", reason=Reason.REDIRECT, run=client.refresh)
    server.behave()
    assert keys(world, server) == b"the keys"


def test_a16_even_a_mirror_that_serves_the_same_files_is_not_gone_to(world: World, server: HostileServer) -> None:
    with HostileServer(world.repo) as other:
        server.misbehave(TIMESTAMP, redirect(f"{other.url}/{TIMESTAMP}"))
        with client_of(world, server.url) as client:
            world.refused(other.url, reason=Reason.REDIRECT, run=client.refresh)
        assert other.requests == []


def test_a16_from_https_to_http_is_refused(world: World, tmp_path: Path) -> None:
    tls, ca_file = server_certificate(tmp_path)
    with HostileServer(world.repo, tls=tls) as server, HostileServer(world.repo) as plain:
        server.misbehave(TIMESTAMP, redirect(f"{plain.url}/{TIMESTAMP}"))
        with client_of(world, server.url, ca_file=ca_file) as client:
            world.refused("redirects to another origin", reason=Reason.REDIRECT, run=client.refresh)
        assert plain.requests == []
        server.behave()
        with client_of(world, server.url, ca_file=ca_file) as client:
            assert client.target(KEYS).data == b"the keys"


# Row A17: names that are not harmless

ODD_ROLES = ["../../up", "a/b", "nul\0", "ü" * 100, "x?y#z", "%2e%2e%2fup", "a\\b", "x" * 300, " ", "new\nline"]
ODD_PATHS = ["../../x", "a/../../x", "/x", "a//x", "./x", "a/./x", "nul\0x", "a/.."]


@pytest.mark.parametrize("role", ODD_ROLES, ids=ascii)
def test_a17_a_role_name_leads_nowhere_else(world: World, server: HostileServer, role: str) -> None:
    world.repo.delegate(role, paths=["odd/*"])
    world.repo.add_target("odd/x", b"odd", role=role)
    world.repo.publish()
    with client_of(world, server.url) as client:
        assert client.target("odd/x").data == b"odd"
    for path in server.paths:
        assert path.split("/")[0] in ("metadata", "targets")
        assert path.isascii()
        assert ".." not in path.split("/")
        assert path.count("/") == (2 if path.startswith("targets/") else 1)


@pytest.mark.parametrize("path", ODD_PATHS, ids=ascii)
def test_a17_a_target_path_that_leads_out_is_refused_before_it_is_asked_for(
    world: World, server: HostileServer, path: str
) -> None:
    world.repo.add_target(path, b"odd")
    world.repo.publish()
    with client_of(world, server.url) as client:
        world.refused(
            "is not a path below the repository's targets", reason=Reason.PATH, run=lambda: client.target(path)
        )
    assert not [asked for asked in server.paths if asked.startswith("targets")]
    assert keys(world, server) == b"the keys"


@pytest.mark.parametrize("path", ["x" * 300, "a b/ü?#%.json", "%2e%2e/x", "a\\..\\b", "name\nline"], ids=ascii)
def test_a17_an_odd_target_path_is_quoted(world: World, server: HostileServer, path: str) -> None:
    world.repo.add_target(path, b"odd")
    world.repo.publish()
    with client_of(world, server.url) as client:
        assert client.target(path).data == b"odd"


# Row A20: answers that do not mean "there is no newer root"


@pytest.mark.parametrize("code", [204, 304, 400, 401, 410, 429, 500, 502, 503])
def test_a20_no_other_status_is_taken_for_no_newer_root(world: World, server: HostileServer, code: int) -> None:
    stolen = world.repo.signers["timestamp"]
    world.repo.rotate("timestamp")
    world.repo.sign("timestamp", signers=stolen)
    server.misbehave(ROOT, status(code, retry_after="999999"))
    with client_of(world, server.url) as client:
        world.refused(ROOT, f"answers {code}", kind=FetchError, run=client.refresh)
    assert not world.holds(world.repo.files[TIMESTAMP])
    server.behave()
    world.repo.publish()
    with client_of(world, server.url) as client:
        assert client.refresh().root.version == 2


def test_a20_a_captive_portal_is_not_taken_for_no_newer_root(world: World, server: HostileServer) -> None:
    server.misbehave("*", captive_portal())
    with client_of(world, server.url) as client:
        world.refused("2.root.json: is a page of HTML", server.url, reason=Reason.PORTAL, run=client.refresh)
    server.behave()
    assert keys(world, server) == b"the keys"


def test_a20_an_empty_answer_is_not_taken_for_no_newer_root(world: World, server: HostileServer) -> None:
    server.misbehave(ROOT, status(200, body=b""))
    with client_of(world, server.url) as client:
        world.refused("2.root.json: is empty", reason=Reason.MALFORMED, run=client.refresh)
    server.behave()
    assert keys(world, server) == b"the keys"


@pytest.mark.parametrize(
    ("portal", "text"),
    [(captive_portal(), "is a page of HTML"), (redirect("http://login.invalid/"), "redirects to another origin")],
    ids=["page", "redirect"],
)
def test_a20_in_front_of_a_warm_client_a_captive_portal_says_no_more_than_silence(
    world: World, server: HostileServer, portal: Behaviour, text: str
) -> None:
    """What is stored answers while it is valid, and says so; nothing that the portal says counts."""
    assert keys(world, server) == b"the keys"
    floors = world.floors()
    server.misbehave("*", portal)
    with client_of(world, server.url) as client:
        trust = client.refresh()
        assert not trust.refreshed
        assert any(warning.startswith("not refreshed: ") and text in warning for warning in trust.warnings)
        assert client.target(KEYS).data == b"the keys"
    assert world.floors() == floors
    world.clock.advance(timedelta(days=2))
    with client_of(world, server.url) as client:
        world.refused("expired", text, kind=ExpiredError, run=client.refresh)
    server.behave()
    world.tomorrow(hours=1)
    assert keys(world, server) == b"the keys"


def test_a20_what_was_asked_ahead_in_one_refresh_does_not_answer_the_next_one(
    world: World, server: HostileServer
) -> None:
    """Roots that were missing when they were asked for ahead may have been published since."""
    world.repo.rotate("root", keys=3, threshold=2)
    with client_of(world, server.url) as client:
        assert client.refresh().root.version == 2
        for _ in range(4):
            with world.repo.edit("root"):
                pass
        stolen = world.repo.signers["timestamp"]
        world.repo.rotate("timestamp")
        with world.repo.lying():
            world.repo.sign("timestamp", signers=stolen)
            world.refused("signed by 0 of the 1 keys that root version 7", run=client.refresh)
        assert client.refresh().root.version == 7


# Row A25: a publisher at work, and answers that were asked ahead


def test_a25_roots_that_were_missing_when_they_were_asked_ahead_are_asked_for_again(
    world: World, server: HostileServer
) -> None:
    """Two roots are published while the timestamp is under way; the second one replaces its key."""
    world.repo.rotate("root", keys=3, threshold=2)
    ahead = {f"metadata/{version}.root.json" for version in (3, 4, 5)}

    def publish(exchange: Exchange) -> None:
        while not ahead <= set(server.paths):
            exchange.wait(0.01)
        with world.repo.edit("root"):
            pass
        world.repo.rotate("timestamp")
        exchange.send(200, world.repo.files[TIMESTAMP])

    server.misbehave(TIMESTAMP, publish, once=True)
    with client_of(world, server.url) as client:
        assert client.refresh().root.version == 4
    assert server.paths.count("metadata/4.root.json") == 2


# Row A21: a stolen TLS certificate


def test_a21_behind_a_right_certificate_another_repository_is_refused(world: World, tmp_path: Path) -> None:
    tls, ca_file = server_certificate(tmp_path)
    theirs = World(tmp_path / "theirs")
    theirs.repo.add_target(KEYS, b"THE KEYS", role="registry.example")
    theirs.repo.publish()
    with HostileServer(theirs.repo, tls=tls) as server, client_of(world, server.url, ca_file=ca_file) as client:
        world.refused("timestamp.json: signed by 0 of the 1 keys", reason=Reason.SIGNATURES, run=client.refresh)
        assert not world.holds(theirs.repo.files[TIMESTAMP])
    with HostileServer(world.repo, tls=tls) as server, client_of(world, server.url, ca_file=ca_file) as client:
        assert client.target(KEYS).data == b"the keys"


def test_a21_behind_a_right_certificate_old_metadata_are_refused(world: World, tmp_path: Path) -> None:
    tls, ca_file = server_certificate(tmp_path)
    old = dict(world.repo.files)
    world.tomorrow(hours=1)
    with HostileServer(world.repo, tls=tls) as server, client_of(world, server.url, ca_file=ca_file) as client:
        assert client.target(KEYS).data == b"the keys"
    with HostileServer(old, tls=tls) as server, client_of(world, server.url, ca_file=ca_file) as client:
        world.refused("rollback of timestamp", reason=Reason.ROLLBACK, run=client.refresh)


# Row B8: the network fails


def unreachable(world: World, url: str, *texts: str, ca_file: Path | None = None) -> None:
    """A cold client says what is wrong and what to do; a warm one answers from state and says the same."""
    cold = World(world.folder.parent / "cold")
    with client_of(cold, url, ca_file=ca_file, limits=HttpLimits(attempts=2)) as client:
        error = cold.refused(url, *texts, kind=FetchError, run=client.refresh)
    assert error.hint
    assert not cold.holds(world.repo.initial_root)
    world.keys()
    with client_of(world, url, ca_file=ca_file, limits=HttpLimits(attempts=2)) as client:
        trust = client.refresh()
        assert not trust.refreshed
        assert any(all(text in warning for text in texts) for warning in trust.warnings)
        assert client.target(KEYS).data == b"the keys"


def test_b8_a_refused_connection(world: World) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        unreachable(world, f"http://127.0.0.1:{port}", "cannot connect: connection refused", "tried 2 times")


def test_b8_a_name_that_does_not_resolve(world: World) -> None:
    unreachable(world, "http://kedge-test.invalid", "the name kedge-test.invalid cannot be resolved")


def test_b8_tls_that_fails(world: World, tmp_path: Path) -> None:
    tls, _ = server_certificate(tmp_path)
    with HostileServer(world.repo, tls=tls) as server:
        unreachable(world, server.url, "TLS fails: ", "certificate")


def test_b8_a_proxy_that_fails(world: World, server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{reserved.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "")
        unreachable(world, server.url, "the proxy fails: connection refused")


@pytest.mark.parametrize("behaviour", [cut_body(), hang_up()], ids=["cut", "hang-up"])
def test_b8_a_body_that_is_cut_short(world: World, server: HostileServer, behaviour: Behaviour) -> None:
    server.misbehave(TIMESTAMP, behaviour)
    unreachable(world, server.url, "timestamp.json: the connection breaks off", "tried 2 times")


@pytest.mark.parametrize("behaviour", [cut_body(), hang_up(), status(503)], ids=["cut", "hang-up", "503"])
def test_b8_what_passes_by_itself_is_tried_again(world: World, server: HostileServer, behaviour: Behaviour) -> None:
    for path in (ROOT, TIMESTAMP, world.repo.path_of("snapshot"), world.repo.path_of("targets")):
        server.misbehave(path, behaviour, once=True)
    with client_of(world, server.url) as client:
        assert client.refresh().refreshed


def test_b8_require_refresh_takes_no_answer_from_state(world: World) -> None:
    world.keys()
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        transport = HttpTransport(
            Mirror(url=f"http://127.0.0.1:{reserved.getsockname()[1]}"), limits=HttpLimits(attempts=1)
        )
        with TrustClient(
            world.anchor(), state=world.folder, transport=transport, clock=world.clock, require_refresh=True
        ) as client:
            world.refused("cannot connect", kind=FetchError, run=client.refresh)


def test_b8_a_refusal_never_falls_back_to_state(world: World, server: HostileServer) -> None:
    assert keys(world, server) == b"the keys"
    with world.repo.lying():
        with world.repo.tamper(TIMESTAMP) as document:
            document["signed"]["version"] += 1
        with client_of(world, server.url) as client, pytest.raises(VerificationError, match="signed by 0"):
            client.target(KEYS)
    assert keys(world, server) == b"the keys"
