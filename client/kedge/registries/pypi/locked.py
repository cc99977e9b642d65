"""Which distribution files are meant: lines of a requirements file with hashes, a ``pylock.toml``, or files on disk.

A requirements file names digests and no files: any of them may be what gets installed, so each of them is meant. What
names no digest, or no one version, cannot be bound to anything; it is said and never passed over.

Sources: pip's requirements file format with ``--hash``; the ``pylock.toml`` specification (PEP 751); PEP 427 and 625
(file names).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kedge.documents import DocumentError, Fields, load_toml
from kedge.registries.sigstore import normalized

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_VERSION = r"[A-Za-z0-9][A-Za-z0-9._+!-]*"
_PINNED = re.compile(rf"({_NAME})\s*(?:\[[^\]]*\])?\s*===?\s*({_VERSION})\s*(?:;.*)?")
_LOOSE = re.compile(rf"({_NAME})\s*(?:\[[^\]]*\])?")
_HASH = re.compile(r"\s--hash[=\s]\s*([a-z0-9]+):([0-9A-Fa-f]+)")
MAX_FILES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedFile:
    """One file that is meant. ``filename`` is None where only its digest is known; ``unbound`` says why it is none."""

    project: str
    version: str = ""
    filename: str | None = None
    sha256: str | None = None
    unbound: str | None = None

    @property
    def name(self) -> str:
        """What it is called in messages."""
        if self.filename is not None:
            return self.filename
        spec = f"{self.project}=={self.version}" if self.version else self.project
        return f"{spec} sha256:{self.sha256[:12]}" if self.sha256 is not None else spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What a file's name says: the normalized project, the version, and the rest that tells builds apart."""

    project: str
    version: str
    rest: str


def parse_filename(filename: str) -> Named:
    """Read the name of a wheel or of a source distribution.

    Raises:
        ValueError: it is neither.
    """
    if re.fullmatch(r"[A-Za-z0-9._+!-]{1,300}", filename) is None:
        raise ValueError("is not the name of a wheel or of a source distribution")
    if filename.endswith(".whl"):
        parts = filename.removesuffix(".whl").split("-")
        if len(parts) in (5, 6) and all(parts):
            return Named(project=normalized(parts[0]), version=parts[1], rest="-".join(parts[2:]) + ".whl")
    for suffix in (".tar.gz", ".zip"):
        name, dash, version = filename.removesuffix(suffix).rpartition("-")
        if filename.endswith(suffix) and dash and name and re.fullmatch(_VERSION, version):
            return Named(project=normalized(name), version=version, rest=suffix)
    raise ValueError("is not the name of a wheel or of a source distribution")


def read_requirements(data: bytes) -> tuple[LockedFile, ...]:
    """Read a requirements file: one entry a digest.

    Raises:
        DocumentError: it is no text, or a hash in it is none.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError("", f"is not UTF-8 (byte {error.start})") from error
    found = [file for number, line in _lines(text) for file in _requirement(line, f"line {number}")]
    return _bounded(found)


def read_pylock(data: bytes) -> tuple[LockedFile, ...]:
    """Read a ``pylock.toml``.

    Raises:
        DocumentError: it is none, or of a version that is not read.
    """
    fields = Fields(load_toml(data))
    fields.text("lock-version", pattern=r"1\.[0-9]+", expected="1.0")
    return _bounded([file for entry in fields.tables("packages") for file in _package(entry)])


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The logical lines: continued ones together, comments away."""
    whole, begun = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        begun = begun or number
        if line.rstrip().endswith("\\") and not line.lstrip().startswith("#"):
            whole += line.rstrip()[:-1] + " "
            continue
        joined = re.sub(r"(^|\s)#.*$", "", whole + line).strip()
        if joined:
            yield begun, joined
        whole, begun = "", 0
    if whole.strip():
        yield begun, whole.strip()


def _requirement(line: str, path: str) -> Iterator[LockedFile]:
    spec, _, _ = line.partition(" --")
    if line.startswith("-"):
        if re.match(r"(-r|--requirement|-c|--constraint|-e|--editable)\b", line):
            yield LockedFile(project=line[:200], unbound="is not followed: name that file itself")
        return
    hashes = _HASH.findall(line)
    match = _PINNED.fullmatch(spec.strip())
    if match is None:
        loose = _LOOSE.match(spec)
        yield LockedFile(
            project=normalized(loose[1]) if loose else spec[:200],
            unbound="is not bound to one version (project==1.0)",
        )
        return
    project, version = normalized(match[1]), match[2]
    for algorithm, digest in hashes:
        if algorithm == "sha256" and re.fullmatch("[0-9a-fA-F]{64}", digest) is None:
            raise DocumentError(path, "--hash=sha256: must be followed by 64 hexadecimal digits")
    strong = list(dict.fromkeys(digest.lower() for algorithm, digest in hashes if algorithm == "sha256"))
    if not strong:
        problem = "has no --hash=sha256: (pip-compile --generate-hashes writes them)"
        yield LockedFile(project=project, version=version, unbound=problem)
    for digest in strong:
        yield LockedFile(project=project, version=version, sha256=digest)


def _package(entry: Fields) -> Iterator[LockedFile]:
    project = normalized(entry.text("name", pattern=_NAME, expected="a project's name"))
    version = entry.optional("version", entry.text) or ""
    files = [entry.table("sdist")] if "sdist" in entry else []
    files += entry.tables("wheels") if "wheels" in entry else []
    if not files:
        where = next((name for name in ("vcs", "directory", "archive") if name in entry), "nowhere that is named")
        yield LockedFile(project=project, version=version, unbound=f"comes from {where}, and from no index")
    for file in files:
        filename = file.optional("name", file.text) or _last_part(file)
        hashes = file.table("hashes")
        digest = hashes.optional("sha256", hashes.text, pattern="[0-9a-f]{64}", expected="64 hexadecimal digits")
        try:
            named = parse_filename(filename)
        except ValueError as error:
            raise DocumentError(file.at("name"), str(error)) from error
        if named.project != project:
            raise DocumentError(file.at("name"), f"is a file of {named.project}, expected one of {project}")
        unbound = None if digest is not None else "has no sha256 among its hashes"
        yield LockedFile(
            project=project, version=version or named.version, filename=filename, sha256=digest, unbound=unbound
        )


def _last_part(file: Fields) -> str:
    named = next((name for name in ("url", "path") if name in file), None)
    if named is None:
        file.fail("name", "is missing, and neither url nor path says it")
    return file.text(named).partition("#")[0].partition("?")[0].rpartition("/")[2]


def _bounded(found: list[LockedFile]) -> tuple[LockedFile, ...]:
    if len(found) > MAX_FILES:
        raise DocumentError("", f"names {len(found)} files, at most {MAX_FILES} are read")
    return tuple(dict.fromkeys(found))
