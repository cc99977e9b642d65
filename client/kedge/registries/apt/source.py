"""Where the files of one suite come from: its folder at a mirror (a URL or a folder), or a Release file on disk.

apt keeps what it fetched under ``/var/lib/apt/lists``, in files whose names are the URL with its slashes replaced; a
Release file there can be named as well, and its suite is read off its name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from kedge.errors import InputError
from kedge.registries.apt.release import MAX_BYTES
from kedge.registries.pgp.detached import MAX_SIGNATURE_BYTES
from kedge.registries.served import Served

__all__ = ["SignedRelease", "read_release", "suite_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRelease:
    """``InRelease`` (``signature`` is None), or ``Release`` with its ``Release.gpg`` (empty where there is none)."""

    name: str
    data: bytes
    signature: bytes | None


def read_release(served: Served, file: str | None) -> SignedRelease:
    """Read what a suite's folder serves: ``InRelease``, else ``Release``; ``file`` names the one that is meant.

    Raises:
        InputError: there is neither.
        FetchError: it cannot be had in time.
        TooLongError: it is longer than a Release file can be.
    """
    for name in (file,) if file is not None else ("InRelease", "Release"):
        data = served.read(name, max_bytes=MAX_BYTES)
        if data is None:
            continue
        where = f"{served.url}/{name}"
        if name.endswith("InRelease"):
            return SignedRelease(name=where, data=data, signature=None)
        signature = served.read(f"{name}.gpg", max_bytes=MAX_SIGNATURE_BYTES)
        return SignedRelease(name=where, data=data, signature=signature or b"")
    wanted = file or "InRelease or Release"
    raise InputError(
        f"{served.url}: there is no {wanted}", hint="name the folder of a suite, such as .../dists/bookworm"
    )


def suite_of(place: str) -> str | None:
    """The suite that a URL, a folder or a file's name means: what follows ``dists``, or None."""
    path = re.sub(r"/?(In)?Release$", "", place.rstrip("/"))
    if match := re.search(r"(?:^|/)dists/([^/].*)$", path):
        return match[1]
    if match := re.search(r"_dists_([^/]+)_$", re.sub(r"(In)?Release$", "", Path(place).name)):
        return match[1].replace("_", "/")
    return None
