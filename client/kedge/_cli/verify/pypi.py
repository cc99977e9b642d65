"""``kedge verify pypi``: hold files against the publishers that the user expects, whomever an index may name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from kedge._cli.options import Allow, AnchorName, Json, read_allow, takes_mirrors
from kedge._cli.output import Screen, answer, answer_json, progress_bar, read_file, say_warnings, trust_document
from kedge._cli.verify import checklist_lines
from kedge._cli.verify.npm import DEFAULT_ROOT, TrustedRoot, build_lines, read_expectations, row_of, trusted_root_keys
from kedge.documents import DocumentError, blame_user
from kedge.errors import InputError
from kedge.registries import Checklist, KeySet
from kedge.registries.pypi import (
    GOOD,
    Index,
    LockedFile,
    Result,
    Sources,
    base_of,
    parse_filename,
    read_lock,
    verify_files,
)
from kedge.registries.sigstore import BundleVerifier
from kedge.transport import Mirror, open_mirror

DEFAULT_INDEX = "https://pypi.org/simple"
MAX_LOCK_BYTES = 64 << 20
_DISTRIBUTIONS = (".whl", ".tar.gz", ".zip")


@takes_mirrors
def pypi(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH…", help="Requirements or lock files with hashes, wheels, sdists."),
    ],
    provenance_policy: Annotated[
        Path, typer.Option(metavar="FILE", help="Who is expected to publish what.", show_default=False)
    ],
    index: Annotated[
        str | None, typer.Option(metavar="URL", help="Ask this index (else: PIP_INDEX_URL).", show_default=False)
    ] = None,
    provenance: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Take FILENAME.provenance from here; with it, ask no index.", show_default=False
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(metavar="S", min=0.1, max=3600, help="Seconds in all.")] = 120.0,
    allow: Allow = None,
    anchor: AnchorName = None,
    trusted_root: TrustedRoot = DEFAULT_ROOT,
    everything: Annotated[bool, typer.Option("--all", help="List every file.", show_default=False)] = False,
    json: Json = False,
) -> None:
    """Verify where distribution files come from (PEP 740).

    Each file's provenance is checked over the digest that is locked, and against the publisher that your file expects.
    Exit status 5: a file is not verified.
    """
    expectations = read_expectations(provenance_policy)
    files, allowances = _read_all(paths), read_allow(allow)
    keys, trust = trusted_root_keys(trusted_root, anchor)
    verifier = BundleVerifier(keys)
    with _sources(index, provenance, timeout) as sources, progress_bar("verifying", len(files)) as progress:
        judged = verify_files(files, sources, expectations, verifier, allowances=allowances, progress=progress)
        results = list(judged)
    found = _checklist(paths, results, keys, sources, provenance)
    say_warnings([trust])
    if json:
        answer_json(found.to_table(trust_document([trust])["anchors"]), compact=True)
    else:
        rows = [row_of(each.checked.name, each.build, None) for each in results if each.build is not None]
        screen = Screen.of_stdout()
        answer([*checklist_lines(screen, found, everything=everything), *build_lines(screen, rows)])
    if found.exit_code:
        raise typer.Exit(found.exit_code)


def _read_all(paths: list[Path]) -> tuple[LockedFile, ...]:
    """What all the files name; what one includes is right where it is named too."""
    given = {path.resolve() for path in paths}
    files: dict[LockedFile, None] = {}
    for path in paths:
        for file in _read(path):
            included = file.origin is not None and file.origin.kind == "include"
            if file.origin is None or not included or (path.parent / file.origin.source).resolve() not in given:
                files[file] = None
    return tuple(files)


def _read(path: Path) -> tuple[LockedFile, ...]:
    if path.name.endswith(_DISTRIBUTIONS):
        with blame_user(str(path)):
            try:
                named = parse_filename(path.name)
            except ValueError as error:
                raise DocumentError("", str(error)) from error
        return (LockedFile(project=named.project, version=named.version, filename=path.name, sha256=_digest(path)),)
    data = read_file(path, MAX_LOCK_BYTES)
    with blame_user(str(path)):
        return read_lock(path.name, data)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error


@contextmanager
def _sources(index: str | None, folder: Path | None, timeout_s: float) -> Iterator[Sources]:
    if folder is not None and not folder.is_dir():
        raise InputError(f"{folder}: is no folder")
    if folder is not None and index is None:
        yield Sources(folder=folder)
        return
    url = base_of(index or os.environ.get("PIP_INDEX_URL") or DEFAULT_INDEX)
    transport = open_mirror(Mirror(url=url, metadata="", targets=""))
    try:
        yield Sources(folder=folder, index=Index(transport, timeout_s=timeout_s))
    finally:
        transport.close()


def _checklist(
    paths: list[Path], results: list[Result], keys: KeySet, sources: Sources, folder: Path | None
) -> Checklist:
    asked = [(("provenance from"), str(folder))] if folder is not None else []
    if sources.index is not None:
        asked.append(("asked", sources.index.source))
    checked = (
        "Checked: that the publisher whom you expect signed for each file's name and digest, and that a transparency "
        "log has it. Not checked: that what was built is good; files that no input names."
    )
    verified = any(not each.checked.is_fault for each in results)
    remark = checked if verified else "Nothing was verified."
    return Checklist(
        kind="pypi",
        subject=", ".join(str(path) for path in paths),
        things=("file", "files"),
        good=frozenset(GOOD),
        items=tuple(each.checked for each in results),
        basis=(("trusted root", f"{keys.target} of {keys.registry}"), *asked),
        remarks=(remark,) if results else (),
    )
