"""Who may see what on the way to a mirror: credentials, proxies, and the order of requests."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kedge.errors import FetchError, InputError, KedgeError, VerificationError
from kedge.transport.http import HttpLimits, HttpTransport
from kedge.transport.mirror import Deadline, Mirror
from kedge.transport.open import open_mirror
from kedge.tuf.steps import MISSING, Area, Fetch, Limits
from support.certificates import server_certificate
from support.proxy import Proxy
from support.server import Behaviour, HostileServer, captive_portal, hang_up, redirect, silence, status
from support.world import World

BODY = b"0123456789" * 100
FILES = {"metadata/a": BODY, "metadata/b": b"b"}
A = Fetch(Area.METADATA, "a", 10_000)
SECRET, LOGIN = "hush-hush-token", "user:hush hush"
NAMED = "kedge-test.invalid"
"""A name that no resolver knows: only a proxy can lead there."""


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with HostileServer(FILES) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


def port_of(server: HostileServer) -> int:
    return int(server.url.rpartition(":")[2])


def credentials_file(folder: Path, line: str = f"bearer {SECRET}") -> str:
    path = folder / "credentials"
    path.write_text(line)
    return str(path)


def netrc_file(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Path:
    path = folder / "netrc"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    return path


def header(server: HostileServer | Proxy, name: str) -> list[str | None]:
    """One header of each request."""
    return [
        next((value for key, value in request.headers.items() if key.lower() == name), None)
        for request in server.requests
    ]


def fault(transport: HttpTransport, request: Fetch = A) -> KedgeError:
    with pytest.raises(KedgeError) as caught:
        transport.get(request, Deadline(5))
    return caught.value


# Credentials


@pytest.mark.parametrize(
    "behaviour",
    [status(401), status(407), status(503), hang_up(), redirect("http://127.0.0.2:9/"), silence()],
    ids=["401", "407", "503", "hang-up", "redirect", "silence"],
)
@pytest.mark.parametrize("line", [f"bearer {SECRET}", "basic user:hush-hush"], ids=["bearer", "basic"])
def test_credentials_are_in_no_message(server: HostileServer, tmp_path: Path, behaviour: Behaviour, line: str) -> None:
    mirror = Mirror(url=server.url, credentials_file=credentials_file(tmp_path, line))
    hasty, transport = HttpTransport(mirror, limits=HttpLimits(attempts=1, idle_s=0.2)), HttpTransport(mirror)
    server.misbehave("metadata/a", behaviour)
    error = fault(hasty)
    hasty.close()
    for shown in (str(error), repr(error), str(error.hint), repr(vars(error)), repr(mirror)):
        assert "hush" not in shown
    while not server.requests:  # it may be slower to read the request than the client is to give it up
        time.sleep(0.01)
    (sent,) = header(server, "authorization")
    assert sent is not None, "the server was given them"
    server.behave()
    assert transport.get(A, Deadline(30)) == BODY
    transport.close()


def test_a_mirror_that_asks_for_credentials_says_how_to_give_them(server: HostileServer) -> None:
    transport = HttpTransport(Mirror(url=server.url))
    server.misbehave("metadata/a", status(401))
    error = fault(transport)
    assert isinstance(error, FetchError)
    assert "netrc" in str(error.hint)
    assert "credentials_file" in str(error.hint)
    transport.close()


def test_netrc_gives_credentials_to_the_machine_that_it_names_only(
    server: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc_file(tmp_path, monkeypatch, "machine elsewhere.invalid login user password hush\n")
    transport = HttpTransport(Mirror(url=server.url))
    assert transport.get(A, Deadline(5)) == BODY
    assert header(server, "authorization") == [None]
    transport.close()


def test_a_credentials_file_goes_before_netrc(
    server: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc_file(tmp_path, monkeypatch, "machine 127.0.0.1 login user password hush\n")
    transport = HttpTransport(Mirror(url=server.url, credentials_file=credentials_file(tmp_path)))
    assert transport.get(A, Deadline(5)) == BODY
    assert header(server, "authorization") == [f"Bearer {SECRET}"]
    transport.close()


def test_credentials_from_netrc_do_not_follow_a_redirect_that_is_allowed(
    server: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other origin is the same machine, which netrc names too: it is another origin all the same."""
    netrc_file(tmp_path, monkeypatch, "machine 127.0.0.1 login user password hush\n")
    with HostileServer(FILES) as other:
        transport = HttpTransport(Mirror(url=server.url, redirect_origins=(other.url,)))
        server.misbehave("metadata/a", redirect(f"{other.url}/metadata/b"))
        assert transport.get(A, Deadline(5)) == b"b"
        assert header(server, "authorization") == ["Basic dXNlcjpodXNo"]
        assert header(other, "authorization") == [None]
        transport.close()


def test_an_allowed_origin_may_not_send_the_client_on_to_a_third(server: HostileServer) -> None:
    with HostileServer(FILES) as other, HostileServer(FILES) as third:
        transport = HttpTransport(Mirror(url=server.url, redirect_origins=(other.url,)))
        server.misbehave("metadata/a", redirect(f"{other.url}/metadata/a"))
        other.misbehave("metadata/a", redirect(f"{third.url}/metadata/a"))
        error = fault(transport)
        assert isinstance(error, VerificationError)
        assert third.requests == []
        transport.close()


@pytest.mark.parametrize(
    "text",
    [
        "machine 127.0.0.1 login user password hush hush\n",
        "machine 127.0.0.1 hush\n",
        "hush",
        "machine 127.0.0.1 login user password hush\udcff\n",
    ],
    ids=["two-words", "no-keyword", "no-machine", "no-utf-8"],
)
def test_a_netrc_that_is_none_is_the_users_fault_and_not_shown(
    server: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    path = netrc_file(tmp_path, monkeypatch, text)
    with pytest.raises(InputError, match=r"line \d is not as netrc files are|is not UTF-8") as caught:
        HttpTransport(Mirror(url=server.url))
    assert str(path) in str(caught.value)
    assert "hush" not in str(caught.value).removeprefix(str(path))
    path.write_text("machine 127.0.0.1 login user password hush\n")
    HttpTransport(Mirror(url=server.url)).close()


@pytest.mark.parametrize("where", ["file", "netrc"])
def test_credentials_beyond_latin_letters_are_sent_as_utf_8(
    server: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    if where == "netrc":
        netrc_file(tmp_path, monkeypatch, "machine 127.0.0.1 login user password schlüssel€\n")
        transport = HttpTransport(Mirror(url=server.url))
    else:
        path = credentials_file(tmp_path, "basic user:schlüssel€")
        transport = HttpTransport(Mirror(url=server.url, credentials_file=path))
    assert transport.get(A, Deadline(5)) == BODY
    assert header(server, "authorization") == ["Basic dXNlcjpzY2hsw7xzc2Vs4oKs"]
    transport.close()


def test_credentials_never_go_over_plain_http_to_another_machine(
    server: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy({NAMED: port_of(server)}) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        mirror = Mirror(url=f"http://{NAMED}", allow_plain_http=True, credentials_file=credentials_file(tmp_path))
        with pytest.raises(InputError, match="credentials_file and plain http do not go together") as caught:
            open_mirror(mirror)
        assert SECRET not in str(caught.value)
        netrc_file(tmp_path, monkeypatch, f"machine {NAMED} login user password hush\n")
        transport = open_mirror(Mirror(url=f"http://{NAMED}", allow_plain_http=True))
        assert transport.get(A, Deadline(5)) == BODY
        transport.close()
    assert header(server, "authorization") == header(proxy, "authorization") == [None]


# Proxies


def test_a_plain_proxy_passes_requests_on_and_keeps_its_own_credentials(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy({NAMED: port_of(server)}, login=LOGIN) as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:hush%20hush@127.0.0.1:{proxy.port}")
        transport = open_mirror(Mirror(url=f"http://{NAMED}", allow_plain_http=True))
        assert transport.get(A, Deadline(5)) == BODY
        assert transport.get(Fetch(Area.METADATA, "absent", 10), Deadline(5)) == MISSING
        transport.close()
    assert [(request.method, request.path) for request in proxy.requests] == [
        ("GET", f"http://{NAMED}/metadata/a"),
        ("GET", f"http://{NAMED}/metadata/absent"),
    ]
    assert header(server, "proxy-authorization") == [None, None]


def test_through_a_tunnel_the_proxy_sees_no_request_and_the_mirror_not_the_proxys_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, ca_file = server_certificate(tmp_path)
    with HostileServer(FILES, tls=tls) as server, Proxy({"127.0.0.1": port_of(server)}, login=LOGIN) as proxy:
        monkeypatch.setenv("https_proxy", f"http://user:hush%20hush@127.0.0.1:{proxy.port}")
        mirror = Mirror(url=server.url, ca_file=str(ca_file), credentials_file=credentials_file(tmp_path))
        transport = open_mirror(mirror)
        assert transport.get(A, Deadline(5)) == BODY
        assert transport.get(Fetch(Area.METADATA, "b", 10), Deadline(5)) == b"b"
        transport.close()
        assert [(request.method, request.path) for request in proxy.requests] == [
            ("CONNECT", f"127.0.0.1:{port_of(server)}")
        ]
        assert header(proxy, "authorization") == [None]
        assert header(server, "authorization") == [f"Bearer {SECRET}"] * 2
        assert header(server, "proxy-authorization") == [None] * 2


def test_a_proxy_that_asks_for_credentials_says_so_and_shows_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, ca_file = server_certificate(tmp_path)
    with HostileServer(FILES, tls=tls) as server, Proxy({"127.0.0.1": port_of(server)}, login=LOGIN) as proxy:
        monkeypatch.setenv("https_proxy", f"http://user:hush-wrong@127.0.0.1:{proxy.port}")
        transport = HttpTransport(Mirror(url=server.url, ca_file=str(ca_file)), limits=HttpLimits(attempts=1))
        error = fault(transport)
        transport.close()
        assert "the proxy fails" in str(error)
        assert "407" in str(error)
        assert "hush" not in f"{error} {error.hint}"
        assert server.requests == []


@pytest.mark.parametrize("exempt", ["127.0.0.1", "*", "example.invalid,127.0.0.1"])
def test_no_proxy_leads_past_the_proxy(server: HostileServer, monkeypatch: pytest.MonkeyPatch, exempt: str) -> None:
    with Proxy({"127.0.0.1": port_of(server)}) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", exempt)
        transport = HttpTransport(Mirror(url=server.url))
        assert transport.get(A, Deadline(5)) == BODY
        transport.close()
        assert proxy.requests == []
        monkeypatch.delenv("no_proxy")
        transport = HttpTransport(Mirror(url=server.url))
        assert transport.get(A, Deadline(5)) == BODY
        transport.close()
        assert len(proxy.requests) == 1


def test_a_captive_portal_in_place_of_the_proxys_tunnel_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with HostileServer({}) as portal:
        portal.misbehave("*", captive_portal())
        monkeypatch.setenv("https_proxy", portal.url)
        transport = HttpTransport(Mirror(url=f"https://{NAMED}"), limits=HttpLimits(attempts=1))
        error = fault(transport)
        transport.close()
    assert isinstance(error, FetchError)
    assert "the proxy fails" in str(error)
    assert "\n" not in str(error)


# The order of requests


def test_asked_again_a_file_that_was_asked_ahead_is_fetched_anew() -> None:
    """A root that was missing when it was asked for ahead may have been published since."""
    files, late = dict(FILES), Fetch(Area.METADATA, "late", 10)
    with HostileServer(files) as server:
        transport, deadline = HttpTransport(Mirror(url=server.url)), Deadline(10)
        transport.get(Fetch(Area.METADATA, "a", 10_000, ahead=(late,)), deadline)
        while "metadata/late" not in server.paths and deadline.remaining_s():
            time.sleep(0.01)
        files["metadata/late"] = b"news"
        assert transport.get(replace(late, again=True), deadline) == b"news"
        assert server.paths.count("metadata/late") == 2
        transport.close()


def test_in_sequence_there_is_one_request_at_a_time_on_one_connection(tmp_path: Path) -> None:
    world = World(tmp_path / "state")
    world.repo.rotate("root", keys=3, threshold=2)
    with (
        HostileServer(world.repo, latency_s=0.02) as server,
        world.client(HttpTransport(Mirror(url=server.url)), limits=Limits(root_window=0)) as client,
    ):
        client.refresh()
        assert server.paths == [
            *("metadata/2.root.json", "metadata/3.root.json", "metadata/timestamp.json"),
            *(world.repo.path_of("snapshot"), world.repo.path_of("targets")),
        ]
        client.refresh()
        assert server.paths[5:] == ["metadata/3.root.json", "metadata/timestamp.json"]
        assert {request.connection for request in server.requests} == {1}


def test_with_a_window_a_chain_of_roots_is_asked_ahead(tmp_path: Path) -> None:
    world = World(tmp_path / "state")
    for _ in range(12):
        with world.repo.edit("root"):
            pass
    with (
        HostileServer(world.repo) as server,
        world.client(HttpTransport(Mirror(url=server.url)), limits=Limits(root_window=4)) as client,
    ):
        assert client.refresh().root.version == 13
        roots = [path for path in server.paths if path.endswith(".root.json")]
        assert {f"metadata/{version}.root.json" for version in range(2, 15)} <= set(roots)
        assert len(roots) == len(set(roots))
        assert max(int(path.split("/")[1].split(".")[0]) for path in roots) <= 13 + 4 + 1
        assert server.paths.count("metadata/timestamp.json") <= 2


# How long was waited for silence


def test_silence_in_a_tls_handshake_is_said_with_its_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"https://127.0.0.1:{mute.getsockname()[1]}"
        transport = HttpTransport(Mirror(url=url), limits=HttpLimits(attempts=1, idle_s=0.2))
        error = fault(transport)
        assert isinstance(error, FetchError)
        assert str(error).startswith(f"{url}/metadata/a: the server does not answer for 0.2 seconds")
        transport.close()


@pytest.mark.parametrize("idle_s", [15.0, 0.3], ids=["idle-longer", "idle-as-long"])
def test_at_the_deadline_it_is_the_deadline_that_is_named(server: HostileServer, idle_s: float) -> None:
    """Also where the socket's own patience ends at the very same moment, again and again."""
    server.misbehave("metadata/a", silence())
    for _ in range(5):
        transport = HttpTransport(Mirror(url=server.url), limits=HttpLimits(attempts=1, idle_s=idle_s))
        with pytest.raises(FetchError, match=r"metadata/a: no complete answer within the 0\.3 seconds allowed"):
            transport.get(A, Deadline(0.3))
        transport.close()
