"""Lock files of Python's tools: ``pylock.toml``, and those of uv, Poetry, PDM and Pipenv; requirements files.

The file's name says its kind, as it does for the tools.

Invariants:

- What comes from a repository of source code, a URL or a folder is an entry with its :class:`Origin`.
- A digest by another algorithm beside the SHA-256 is refused: an installer may take a file that has only that one.

Sources: the ``pylock.toml`` specification (PEP 751); ``uv.lock`` version 1, ``poetry.lock`` 2.x, ``pdm.lock`` 4.x,
``Pipfile.lock`` 6.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

from kedge.documents import DocumentError, Fields, load_json, load_toml
from kedge.registries.pypi.locked import VERSION, LockedFile, Origin, bounded, parse_filename
from kedge.registries.pypi.requirements import read_requirements
from kedge.registries.sigstore import normalized

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_HEX, _DIGITS = "[0-9a-f]{64}", "64 lower-case hexadecimal digits"
_UV_SOURCES = {
    "registry": "registry",
    "git": "git",
    "url": "remote",
    "path": "local",
    "directory": "local",
    "editable": "local",
    "virtual": "local",
}
_ADDRESSES = ("url", "git", "hg", "svn", "bzr", "file", "path", "directory", "editable", "virtual")
_OTHER = "names a digest by {} too, and installers take a file that matches any of them"


def read_lock(filename: str, data: bytes) -> tuple[LockedFile, ...]:
    """Read a lock file, or a requirements file, of the kind that its name says.

    Raises:
        DocumentError: it is none of that kind.
    """
    if re.fullmatch(r"pylock(\.[^.]+)?\.toml", filename):
        return read_pylock(data)
    readers = {"uv.lock": read_uv, "poetry.lock": read_poetry, "pdm.lock": read_pdm, "Pipfile.lock": read_pipfile}
    if filename in readers:
        return readers[filename](data)
    if filename.endswith((".toml", ".lock", ".json", ".yaml", ".yml", ".cfg")):
        names = ", ".join(("pylock.toml", *readers))
        raise DocumentError("", f"is no lock file that is read by this name: {names}, or a requirements file")
    return read_requirements(data)


def read_pylock(data: bytes) -> tuple[LockedFile, ...]:
    """Read a ``pylock.toml``.

    Raises:
        DocumentError: it is none, or of a version that is not read.
    """
    fields = Fields(load_toml(data))
    fields.text("lock-version", pattern=r"1\.[0-9]+", expected="1.0")
    return bounded([file for entry in fields.tables("packages") for file in _package(entry)])


def read_uv(data: bytes) -> tuple[LockedFile, ...]:
    """Read a ``uv.lock``.

    Raises:
        DocumentError: it is none, or of a version that is not read.
    """
    fields = Fields(load_toml(data))
    if fields.integer("version") != 1:
        fields.fail("version", "must be 1: this version of uv.lock is not read; uv export -o pylock.toml writes one")
    packages = fields.tables("package") if "package" in fields else []
    return bounded([file for entry in packages for file in _uv_package(entry)])


def read_poetry(data: bytes) -> tuple[LockedFile, ...]:
    """Read a ``poetry.lock``.

    Raises:
        DocumentError: it is none, or of a version that is not read.
    """
    fields = Fields(load_toml(data))
    fields.table("metadata").text("lock-version", pattern=r"2\.[0-9]+", expected="2.0 (poetry lock writes it anew)")
    return bounded([file for entry in fields.tables("package") for file in _poetry_package(entry)])


def read_pdm(data: bytes) -> tuple[LockedFile, ...]:
    """Read a ``pdm.lock``.

    Raises:
        DocumentError: it is none, or of a version that is not read.
    """
    fields = Fields(load_toml(data))
    expected = "4.4 or later (pdm lock writes it anew)"
    fields.table("metadata").text("lock_version", pattern=r"4\.[0-9]+(\.[0-9]+)?", expected=expected)
    packages = fields.tables("package") if "package" in fields else []
    return bounded([file for entry in packages for file in _pdm_package(entry)])


def read_pipfile(data: bytes) -> tuple[LockedFile, ...]:
    """Read a ``Pipfile.lock``.

    Raises:
        DocumentError: it is none, or of a version that is not read.
    """
    fields = Fields(load_json(data))
    if fields.table("_meta").integer("pipfile-spec") != 6:
        fields.fail("_meta", "must have the pipfile-spec 6: pipenv requirements --hash exports another")
    groups = [fields.table(name) for name in fields.names() if name != "_meta"]
    return bounded([file for group in groups for name, entry in group.items() for file in _pipfile_entry(name, entry)])


def _package(entry: Fields) -> Iterator[LockedFile]:
    project, version = _who(entry)
    files = [entry.table("sdist")] if "sdist" in entry else []
    files += entry.tables("wheels") if "wheels" in entry else []
    others = [name for name in ("vcs", "directory", "archive") if name in entry]
    if len(others) + bool(files) != 1:
        problem = "must name files of an index, or one of vcs, directory and archive"
        raise DocumentError(entry.path, problem)
    if others:
        kind = {"vcs": "git", "directory": "local", "archive": "remote"}[others[0]]
        yield _elsewhere(project, version, kind, entry.table(others[0]))
    for file in files:
        filename = file.optional("name", file.text) or _last_part(file)
        hashes = file.table("hashes")
        digest = hashes.optional("sha256", hashes.text, pattern=_HEX, expected=_DIGITS)
        other = next((name for name in hashes.names() if name != "sha256"), None)
        if other is not None:
            hashes.fail(other, _OTHER.format(other))
        yield _file(project, version, file, "name", filename, digest)


def _uv_package(entry: Fields) -> Iterator[LockedFile]:
    project, version = _who(entry)
    source = entry.table("source")
    kind = next((name for name in source.names() if name in _UV_SOURCES), None)
    if kind is None:
        raise DocumentError(source.path, f"is of no kind that is read: {', '.join(source.names())[:80]}")
    if kind in ("virtual", "editable", "directory") and source.text(kind) == ".":
        return  # the project itself
    if kind != "registry":
        yield _elsewhere(project, version, _UV_SOURCES[kind], source)
        return
    files = [("sdist", entry.table("sdist"))] if "sdist" in entry else []
    files += [("wheels", file) for file in (entry.tables("wheels") if "wheels" in entry else [])]
    if not files:
        yield LockedFile(project=project, version=version, unbound="names no file")
    for _, file in files:
        yield _file(project, version, file, "url", _last_part(file), _prefixed(file, "hash"))


def _poetry_package(entry: Fields) -> Iterator[LockedFile]:
    project, version = _who(entry)
    source = entry.table("source") if "source" in entry else None
    if source is not None and source.text("type") != "legacy":
        kind = {"git": "git", "url": "remote"}.get(source.text("type"), "local")
        yield _elsewhere(project, version, kind, source)
        return
    yield from _listed(entry, project, version)


def _pdm_package(entry: Fields) -> Iterator[LockedFile]:
    project, version = _who(entry)
    other = next((name for name in ("git", "hg", "svn", "bzr", "url", "path") if name in entry), None)
    if other is not None:
        yield _elsewhere(project, version, {"url": "remote", "path": "local"}.get(other, "git"), entry)
        return
    yield from _listed(entry, project, version)


def _pipfile_entry(name: str, entry: Fields) -> Iterator[LockedFile]:
    project = normalized(name)
    other = next((each for each in ("git", "hg", "svn", "bzr", "file", "path") if each in entry), None)
    if other is not None:
        kind = "local" if other == "path" else "remote" if other == "file" else "git"
        yield _elsewhere(project, "", kind, entry)
        return
    version = entry.text("version", pattern=rf"={{2,3}}{VERSION}", expected="==1.0").lstrip("=")
    digests = entry.texts("hashes") if "hashes" in entry else ()
    if not digests:
        yield LockedFile(project=project, version=version, unbound="has no sha256 among its hashes")
    for text in digests:
        yield LockedFile(project=project, version=version, sha256=_sha256(text, entry.at("hashes")))


def _listed(entry: Fields, project: str, version: str) -> Iterator[LockedFile]:
    """The files of a package as Poetry and PDM list them."""
    files = entry.tables("files")
    if not files:
        yield LockedFile(project=project, version=version, unbound="names no file")
    for file in files:
        field = "file" if "file" in file else "url"
        name = file.text("file") if field == "file" else _last_part(file)
        yield _file(project, version, file, field, name, _prefixed(file, "hash"))


def _who(entry: Fields) -> tuple[str, str]:
    name = entry.text("name", pattern=_NAME, expected="a project's name")
    return normalized(name), entry.optional("version", entry.text) or ""


def _elsewhere(project: str, version: str, kind: str, fields: Fields) -> LockedFile:
    """What comes from no index: its kind, and the first address or folder that its table names."""
    named = next((name for name in _ADDRESSES if name in fields), None)
    source = fields.text(named) if named is not None else ""
    problem = "comes from no index"
    return LockedFile(project=project, version=version, unbound=problem, origin=Origin(kind, source))


def _file(project: str, version: str, fields: Fields, field: str, filename: str, digest: str | None) -> LockedFile:
    try:
        named = parse_filename(filename)
    except ValueError as error:
        raise DocumentError(fields.at(field), str(error)) from error
    if named.project != project:
        raise DocumentError(fields.at(field), f"is a file of {named.project}, expected one of {project}")
    unbound = None if digest is not None else "has no sha256 among its hashes"
    return LockedFile(
        project=project, version=version or named.version, filename=filename, sha256=digest, unbound=unbound
    )


def _prefixed(file: Fields, name: str) -> str | None:
    text = file.optional(name, file.text)
    return _sha256(text, file.at(name)) if text is not None else None


def _sha256(text: str, path: str) -> str:
    algorithm, _, digest = text.partition(":")
    if algorithm != "sha256" or re.fullmatch(_HEX, digest) is None:
        raise DocumentError(path, f"must be sha256: and {_DIGITS}")
    return digest


def _last_part(file: Fields) -> str:
    named = next((name for name in ("url", "path") if name in file), None)
    if named is None:
        raise DocumentError(file.path, "names no file, neither by url nor by path")
    return unquote(file.text(named).partition("#")[0].partition("?")[0].rpartition("/")[2])
