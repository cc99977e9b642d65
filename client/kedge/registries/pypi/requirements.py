"""Requirements files: only what pip reads in the same way, so that what is verified is what gets installed.

What is not surely read alike is refused by its name: another encoding, line ends that split a line for pip only,
variables, quotes, abbreviated or glued options, other hash algorithms, several options on a line.

Invariants:

- Every requirement that pip would install is an entry; an entry that no digest binds says so.
- With a digest on every entry it does not matter where a file comes from, so that options that name an index are read
  over. ``tests/client/registries/pypi/test_requirements.py`` holds this against pip's own parser.

Source: pip's requirements file format; ``pip/_internal/req/req_file.py`` of pip 21 to 26.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NoReturn

from kedge.documents import DocumentError
from kedge.registries.pypi.locked import ARCHIVE, LockedFile, Origin, bounded
from kedge.registries.sigstore import normalized

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,198}[A-Za-z0-9])?"
_EXTRAS = r"(?:\[[A-Za-z0-9._, -]{0,500}\])?"
_VERSION = r"[A-Za-z0-9][A-Za-z0-9._+!]{0,199}"
_MARKER = r"(?: {0,20};[A-Za-z0-9_ \"'<>=!~().,+*/-]{1,2000})?"
_PINNED = re.compile(rf"({_NAME}) {{0,20}}{_EXTRAS} {{0,20}}===? {{0,20}}({_VERSION}){_MARKER}")
_LOOSE = re.compile(rf"({_NAME}) {{0,20}}{_EXTRAS}(?: {{0,20}}[(<>=!~][A-Za-z0-9<>=!~., *+()]{{0,1000}})?{_MARKER}")
_DIRECT = re.compile(rf"(?:({_NAME}) {{0,20}}{_EXTRAS} {{0,20}}@ {{0,20}})?([^ ;\"']{{1,2000}}){_MARKER}")
_URL = re.compile(r"(?:(git|hg|svn|bzr)\+)?([a-z]{2,10})://", re.IGNORECASE)
_PATH = re.compile(r"(?:\.{0,2}/|[A-Za-z0-9._-]{1,200}/|\.)")
_HASH = re.compile(r"--hash(?:=| )([a-z0-9]{1,20}):([0-9A-Fa-f]{1,128})")
_SHA256 = re.compile("[0-9a-f]{64}")
_CODING = re.compile(rb"coding[:=]\s*([-\w.]+)")
_VALUE = r"[A-Za-z0-9._~:/?@!&()*+,;%=\[\]-]{1,2000}"
_HARMLESS = re.compile(
    rf"(?:-i {_VALUE}|-f {_VALUE}|--pre|--prefer-binary|--require-hashes|--no-index"
    rf"|--(?:index-url|extra-index-url|find-links|no-binary|only-binary|trusted-host)(?:=| ){_VALUE})"
)
_INCLUDED = re.compile(r"(?:-r |-c |--requirement[= ]|--constraint[= ])((?:\.{1,2}/)?[A-Za-z0-9._/-]{1,500})")
_EDITABLE = re.compile(r"(?:-e |--editable[= ])([^ ;\\\"']{1,2000})")
_BREAKS = re.compile("[\x00-\x08\x0b-\x1f\x7f\x85\u2028\u2029]")
_COMMENT = re.compile(r"[ \t]{0,100}#.*|[ \t]{0,100}")


def read_requirements(data: bytes) -> tuple[LockedFile, ...]:
    """Read a requirements file: one entry per digest.

    Raises:
        DocumentError: it holds what pip does not surely read in the same way; the path is the line.
    """
    found: list[LockedFile] = []
    for number, line in _lines(_decode(data)):
        found += _entries(line, f"line {number}")
    return bounded(found)


def _decode(data: bytes) -> str:
    # pip reads UTF-8 with a mark as such, and heeds a coding line only where there is no mark
    for first in data.split(b"\n", 2)[:2]:
        coding = _CODING.search(first) if first.startswith(b"#") else None
        if coding is not None and coding[1].lower() not in (b"utf-8", b"utf8"):
            raise DocumentError("", f"declares the encoding {coding[1].decode('ascii', 'replace')}, expected UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError("", f"is not UTF-8 (byte {error.start})") from error
    text = text.replace("\r\n", "\n")
    if (match := _BREAKS.search(text)) is not None:
        line = text.count("\n", 0, match.start()) + 1
        raise DocumentError(f"line {line}", f"holds the character {match[0]!a}, which pip may take for a line end")
    return text


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The logical lines: continued ones as one, comments removed."""
    parts: list[str] = []
    begun = 0
    for number, line in enumerate(text.split("\n"), 1):
        path = f"line {number}"
        if _COMMENT.fullmatch(line):
            # A comment or an empty line ends what was continued, also where it ends with a backslash itself.
            content, goes_on = "", False
        else:
            goes_on = line.endswith("\\")
            content, hash_sign, _ = line.removesuffix("\\").partition(" #")
            if hash_sign and goes_on:
                raise DocumentError(path, "goes on after a comment, which makes pip leave out the next line")
            _require_plain(content, path)
        begun = begun or number
        parts.append(content)
        if goes_on:
            continue
        whole = "".join(parts).strip(" ")
        if whole:
            yield begun, whole
        parts, begun = [], 0
    if whole := "".join(parts).strip(" "):
        yield begun, whole


def _require_plain(content: str, path: str) -> None:
    if "\\" in content:
        raise DocumentError(path, "holds a backslash that is not the last character of the line")
    if "\t" in content:
        raise DocumentError(path, "holds a tab, which pip does not take for a space")
    if "${" in content:
        raise DocumentError(path, "holds a variable (${NAME}): what pip reads depends on the environment")
    if not content.isascii():
        raise DocumentError(path, "holds a character beyond ASCII outside of a comment")


def _entries(line: str, path: str) -> Iterator[LockedFile]:
    if line.startswith("-"):
        yield from _option(line, path)
        return
    head, *options = re.split(" (?=-)", line)
    digests = _digests(options, path)
    spec = head.strip(" ")
    pinned = _PINNED.fullmatch(spec)
    if pinned is not None and ARCHIVE.search(pinned[2]) is None:
        project, version = normalized(pinned[1]), pinned[2]
        if not digests:
            problem = "has no --hash=sha256: (pip-compile --generate-hashes writes them)"
            yield LockedFile(project=project, version=version, unbound=problem)
        for digest in digests:
            yield LockedFile(project=project, version=version, sha256=digest)
        return
    loose = _LOOSE.fullmatch(spec)
    if loose is not None and "/" not in spec.partition(";")[0]:
        yield LockedFile(project=normalized(loose[1]), unbound="is not bound to one version (project==1.0)")
        return
    direct = _DIRECT.fullmatch(spec)
    if direct is None:
        _refuse(path, f"{spec[:80]!a} is no requirement that kedge reads as pip does")
    yield direct_entry(direct[2], direct[1], path)


def direct_entry(address: str, name: str | None, path: str) -> LockedFile:
    """The entry for what comes from an address or a folder, and from no index.

    Raises:
        DocumentError: it is neither.
    """
    url = _URL.match(address)
    if url is None and (name is not None or _PATH.match(address) is None):
        _refuse(path, f"{address[:80]!a} is no requirement that kedge reads as pip does")
    kind = "local" if url is None or url[2].lower() == "file" else "git" if url[1] else "remote"
    source = _without_revision(address, url.end()) if url is not None and kind == "git" else address
    called = normalized(name) if name is not None else address[:200]
    return LockedFile(project=called, unbound="comes from no index", origin=Origin(kind, source))


def _without_revision(address: str, host: int) -> str:
    """The address of a repository without ``@revision``, which pip takes off the path; its host begins at ``host``."""
    bare, _, _ = address.partition("#")
    place = bare.find("/", host)
    at = bare.rfind("@")
    return bare[:at] if 0 <= place < at else bare


def _digests(options: list[str], path: str) -> list[str]:
    found: list[str] = []
    for option in options:
        match = _HASH.fullmatch(option.rstrip(" "))
        if match is None:
            _refuse(path, f"{option[:60]!a} is no option of a requirement that kedge reads (--hash=sha256:...)")
        digest = match[2].lower()
        if match[1] != "sha256":
            _refuse(path, f"--hash={match[1]}: names another algorithm, and pip takes a file that matches any of them")
        if _SHA256.fullmatch(digest) is None:
            _refuse(path, "--hash=sha256: must be followed by 64 hexadecimal digits")
        found.append(digest)
    return list(dict.fromkeys(found))


def _option(line: str, path: str) -> Iterator[LockedFile]:
    if _HARMLESS.fullmatch(line):
        return
    included = _INCLUDED.fullmatch(line)
    if included is not None and not included[1].startswith(("-", "/")):
        yield LockedFile(
            project=line[:200], unbound="is not followed: name that file too", origin=Origin("include", included[1])
        )
        return
    editable = _EDITABLE.fullmatch(line)
    if editable is not None:
        yield direct_entry(editable[1], None, path)
        return
    name = re.split("[= ]", line, maxsplit=1)[0]
    _refuse(path, f"{name[:60]!a} is no option that kedge reads: one option per line, in its full form, unquoted")


def _refuse(path: str, problem: str) -> NoReturn:
    raise DocumentError(path, problem)
