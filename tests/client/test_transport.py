"""Transports bound what they read, in bytes and in time, and say in one line what went wrong where."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kedge.errors import FetchError, InputError, KedgeError, Reason, VerificationError
from kedge.transport.directory import DirectoryTransport
from kedge.transport.http import HttpLimits, HttpTransport
from kedge.transport.mirror import Deadline, Mirror
from kedge.transport.open import open_mirror
from kedge.tuf.steps import MISSING, Area, Fetch
from support.certificates import server_certificate
from support.server import (
    Behaviour,
    HostileServer,
    bytes_of,
    cut_body,
    delay,
    endless_body,
    endless_headers,
    gzip_bomb,
    hang_up,
    last_answer,
    redirect,
    silence,
    slow_body,
    slow_headers,
    status,
)

BODY = b"0123456789" * 100
FILES = {"metadata/a": BODY, "metadata/b": b"b", "metadata/c": b"c", "targets/t": b"t", "top": b"top"}
A = Fetch(Area.METADATA, "a", 10_000)
SLOW_S = 0.4


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with HostileServer(FILES) as running:
        yield running


@pytest.fixture
def transport(server: HostileServer) -> Iterator[HttpTransport]:
    with opened(server) as transport:
        yield transport


@contextmanager
def opened(
    server: HostileServer | str, *, limits: HttpLimits | None = None, ca_file: str | None = None
) -> Iterator[HttpTransport]:
    url = server if isinstance(server, str) else server.url
    transport = HttpTransport(Mirror(url=url, ca_file=ca_file), limits=limits)
    try:
        yield transport
    finally:
        transport.close()


def fails(get: Callable[[], object], *texts: str) -> KedgeError:
    with pytest.raises(KedgeError) as caught:
        get()
    assert "\n" not in str(caught.value)
    for text in texts:
        assert text in str(caught.value)
    assert caught.value.hint
    return caught.value


# HTTP: what is there, and what is not


def test_files_come_from_both_areas(transport: HttpTransport) -> None:
    assert transport.get(A, Deadline(5)) == BODY
    assert transport.get(Fetch(Area.TARGETS, "t", 10), Deadline(5)) == b"t"


def test_a_mirror_says_where_its_areas_are(server: HostileServer) -> None:
    transport = HttpTransport(Mirror(url=server.url + "/", metadata="", targets="/targets/"))
    assert transport.get(Fetch(Area.METADATA, "top", 10), Deadline(5)) == b"top"
    assert transport.get(Fetch(Area.TARGETS, "t", 10), Deadline(5)) == b"t"
    transport.close()


@pytest.mark.parametrize("code", [403, 404])
def test_missing_is_404_or_403(server: HostileServer, transport: HttpTransport, code: int) -> None:
    server.misbehave("metadata/a", status(code))
    assert transport.get(A, Deadline(5)) == MISSING


@pytest.mark.parametrize("code", [201, 204, 206, 304, 400, 401, 407, 410, 418, 451])
def test_no_other_status_means_missing(server: HostileServer, transport: HttpTransport, code: int) -> None:
    server.misbehave("metadata/a", status(code))
    error = fails(lambda: transport.get(A, Deadline(5)), f"{server.url}/metadata/a", f"answers {code}")
    assert isinstance(error, FetchError)
    assert len(server.requests) == 1
    server.behave()
    assert transport.get(A, Deadline(5)) == BODY


def test_one_connection_serves_all_requests_and_survives_a_missing_file(
    server: HostileServer, transport: HttpTransport
) -> None:
    assert transport.get(Fetch(Area.METADATA, "absent", 10), Deadline(5)) == MISSING
    for _ in range(3):
        transport.get(A, Deadline(5))
    assert {request.connection for request in server.requests} == {1}


def test_what_is_asked_ahead_is_under_way_before_it_is_asked_for(
    server: HostileServer, transport: HttpTransport
) -> None:
    ahead, deadline = (Fetch(Area.METADATA, "b", 10), Fetch(Area.METADATA, "absent", 10)), Deadline(5)
    assert transport.get(Fetch(Area.METADATA, "a", 10_000, ahead=ahead), deadline) == BODY
    assert transport.get(ahead[1], deadline) == MISSING
    assert transport.get(ahead[0], deadline) == b"b"
    assert sorted(server.paths) == ["metadata/a", "metadata/absent", "metadata/b"]


def test_what_was_asked_ahead_for_one_run_does_not_answer_the_next(
    server: HostileServer, transport: HttpTransport
) -> None:
    ahead = (Fetch(Area.METADATA, "b", 10),)
    assert transport.get(Fetch(Area.METADATA, "a", 10_000, ahead=ahead), Deadline(5)) == BODY
    server.misbehave("metadata/b", bytes_of(b"news"))
    assert transport.get(ahead[0], Deadline(5)) == b"news"


def test_without_ahead_there_is_one_request_at_a_time(server: HostileServer, transport: HttpTransport) -> None:
    transport.get(A, Deadline(5))
    assert server.paths == ["metadata/a"]


# HTTP: servers with a fault


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_a_fault_that_passes_is_tried_again(server: HostileServer, transport: HttpTransport, code: int) -> None:
    server.misbehave("metadata/a", status(code, retry_after="0"), status(code), once=True)
    assert transport.get(A, Deadline(10)) == BODY
    assert len(server.requests) == 3


def test_a_fault_that_stays_is_said_after_a_few_attempts(server: HostileServer, transport: HttpTransport) -> None:
    server.misbehave("metadata/a", status(503, retry_after="0"))
    fails(lambda: transport.get(A, Deadline(10)), "metadata/a: the server answers 503 service unavailable")
    assert len(server.requests) == HttpLimits().attempts


@pytest.mark.parametrize("after", ["999999", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_retry_after_beyond_the_deadline_is_not_waited_for(
    server: HostileServer, transport: HttpTransport, after: str
) -> None:
    server.misbehave("metadata/a", status(503, retry_after=after))
    fails(lambda: transport.get(A, Deadline(5)), "answers 503")
    assert len(server.requests) == 1


@pytest.mark.parametrize("after", ["soon", "-1", "", "Fri, 99 Foo", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_a_retry_after_that_means_nothing_is_ignored(
    server: HostileServer, transport: HttpTransport, after: str
) -> None:
    server.misbehave("metadata/a", status(503, retry_after=after), once=True)
    assert transport.get(A, Deadline(10)) == BODY


@pytest.mark.parametrize("behaviour", [cut_body(3), hang_up()], ids=["cut", "hang-up"])
def test_an_answer_that_breaks_off_is_asked_for_again(
    server: HostileServer, transport: HttpTransport, behaviour: Behaviour
) -> None:
    server.misbehave("metadata/a", behaviour, once=True)
    assert transport.get(A, Deadline(10)) == BODY
    server.misbehave("metadata/a", behaviour)
    fails(
        lambda: transport.get(A, Deadline(20)), f"{server.url}/metadata/a: the connection breaks off", "tried 4 times"
    )


def test_a_kept_alive_connection_that_the_server_closed_is_opened_again(server: HostileServer) -> None:
    with opened(server, limits=HttpLimits(attempts=2)) as transport:
        server.misbehave("metadata/b", last_answer(), once=True)
        assert transport.get(Fetch(Area.METADATA, "b", 10), Deadline(5)) == b"b"
        assert transport.get(A, Deadline(5)) == BODY


# HTTP: hostile servers


@pytest.mark.parametrize(
    "to",
    ["http://127.0.0.2:1/", "file:///etc/passwd", "//127.0.0.2/", "https://127.0.0.1/", "ftp://127.0.0.1/", "data:,x"],
)
def test_a_redirect_to_another_origin_is_refused(server: HostileServer, transport: HttpTransport, to: str) -> None:
    server.misbehave("metadata/a", redirect(to))
    error = fails(lambda: transport.get(A, Deadline(5)), "metadata/a: redirects to another origin")
    assert isinstance(error, VerificationError)
    assert error.refusal.reason is Reason.REDIRECT
    assert len(server.requests) == 1
    server.behave()
    assert transport.get(A, Deadline(5)) == BODY


def test_a_redirect_on_the_same_origin_is_followed(server: HostileServer, transport: HttpTransport) -> None:
    server.misbehave("metadata/a", redirect("/metadata/b"))
    assert transport.get(A, Deadline(5)) == b"b"


def test_a_redirect_without_end_ends(server: HostileServer, transport: HttpTransport) -> None:
    server.misbehave("metadata/a", redirect("/metadata/a"))
    with pytest.raises(FetchError, match="more than 3 redirects"):
        transport.get(A, Deadline(5))
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    "behaviour",
    [
        endless_body(),
        endless_body(declared=10**12),
        bytes_of(b"x" * 10_001),
        gzip_bomb(50_000_000),
        gzip_bomb(50_000_000, layers=2),
    ],
    ids=["endless", "1-TB", "one-too-many", "gzip-bomb", "double-bomb"],
)
def test_a_body_beyond_the_limit_is_refused(
    server: HostileServer, transport: HttpTransport, behaviour: Behaviour
) -> None:
    server.misbehave("metadata/a", behaviour)
    error = fails_without_hint(lambda: transport.get(A, Deadline(10)), "metadata/a: is longer than the 10000 bytes")
    assert isinstance(error, VerificationError)
    assert error.refusal.reason is Reason.TOO_LARGE
    server.behave()
    assert transport.get(A, Deadline(5)) == BODY


def fails_without_hint(get: Callable[[], object], text: str) -> KedgeError:
    with pytest.raises(KedgeError) as caught:
        get()
    assert text in str(caught.value)
    return caught.value


def test_a_chain_of_encodings_is_one_line(server: HostileServer, transport: HttpTransport) -> None:
    server.misbehave("metadata/a", gzip_bomb(1_000_000, layers=10))
    fails(lambda: transport.get(A, Deadline(10)), "metadata/a: ")


def test_a_body_that_is_not_what_its_encoding_says_is_one_line(server: HostileServer, transport: HttpTransport) -> None:
    server.misbehave("metadata/a", lambda exchange: exchange.send(200, b"no gzip", {"Content-Encoding": "gzip"}))
    fails(lambda: transport.get(A, Deadline(10)), "metadata/a: the answer cannot be decoded")


def test_headers_without_end_are_refused(server: HostileServer) -> None:
    with opened(server, limits=HttpLimits(attempts=1)) as transport:
        server.misbehave("metadata/a", endless_headers())
        fails(lambda: transport.get(A, Deadline(10)), "metadata/a: ", "headers")
        server.behave()
        assert transport.get(A, Deadline(5)) == BODY


@pytest.mark.parametrize("behaviour", [slow_body(20), slow_headers(20)], ids=["slow-body", "slow-headers"])
def test_the_deadline_ends_what_would_never_end(server: HostileServer, behaviour: Behaviour) -> None:
    with opened(server) as transport:
        server.misbehave("metadata/a", behaviour)
        fails(
            lambda: transport.get(A, Deadline(SLOW_S)),
            f"{server.url}/metadata/a: no complete answer within the {SLOW_S} seconds allowed",
        )
        server.behave()
        assert transport.get(A, Deadline(5)) == BODY


def test_a_deadline_that_has_passed_allows_nothing(transport: HttpTransport) -> None:
    fails(lambda: transport.get(A, Deadline(0)), "no complete answer within the 0 seconds")


def test_the_deadline_ends_silence(server: HostileServer) -> None:
    with opened(server) as transport:
        server.misbehave("metadata/a", silence())
        error = fails(
            lambda: transport.get(A, Deadline(SLOW_S)),
            f"{server.url}/metadata/a: no complete answer within the {SLOW_S} seconds allowed",
        )
        assert isinstance(error, FetchError)
        server.behave()
        assert transport.get(A, Deadline(5)) == BODY


def test_silence_ends_before_the_deadline(server: HostileServer) -> None:
    with opened(server, limits=HttpLimits(idle_s=0.1, attempts=2)) as transport:
        server.misbehave("metadata/a", silence())
        fails(
            lambda: transport.get(A, Deadline(30)),
            "metadata/a: the server does not answer for 0.1 seconds (tried 2 times)",
        )


def test_a_body_below_the_minimum_rate_is_given_up_before_the_deadline(server: HostileServer) -> None:
    with opened(server, limits=HttpLimits(rate_grace_s=0.2, attempts=1)) as transport:
        server.misbehave("metadata/a", slow_body(50))
        fails(lambda: transport.get(A, Deadline(60)), "metadata/a: only ", "bytes came in")


def test_a_late_answer_within_the_deadline_is_fine(server: HostileServer, transport: HttpTransport) -> None:
    server.misbehave("metadata/a", delay(0.2))
    assert transport.get(A, Deadline(10)) == BODY


# HTTP: the way there


def test_a_refused_connection_says_so() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        with opened(url, limits=HttpLimits(attempts=2)) as transport:
            fails(
                lambda: transport.get(A, Deadline(5)),
                f"{url}/metadata/a: cannot connect: connection refused (tried 2 times)",
            )


def test_a_name_that_does_not_resolve_says_so() -> None:
    with opened("http://kedge-test.invalid") as transport:
        fails(
            lambda: transport.get(A, Deadline(20)),
            "http://kedge-test.invalid/metadata/a: the name kedge-test.invalid cannot be resolved",
        )


def test_a_certificate_that_is_not_trusted_says_so(tmp_path: Path) -> None:
    context, ca_file = server_certificate(tmp_path)
    with HostileServer(FILES, tls=context) as server:
        with opened(server) as transport:
            fails(lambda: transport.get(A, Deadline(5)), f"{server.url}/metadata/a: TLS fails: ", "certificate")
        with opened(server, ca_file=str(ca_file)) as transport:
            assert transport.get(A, Deadline(5)) == BODY


def test_plain_http_where_tls_is_expected_says_so(server: HostileServer) -> None:
    with opened(server.url.replace("http:", "https:"), limits=HttpLimits(attempts=1)) as transport:
        fails(lambda: transport.get(A, Deadline(5)), "metadata/a: TLS fails")


def test_a_redirect_from_https_to_http_is_refused(tmp_path: Path) -> None:
    context, ca_file = server_certificate(tmp_path)
    with HostileServer(FILES, tls=context) as server, opened(server, ca_file=str(ca_file)) as transport:
        server.misbehave("metadata/a", redirect(server.url.replace("https:", "http:") + "/metadata/b"))
        error = fails(lambda: transport.get(A, Deadline(5)), "redirects to another origin")
        assert isinstance(error, VerificationError)


def test_a_proxy_of_the_environment_is_used(server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "")
    with opened("http://kedge-test.invalid") as transport:
        assert transport.get(A, Deadline(5)) == BODY


def test_a_proxy_that_is_not_there_says_so(server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{reserved.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "")
        with opened(server, limits=HttpLimits(attempts=1)) as transport:
            fails(lambda: transport.get(A, Deadline(5)), "metadata/a: the proxy fails: connection refused")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with opened(server) as transport:
        assert transport.get(A, Deadline(5)) == BODY


def test_a_proxy_that_is_no_address_is_the_users_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "gopher://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(
        InputError, match="the proxy that the environment names cannot be used: expected http://host:port"
    ):
        HttpTransport(Mirror(url="http://127.0.0.1:1"))


# Folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        (tmp_path / "repo" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "repo" / name).write_bytes(data)
    return tmp_path / "repo"


def in_folder(folder: Path) -> DirectoryTransport:
    return DirectoryTransport(folder, Mirror(url=str(folder)))


def test_a_folder_gives_files_and_missing(folder: Path) -> None:
    transport = in_folder(folder)
    assert transport.get(A, Deadline(5)) == BODY
    assert transport.get(Fetch(Area.METADATA, "absent", 10), Deadline(5)) == MISSING
    assert transport.get(Fetch(Area.TARGETS, "a/b/c", 10), Deadline(5)) == MISSING
    assert transport.get(Fetch(Area.TARGETS, "t/under-a-file", 10), Deadline(5)) == MISSING


def test_a_folder_that_is_not_there_is_not_taken_for_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="there is no such folder"):
        in_folder(tmp_path / "absent").get(A, Deadline(5))


def test_a_file_in_a_folder_is_bounded(folder: Path) -> None:
    transport = in_folder(folder)
    assert transport.get(Fetch(Area.METADATA, "a", len(BODY)), Deadline(5)) == BODY
    with pytest.raises(VerificationError, match="is longer than the 999 bytes"):
        transport.get(Fetch(Area.METADATA, "a", len(BODY) - 1), Deadline(5))


@pytest.mark.parametrize("name", ["x" * 300, "%00", "%C3%BC" * 100])
def test_odd_names_in_a_folder_are_missing_or_one_line(folder: Path, name: str) -> None:
    answer = answer_or_error(folder, name)
    assert answer == MISSING or (isinstance(answer, FetchError) and str(answer).isprintable())


def test_a_folder_in_place_of_a_file_is_one_line(folder: Path) -> None:
    (folder / "metadata/sub").mkdir()
    with pytest.raises(FetchError, match="sub: cannot be read: is a directory"):
        in_folder(folder).get(Fetch(Area.METADATA, "sub", 10), Deadline(5))


@pytest.mark.parametrize("name", ["..%2F..%2Fsecret", "sub%2F..%2F..%2F..%2Fsecret", "..", "%2E%2E%2F..%2Fsecret"])
def test_a_quoted_name_does_not_lead_out_of_the_folder(folder: Path, name: str) -> None:
    (folder / "metadata/sub").mkdir()
    (folder.parent / "secret").write_bytes(b"secret")
    answer = answer_or_error(folder, name)
    assert answer == MISSING or isinstance(answer, KedgeError)


def answer_or_error(folder: Path, name: str) -> object:
    try:
        return in_folder(folder).get(Fetch(Area.METADATA, name, 10), Deadline(5))
    except KedgeError as error:
        return error


# Choosing


def test_a_mirror_is_opened_by_its_address(folder: Path) -> None:
    assert open_mirror(Mirror(url=str(folder))).get(A, Deadline(5)) == BODY
    assert open_mirror(Mirror(url=folder.as_uri())).get(A, Deadline(5)) == BODY
    for url in ("https://example.invalid/repo", "http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1/x"):
        opened_here = open_mirror(Mirror(url=url))
        assert opened_here.source == url
        opened_here.close()


@pytest.mark.parametrize(
    "url",
    ["http://example.invalid", "http://127.0.0.1.example.invalid", "ftp://example.invalid", "https://x.invalid/?a=b"],
)
def test_an_address_that_is_not_to_be_used_is_the_users_fault(url: str) -> None:
    with pytest.raises(InputError):
        open_mirror(Mirror(url=url))


# Credentials


def sent(server: HostileServer) -> list[str | None]:
    """The Authorization header of each request."""
    return [request.headers.get("authorization", request.headers.get("Authorization")) for request in server.requests]


@pytest.mark.parametrize(
    ("line", "header"),
    [("bearer abc.def-123\n", "Bearer abc.def-123"), ("Basic user:pass word", "Basic dXNlcjpwYXNzIHdvcmQ=")],
)
def test_credentials_come_from_a_file(server: HostileServer, tmp_path: Path, line: str, header: str) -> None:
    (tmp_path / "credentials").write_text(line)
    transport = HttpTransport(Mirror(url=server.url, credentials_file=str(tmp_path / "credentials")))
    assert transport.get(A, Deadline(5)) == BODY
    assert sent(server) == [header]
    transport.close()


def test_credentials_come_from_netrc(server: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "netrc"
    path.write_text("machine 127.0.0.1 login user password secret\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    with opened(server) as transport:
        assert transport.get(A, Deadline(5)) == BODY
    assert sent(server) == ["Basic dXNlcjpzZWNyZXQ="]


@pytest.mark.parametrize(
    "text", ["", "secret", "bearer", "bearer a b", "bearer a\nx: y", "basic nocolon", "digest a:b"]
)
def test_a_credentials_file_that_is_none_is_the_users_fault_and_not_shown(
    server: HostileServer, tmp_path: Path, text: str
) -> None:
    (tmp_path / "credentials").write_text(text)
    with pytest.raises(InputError, match="expected one line") as caught:
        HttpTransport(Mirror(url=server.url, credentials_file=str(tmp_path / "credentials")))
    assert "secret" not in str(caught.value)
    with pytest.raises(InputError, match="absent: cannot be read"):
        HttpTransport(Mirror(url=server.url, credentials_file=str(tmp_path / "absent")))


def test_credentials_do_not_follow_a_redirect_that_is_allowed(server: HostileServer, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("bearer secret")
    with HostileServer(FILES) as other:
        mirror = Mirror(
            url=server.url, credentials_file=str(tmp_path / "credentials"), redirect_origins=(other.url + "/",)
        )
        transport = HttpTransport(mirror)
        server.misbehave("metadata/a", redirect(f"{other.url}/metadata/b"))
        assert transport.get(A, Deadline(5)) == b"b"
        assert sent(server) == ["Bearer secret"]
        assert sent(other) == [None]
        server.misbehave("metadata/a", redirect("http://127.0.0.2:9/metadata/b"))
        fails(lambda: transport.get(A, Deadline(5)), "redirects to another origin")
        transport.close()


@pytest.mark.parametrize("url", ["https://user:secret@example.invalid/", "http://user@127.0.0.1:1"])
def test_an_address_with_credentials_is_the_users_fault_and_does_not_show_them(url: str) -> None:
    with pytest.raises(InputError, match="holds no credentials") as caught:
        open_mirror(Mirror(url=url))
    assert "secret" not in str(caught.value)


def test_plain_http_is_for_loopback_unless_it_is_allowed() -> None:
    with pytest.raises(InputError, match="plain http is used for this machine's loopback only"):
        open_mirror(Mirror(url="http://example.invalid"))
    open_mirror(Mirror(url="http://example.invalid", allow_plain_http=True)).close()


def test_a_file_of_authorities_that_is_not_there_is_the_users_fault(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file of certificate authorities"):
        HttpTransport(Mirror(url="https://127.0.0.1:1", ca_file=str(tmp_path / "absent")))


def test_a_file_of_authorities_that_is_garbage_is_one_line(server: HostileServer, tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("garbage")
    url = server.url.replace("http:", "https:")
    with pytest.raises(KedgeError) as caught, opened(url, ca_file=str(tmp_path / "ca")) as transport:
        transport.get(A, Deadline(5))
    assert "\n" not in str(caught.value)
