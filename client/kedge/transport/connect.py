"""How a mirror is connected to: proxy, certificate authorities, credentials, and a hold on the sockets.

- Proxies come from the environment (``https_proxy``, ``http_proxy``, ``all_proxy``, ``no_proxy``), with or without a
  scheme and credentials of their own.
- Credentials come from a file that the anchor names, or from ``netrc``: never from the command line or from a URL, and
  they go to the mirror's own origin over https or loopback only.
"""

from __future__ import annotations

import base64
import contextlib
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import HTTPError

from kedge.errors import InputError
from kedge.transport.source import Mirror, is_loopback

__all__ = ["Sockets", "credentials", "open_pool"]


class Sockets:
    """The sockets in use, so that a deadline can end a read that another thread waits in."""

    def __init__(self) -> None:
        """Hold none yet."""
        self._open: set[socket.socket] = set()

    def add(self, sock: socket.socket) -> None:
        """Take hold of a connection's socket."""
        self._open.add(sock)

    def shut(self) -> None:
        """Shut every socket; whoever reads from one gets an error."""
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._open.clear()


def open_pool(mirror: Mirror, connections: int, sockets: Sockets) -> urllib3.PoolManager:
    """Make a pool of at most ``connections`` connections to a mirror, through the environment's proxy if there is one.

    Raises:
        InputError: the proxy or the file of certificate authorities cannot be used.
    """
    options: dict[str, Any] = {"maxsize": connections, "block": True}
    if mirror.ca_file is not None:
        if not Path(mirror.ca_file).is_file():
            raise InputError(f"{mirror.ca_file}: there is no such file of certificate authorities")
        options["ca_certs"] = mirror.ca_file
    proxy = _proxy(mirror.url)
    try:
        pool = _proxied(proxy, options) if proxy is not None else urllib3.PoolManager(**options)
    except (HTTPError, ValueError) as error:
        # Its text may hold a password in any place of a URL that is none: it is not shown.
        raise InputError(
            "the proxy that the environment names cannot be used: expected http://host:port",
            hint="check https_proxy, http_proxy and all_proxy",
        ) from error
    pool.pool_classes_by_scheme = _watched(sockets)
    return pool


def credentials(mirror: Mirror) -> dict[str, str]:
    """Give the header that authorizes requests to a mirror; nothing where no credentials are kept for it.

    ``credentials_file`` holds one line: ``bearer TOKEN`` or ``basic USER:PASSWORD``.

    Raises:
        InputError: the file, or the netrc file, cannot be read; or credentials would go over plain http to another
            machine.
    """
    parts = urlsplit(mirror.url)
    private = parts.scheme == "https" or is_loopback(parts.hostname or "")
    if mirror.credentials_file is not None:
        if not private:
            raise InputError(
                f"{mirror.url}: credentials_file and plain http do not go together: everybody on the way would read it",
                hint="use https",
            )
        return _from_file(Path(mirror.credentials_file))
    return _from_netrc(parts.hostname or "") if private else {}


def _from_netrc(host: str) -> dict[str, str]:
    try:
        path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
        if not path.is_file():
            return {}
    except (OSError, RuntimeError):
        return {}  # no home, or one that is another user's: there are no credentials in it
    import netrc  # few have such a file

    try:
        entry = netrc.netrc(path).authenticators(host)
    except netrc.NetrcParseError as error:
        # What the parser stumbled over may be a piece of a password: it is not shown.
        raise InputError(f"{path}: cannot be read: line {error.lineno} is not as netrc files are") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: cannot be read: is not UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    if entry is None:
        return {}
    login, _, password = entry
    return {"authorization": _basic(f"{login}:{password}")}


def _from_file(path: Path) -> dict[str, str]:
    try:
        kind, _, secret = path.read_text(encoding="utf-8").strip().partition(" ")
    except UnicodeDecodeError:
        raise InputError(f"{path}: cannot be read: is not UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    secret = secret.strip()
    if kind.lower() == "bearer" and secret and secret.isascii() and secret.isprintable() and " " not in secret:
        return {"authorization": f"Bearer {secret}"}
    if kind.lower() == "basic" and ":" in secret and "\n" not in secret:
        return {"authorization": _basic(secret)}
    raise InputError(f'{path}: expected one line, "bearer TOKEN" or "basic USER:PASSWORD"')


def _basic(login: str) -> str:
    """The value that says who asks (RFC 7617, UTF-8)."""
    return "Basic " + base64.b64encode(login.encode("utf-8")).decode("ascii")


def _proxy(url: str) -> str | None:
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies, proxy_bypass

    parts, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _proxied(proxy: str, options: dict[str, Any]) -> urllib3.ProxyManager:
    parts, headers = urlsplit(proxy), None
    if parts.username is not None:
        headers = {"proxy-authorization": _basic(f"{unquote(parts.username)}:{unquote(parts.password or '')}")}
    return urllib3.ProxyManager(_bare(proxy), proxy_headers=headers, **options)


def _bare(proxy: str) -> str:
    """A proxy's URL without its credentials."""
    parts = urlsplit(proxy)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _watched(sockets: Sockets) -> dict[str, type[urllib3.HTTPConnectionPool]]:
    # A proxy's CONNECT and TLS come before these hold the socket. Whoever waits for the answer still waits no longer
    # than the deadline, and a thread that is stuck there is a daemon, which keeps no process alive.
    class Plain(urllib3.connection.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

    class Secure(urllib3.connection.HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}
