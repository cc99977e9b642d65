"""The misbehaving server keeps connections alive, logs, and does the wrongs it is asked for."""

from __future__ import annotations

import http.client
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from support.server import HostileServer, captive_portal, cut_body, endless_headers, redirect, silence, status
from support.simulator import RepositorySimulator


def connect(server: HostileServer) -> http.client.HTTPConnection:
    host, _, port = server.url.removeprefix("http://").partition(":")
    return http.client.HTTPConnection(host, int(port), timeout=5)


def get(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_it_serves_a_simulator_over_one_connection_and_logs_it() -> None:
    repo = RepositorySimulator(now=datetime(2026, 1, 1, tzinfo=UTC))
    with HostileServer(repo) as server:
        connection = connect(server)
        assert get(connection, "/metadata/1.root.json") == (200, repo.initial_root)
        assert get(connection, "/metadata/2.root.json")[0] == 404
        assert get(connection, "/metadata/1.root.json?x=1")[0] == 200
        connection.close()
        assert [(request.path, request.connection) for request in server.requests] == [
            ("metadata/1.root.json", 1),
            ("metadata/2.root.json", 1),
            ("metadata/1.root.json", 1),
        ]


def test_it_serves_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a b").write_bytes(b"x")
    with HostileServer(tmp_path) as server:
        connection = connect(server)
        assert get(connection, "/a%20b") == (200, b"x")
        assert get(connection, "/../secret")[0] == 404
        connection.close()


def test_it_misbehaves_as_told_and_behaves_again() -> None:
    with HostileServer({"a": b"0123456789"}) as server:
        connection = connect(server)
        server.misbehave("a", status(503, retry_after="7"), redirect("http://127.0.0.2/"), captive_portal())
        assert get(connection, "/a") == (503, b"no")
        assert get(connection, "/a")[0] == 302
        assert b"WiFi" in get(connection, "/a")[1]
        server.behave()
        server.misbehave("*", cut_body(3), once=True)
        with pytest.raises(http.client.IncompleteRead):
            get(connection, "/a")
        connection.close()
        connection = connect(server)
        assert get(connection, "/a") == (200, b"0123456789")
        server.misbehave("a", endless_headers())
        with pytest.raises(http.client.HTTPException):
            get(connection, "/a")
        connection.close()


def test_its_silence_ends_with_it() -> None:
    with HostileServer({"a": b"x"}) as server:
        server.misbehave("a", silence())
        connection = connect(server)
        connection.request("GET", "/a")
        connection.sock.settimeout(0.2)
        with pytest.raises(socket.timeout):
            connection.getresponse()
        connection.close()
