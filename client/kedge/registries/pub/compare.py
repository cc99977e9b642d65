"""What a mirror shows of a package, held against the signed listing: hidden, replaced and replayed versions. Pure.

The signed listing is the registry's word of a known time, and never older than one that was seen before: TUF sees to
that. So a mirror that shows less, other or older things is behind, or lies; each difference names its versions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from kedge.registries.pub.listing import Listing, version_order

__all__ = ["Difference", "Fault", "compare"]

MAX_NAMED = 5


class Fault(StrEnum):
    """What is wrong with what a mirror shows."""

    REPLACED = "replaced"
    HIDDEN = "hidden"
    REPLAYED = "replayed"
    UNLISTED = "unlisted"
    WITHOUT_DIGEST = "without-digest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One kind of difference, the versions that it is about, and what it means."""

    fault: Fault
    versions: tuple[str, ...]
    detail: str


def compare(signed: Listing, shown: Listing) -> tuple[Difference, ...]:
    """Every difference that matters between what is signed and what is shown, the worst first."""
    return tuple(sorted(_differences(signed, shown), key=lambda found: list(Fault).index(found.fault)))


def _differences(signed: Listing, shown: Listing) -> Iterator[Difference]:
    both = [version for version in signed.versions if version in shown.versions]
    replaced = [each for each in both if _differ(signed.versions[each], shown.versions[each])]
    if replaced:
        yield _found(Fault.REPLACED, replaced, "shows other bytes than were signed for")
    stripped = [each for each in both if signed.versions[each] is not None and shown.versions[each] is None]
    if stripped:
        yield _found(Fault.WITHOUT_DIGEST, stripped, "shows no digest, though one is signed")
    yield from _missing(signed, shown, both)
    forgotten = sorted(signed.retracted.intersection(both) - shown.retracted, key=version_order)
    if forgotten:
        yield _found(Fault.REPLAYED, forgotten, "does not show that it was retracted")
    invented = [version for version in shown.versions if version not in signed.versions]
    if invented:
        yield _found(Fault.UNLISTED, invented, "shows what nobody signed for, or what is newer than the signed listing")


def _missing(signed: Listing, shown: Listing, both: Sequence[str]) -> Iterator[Difference]:
    """Versions that are not shown: an old answer lacks the newest only; where others are missing, they are hidden."""
    missing = sorted((each for each in signed.versions if each not in shown.versions), key=version_order)
    newest_shown = max((version_order(each) for each in both), default=None)
    newer = [each for each in missing if newest_shown is None or version_order(each) > newest_shown]
    hidden = [each for each in missing if each not in newer]
    if hidden:
        yield _found(Fault.HIDDEN, hidden, "does not show what was signed for")
    if newer:
        yield _found(Fault.REPLAYED, newer, "shows an old answer, or leaves out the newest")


def _differ(signed: str | None, shown: str | None) -> bool:
    return signed is not None and shown is not None and signed != shown


def _found(fault: Fault, versions: Sequence[str], detail: str) -> Difference:
    ordered = tuple(sorted(versions, key=version_order))
    named = ", ".join(ordered[:MAX_NAMED]) + (
        f" and {len(ordered) - MAX_NAMED} more" if len(ordered) > MAX_NAMED else ""
    )
    return Difference(fault=fault, versions=ordered, detail=f"the mirror {detail}: {named}")
