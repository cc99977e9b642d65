"""Listings of a pub registry into signed targets: what its answers say now, held against what was signed before.

A version that was released is never another one later: its digest stays, and it does not vanish (a retraction is a
mark). So an answer that says otherwise is not signed. The package keeps the listing that it has, and is named; whoever
has looked into it says so (``accepted``). Everything else is taken: into the hash bins of a role for a whole registry,
or, for a few packages, into an event that the role's keyholders sign.

Where the answers of a pub registry are taken from: a folder of them, or the registry or a mirror itself.

A folder holds one answer a package: ``<name>.json``, or ``api/packages/<name>`` as a mirror keeps it. What is taken is
judged elsewhere; here it is read, within limits.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import Signer

from kedge.documents import DocumentError
from kedge.errors import FetchError, InputError
from kedge.registries.pub import MAX_BYTES, NAME, Listing, listing_path, read_answer, read_listing, version_order
from kedge.transport import Deadline, Mirror, open_mirror
from kedge.tuf import Area, Fetch
from kedge_repo.bins import BinsUpdate, BinTarget, bin_delegations, in_batches, update_bins
from kedge_repo.events.changes import Change, change
from kedge_repo.events.plan import add_targets
from kedge_repo.workspace import Content, Workspace, digest, read_file

Answers = Iterator[tuple[str, bytes | str]]
"""A package's name, and the answer about it; a text says why there is none."""

AHEAD = 16
SECONDS_EACH = 30.0


def folder_answers(folder: Path) -> Answers:
    """The answers in a folder, in the order of their names.

    Raises:
        InputError: the folder cannot be read, or holds none.
    """
    inner = folder / "api" / "packages"
    place = inner if inner.is_dir() else folder
    try:
        files = sorted(path for path in place.iterdir() if path.is_file() and _package(path))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    if not files:
        raise InputError(f"{folder}: holds no answer (NAME.json, or api/packages/NAME)")
    for path in files:
        yield _package(path), read_file(path, what="answer", max_bytes=MAX_BYTES)


def web_answers(url: str, names: Sequence[str]) -> Answers:
    """The answers of a registry or a mirror, asked for side by side.

    Raises:
        InputError: the URL cannot be used.
    """
    with closing(open_mirror(Mirror(url=url, metadata="", targets=""))) as transport:
        deadline = Deadline(SECONDS_EACH * max(1, len(names)))
        requests = [Fetch(Area.TARGETS, f"api/packages/{name}", MAX_BYTES) for name in names]
        for index, name in enumerate(names):
            request = Fetch(
                Area.TARGETS, requests[index].path, MAX_BYTES, ahead=tuple(requests[index + 1 : index + AHEAD])
            )
            try:
                answer = transport.get(request, deadline)
            except FetchError as error:
                yield name, error.message
                continue
            yield name, answer if isinstance(answer, bytes) else f"{url}: has no package {name}"


def read_names(data: bytes, *, file: str) -> tuple[str, ...]:
    """Names of packages, one a line.

    Raises:
        InputError: a line is none; the text gives its number.
    """
    names: dict[str, None] = {}
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        name = line.strip()
        if not name:
            continue
        if re.fullmatch(NAME, name, re.ASCII) is None:
            raise InputError(f"{file}: line {number}: is no name of a package")
        names[name] = None
    if not names:
        raise InputError(f"{file}: names no package")
    return tuple(names)


def _package(path: Path) -> str:
    name = path.name.removesuffix(".json")
    return name if re.fullmatch(NAME, name, re.ASCII) else ""


MAX_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What a source gave: the listings to sign, by target path; which of them are new or others; who was refused.

    ``without_digest`` are packages of which the source states no digest for some version.
    """

    files: Mapping[str, bytes]
    changed: Mapping[str, bytes]
    refused: Mapping[str, str]
    without_digest: tuple[str, ...] = field(default=())


def gather(workspace: Workspace, registry: str, answers: Answers, *, accepted: Collection[str] = ()) -> Gathered:
    """Read a source's answers, and hold each against the listing that the workspace has.

    Raises:
        InputError: the registry's id is none, the source cannot be read, or a listing in the workspace is broken.
    """
    files: dict[str, bytes] = {}
    changed: dict[str, bytes] = {}
    refused: dict[str, str] = {}
    without: list[str] = []
    for name, answer in answers:
        path = listing_path(registry, name)
        held = _held(workspace, path)
        if isinstance(answer, str):
            refused[name] = answer
        else:
            try:
                listing = read_answer(answer, name)
            except DocumentError as error:
                refused[name] = f"the answer: {error}"
            else:
                breach = _breach(_parsed(held), listing)
                if breach is None or name in accepted:
                    files[path] = listing.to_bytes()
                    if None in listing.versions.values():
                        without.append(name)
                else:
                    refused[name] = breach
        if path not in files and held is not None:
            files[path] = held
        if path in files and files[path] != held:
            changed[path] = files[path]
    return Gathered(files=files, changed=changed, refused=refused, without_digest=tuple(without))


def has_bins(workspace: Workspace, role: str) -> Content | None:
    """Whether a role has hash bins, and where the bytes of their targets lie; None for a role without.

    Raises:
        InputError: the policy or the signed metadata cannot be read.
        VerificationError: the signed metadata does not verify.
    """
    signed = workspace.signed(online=False)
    found = bin_delegations(signed, workspace.policy()).get(role)
    return found.policy.content if found is not None else None


def into_bins(
    workspace: Workspace, role: str, gathered: Gathered, signers: Sequence[Signer], *, now: datetime
) -> BinsUpdate:
    """Bring the listings into a role's hash bins, and sign the bins that change.

    All listings are handed over, also those whose bytes are there: a run that was cut off is taken up by the next one.

    Raises:
        InputError: as :func:`~kedge_repo.bins.update_bins`.
        ThresholdError: the signers do not reach the threshold of the bins.
        StoreError: the disk refused.
    """
    with workspace.lock():
        workspace.write_targets(gathered.changed)
    targets = (BinTarget(path=path, length=len(data), sha256=digest(data)) for path, data in gathered.files.items())
    return update_bins(workspace, role, in_batches(targets), signers, now=now)


def into_event(
    workspace: Workspace, role: str, gathered: Gathered, *, now: datetime, event: str | None, reason: str | None
) -> Change:
    """Bring the listings that changed into a signing event.

    Raises:
        InputError: nothing changed, or the change is not possible.
        StoreError: the disk refused.
    """
    return change(
        workspace,
        lambda view: add_targets(view, role, gathered.changed, topic=f"listings of {role}"),
        now=now,
        event=event,
        reason=reason,
    )


def _held(workspace: Workspace, path: str) -> bytes | None:
    file = workspace.root / "targets" / path
    return workspace.target(path) if file.is_file() else None


def _parsed(held: bytes | None) -> Listing | None:
    return read_listing(held) if held is not None else None


def _breach(old: Listing | None, new: Listing) -> str | None:
    """What the new answer says that a registry does not say of versions that it released; None if nothing."""
    if old is None:
        return None
    replaced = [
        version
        for version, digest_before in old.versions.items()
        if version in new.versions and digest_before is not None and new.versions[version] != digest_before
    ]
    vanished = [version for version in old.versions if version not in new.versions]
    parts = []
    if replaced:
        parts.append(f"other bytes for {_named(replaced)}")
    if vanished:
        parts.append(f"no {_named(vanished)} any more")
    return f"the answer has {' and '.join(parts)}: kept as it was signed" if parts else None


def _named(versions: Sequence[str]) -> str:
    ordered = sorted(versions, key=version_order)
    more = f" and {len(ordered) - MAX_NAMED} more" if len(ordered) > MAX_NAMED else ""
    return ", ".join(ordered[:MAX_NAMED]) + more
