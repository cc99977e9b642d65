"""Listings of a pub registry into signed targets: what its answers say now, held against what was signed before.

A version that was released is never another one later: its digest stays, and it does not vanish (a retraction is a
mark). So an answer that says otherwise is not signed. The package keeps the listing that it has, and is named; whoever
has looked into it says so (``accepted``). Everything else is taken: into the hash bins of a role for a whole registry,
or, for a few packages, into an event that the role's keyholders sign.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from securesystemslib.signer import Signer

from kedge.document import DocumentError
from kedge.registries.pub.document import listing_path
from kedge.registries.pub.listing import Listing, read_answer, read_listing, version_order
from kedge_repo.bins import BinTarget, bin_delegations, in_batches, update_bins
from kedge_repo.bins.update import BinsUpdate
from kedge_repo.maintain import Change, change
from kedge_repo.payload import digest
from kedge_repo.plan import add_targets
from kedge_repo.policy import Content
from kedge_repo.pubsource import Answers
from kedge_repo.workspace import Workspace

__all__ = ["Gathered", "gather", "has_bins", "into_bins", "into_event"]

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
