"""What went wrong between here and a server, in one line: what, which URL, how often tried, what to do."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from urllib3.exceptions import (
    DecodeError,
    HTTPError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    SSLError,
    TimeoutError as HTTPTimeoutError,
)

from kedge.errors import FetchError, Reason, Refusal, VerificationError

__all__ = ["explain", "is_final", "redirected", "refused_status", "too_late", "too_slow"]

_STATUS_HINTS: Final = {
    401: "the mirror asks for credentials: give them in a netrc file or in the anchor's credentials_file",
    407: "the proxy asks for credentials: give them in the proxy's URL",
    429: "the mirror limits requests: try again later, or another mirror",
}


def explain(url: str, error: HTTPError, attempts: int, idle_s: float) -> FetchError:
    """Put urllib3's error into a line for people; ``idle_s`` is how long silence was borne."""
    cause = _reason(error)
    tried = f" (tried {attempts} times)" if attempts > 1 else ""
    host = urlsplit(url).hostname
    for kind, what, hint in (
        (NameResolutionError, f"the name {host} cannot be resolved", "check the name, DNS and the network"),
        (SSLError, f"TLS fails: {_innermost(cause)}", "check this machine's clock and certificate authorities"),
        (ProxyError, f"the proxy fails: {_innermost(cause)}", "check https_proxy, http_proxy and no_proxy"),
        (NewConnectionError, f"cannot connect: {_innermost(cause)}", "check the address and the network"),
        (HTTPTimeoutError, f"the server does not answer for {idle_s:g} seconds", "try again later, or another mirror"),
        (DecodeError, f"the answer cannot be decoded: {_innermost(cause)}", "the server or a proxy is at fault"),
        (ProtocolError, f"the connection breaks off: {_innermost(cause)}", "try again, or another mirror"),
    ):
        if isinstance(cause, kind):
            return FetchError(f"{url}: {what}{tried}", hint=hint)
    return FetchError(f"{url}: {_innermost(cause)}{tried}")


def is_final(error: HTTPError) -> bool:
    """Whether trying again cannot help: a certificate, a name or a wrong encoding does not mend itself in a second."""
    return isinstance(_reason(error), SSLError | NameResolutionError | DecodeError)


def refused_status(url: str, status: int) -> FetchError:
    """The server's answer is neither the file nor that it is missing."""
    phrase = HTTPStatus(status).phrase.lower() if status in set(HTTPStatus) else "unknown status"
    otherwise = "the mirror has a fault, or is no TUF repository: try again later, or another mirror"
    return FetchError(f"{url}: the server answers {status} {phrase}", hint=_STATUS_HINTS.get(status, otherwise))


def redirected(url: str, location: str) -> VerificationError:
    """The server sends the client to an origin that the anchor does not name."""
    refusal = Refusal(reason=Reason.REDIRECT, file=url, expected="the same origin", found=location[:200])
    return VerificationError(
        f"{url}: redirects to another origin, {location[:200]}",
        refusal=refusal,
        hint="if the repository lives there now, give it as the mirror, or list it in the anchor's redirect_origins",
    )


def too_slow(url: str, size: int, seconds: float) -> FetchError:
    """The body comes below the minimum rate."""
    return FetchError(
        f"{url}: only {size} bytes came in {seconds:.0f} seconds", hint="the server is too slow: try another mirror"
    )


def too_late(url: str, seconds: float) -> FetchError:
    """The deadline has passed."""
    return FetchError(
        f"{url}: no complete answer within the {seconds:g} seconds allowed",
        hint="the server is too slow or stalls: try another mirror, or allow more time",
    )


def _reason(error: HTTPError) -> Exception:
    if isinstance(error, MaxRetryError) and error.reason is not None:
        return error.reason
    return error


def _innermost(error: BaseException) -> str:
    """The innermost reason, in one line."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split()).lower()
