"""What a registry or its mirror serves, read for judging: a URL or a folder, by the transports of the client.

They bound what is read in bytes and in time, and follow no redirect to another host. Nothing here is trusted.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self
from urllib.parse import quote

from kedge.errors import Reason, VerificationError
from kedge.transport import Deadline, Mirror, open_mirror
from kedge.tuf import Area, Fetch, Missing


class TooLongError(Exception):
    """A file is longer than what is read of one of its kind."""


class Served:
    """The files below one URL or folder."""

    def __init__(self, url: str, *, timeout_s: float = 60.0, allow_plain_http: bool = False) -> None:
        """Read below ``url``; each file has ``timeout_s`` seconds in all.

        ``allow_plain_http`` is for what proves itself by its signatures alone, as apt's archives do.

        Raises:
            InputError: it is no URL that can be used.
        """
        self.url = url.rstrip("/") if "://" in url else url
        self._timeout_s = timeout_s
        self._transport = open_mirror(
            Mirror(url=self.url, metadata="", targets="", allow_plain_http=allow_plain_http),
        )

    def read(self, path: str, *, max_bytes: int) -> bytes | None:
        """Read the file ``path`` (names joined by ``/``, not quoted); None where it is not there.

        Raises:
            FetchError: it cannot be had in time.
            TooLongError: it is longer than ``max_bytes``.
            VerificationError: the server sends us to another host.
        """
        request = Fetch(Area.TARGETS, quote(path, safe="/+~=:@,-._"), max_bytes)
        try:
            answer = self._transport.get(request, Deadline(self._timeout_s))
        except VerificationError as error:
            if error.refusal.reason is Reason.TOO_LARGE:
                raise TooLongError(error.message) from error
            raise
        return None if isinstance(answer, Missing) else answer

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
