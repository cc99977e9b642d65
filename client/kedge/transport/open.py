"""Which transport a mirror needs, by its URL. Each is imported when it is needed: a folder needs no HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from kedge.errors import InputError
from kedge.transport.bundle_format import Held, nothing_held
from kedge.transport.mirror import CONNECTIONS, Mirror, ReadableMirror, Transport, is_loopback

BUNDLE_SUFFIX: Final = ".kedge"


def open_mirrors(mirrors: Sequence[Mirror], *, held: Held = nothing_held) -> Transport:
    """Make one transport of an anchor's mirrors; ``held`` gives what bundles among them may stand on.

    Raises:
        InputError: one of them cannot be used.
    """
    if len(mirrors) == 1:
        return open_mirror(mirrors[0], held=held)
    from kedge.transport.mirrors import MirrorsTransport

    return MirrorsTransport([open_mirror(mirror, held=held) for mirror in mirrors])


def open_mirror(mirror: Mirror, *, held: Held = nothing_held, connections: int = CONNECTIONS) -> ReadableMirror:
    """Choose the transport for a mirror by its URL: ``https:``, ``http:`` on loopback, ``file:``, or a path.

    A path that ends in ``.kedge`` is a bundle, any other is a folder. ``held`` gives what a bundle may stand on,
    ``connections`` bounds those that are open at once.

    Raises:
        InputError: the URL is none of these, or a file that the mirror names cannot be used.
    """
    parts = split_url(mirror.url)
    if parts.scheme in ("https", "http"):
        _check_url(mirror, parts)
        from kedge.transport.http import HttpLimits, HttpTransport

        return HttpTransport(mirror, limits=HttpLimits(connections=connections))
    if "://" in mirror.url and parts.scheme != "file":
        raise InputError(f"{mirror.url}: a mirror is an https URL, a file URL or a path, not {parts.scheme}:")
    path = Path(unquote(parts.path) if parts.scheme == "file" else mirror.url)
    if path.suffix == BUNDLE_SUFFIX and not path.is_dir():
        from kedge.transport.bundle import BundleTransport

        return BundleTransport(path, held)
    from kedge.transport.directory import DirectoryTransport

    return DirectoryTransport(path, mirror)


def split_url(url: str) -> SplitResult:
    """Take an address apart.

    Raises:
        InputError: it is none: a bracket that does not close, or a port that is no number up to 65535.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        hint = "an address is like https://host, https://host:8443/path or https://[2001:db8::1]/path"
        raise InputError(f"{url}: is not an address: {str(error).lower()}", hint=hint) from error
    return parts


def _check_url(mirror: Mirror, parts: SplitResult) -> None:
    if parts.username is not None:
        raise InputError(
            f"{parts.scheme}://{parts.hostname}: a mirror's URL holds no credentials",
            hint="put them into a netrc file, or into a file that the anchor names as credentials_file",
        )
    if parts.query or parts.fragment or not parts.hostname:
        raise InputError(f"{mirror.url}: a mirror's URL has a host, and no query or fragment")
    for origin in mirror.redirect_origins:
        split_url(origin)
    if parts.scheme == "http" and not mirror.allow_plain_http and not is_loopback(parts.hostname):
        raise InputError(
            f"{mirror.url}: plain http is used for this machine's loopback only",
            hint="use https or a folder; the anchor's allow_plain_http permits it, and shows everybody what is asked",
        )
