"""Verifies a ``go.sum``: each line against a record that is proven to be in the database's tree.

The order is fixed:

1. Every module is looked up. Whatever tree heads come with the records must be signed by a key that the keyholders
   signed for; a head that is not ends the run.
2. The newest of them must reach as far as the one that was seen last, and all of them must be of one tree: each smaller
   tree is proven to be the beginning of the newest. A rollback or a fork ends the run.
3. Each record is proven to be in the newest tree, and each line is compared with its record.

So what is verified is what everybody else who asks this database gets to see as well, now and later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from kedge.documents import DocumentError
from kedge.errors import FetchError, Reason, Refusal, VerificationError
from kedge.registries import Checked, KeySet, KeyStatus
from kedge.registries.go.registry import SumKey, read_lines
from kedge.registries.go.sumdb import (
    Record,
    SumDatabase,
    TreeHead,
    authentic_tree,
    check_not_older,
    check_same_tree,
    later,
    open_head,
    read_record,
    wanted_tiles,
)
from kedge.registries.go.sumfile import SumLine, matches
from kedge.tlog import Tile, TileTree, VerifierKey, check_inclusion, leaf_hash

Module = tuple[str, str]


class Outcome(StrEnum):
    """What became of one line."""

    VERIFIED = "verified"
    DIGEST_MISMATCH = "digest-mismatch"
    UNPROVEN = "unproven"
    UNSUPPORTED = "unsupported"
    NOT_FOUND = "not-found"
    MALFORMED = "malformed"
    UNREACHABLE = "unreachable"
    SKIPPED = "skipped"


GOOD = frozenset({Outcome.VERIFIED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What one run gives: each line's outcome, and the head to remember (None if none was served)."""

    items: tuple[Checked, ...]
    head: TreeHead | None


@dataclass(slots=True)
class _Answers:
    """What the database answered: a record, or what is wrong, by module; and the tree heads by their bytes."""

    records: dict[Module, Record] = field(default_factory=dict)
    faults: dict[Module, tuple[Outcome, str]] = field(default_factory=dict)
    heads: dict[bytes, TreeHead] = field(default_factory=dict)


def verify_sums(
    lines: Sequence[SumLine],
    keys: KeySet,
    database: SumDatabase,
    *,
    seen: TreeHead | None,
    skip: str = "",
    progress: Callable[[int], None] = lambda _count: None,
) -> Verified:
    """Check every line against the database; ``seen`` is the newest tree head that this machine has seen before.

    ``skip`` are patterns as in ``GONOSUMDB``: such modules are no business of this database and are not asked for.

    Raises:
        VerificationError: a tree head, or the tiles, must not be trusted.
        FetchError: the tiles cannot be had.
    """
    asked = [line for line in lines if matches(skip, line.path) is None]
    answers = _look_up(asked, usable_keys(keys), database, progress)
    head, proven = _prove(answers, database, seen)
    items = tuple(_judge(line, answers, proven, skip) for line in lines)
    return Verified(items=items, head=head)


def usable_keys(keys: KeySet) -> tuple[VerifierKey, ...]:
    """The keys that may sign tree heads.

    Raises:
        VerificationError: every one was revoked (``no-keys``).
    """
    revoked = {key.id for key in keys.keys if key.status is KeyStatus.REVOKED}
    found: list[SumKey] = [line for line in read_lines(keys.document) if line.id not in revoked]
    if not found:
        refusal = Refusal(reason=Reason.NO_KEYS, file=keys.target)
        raise VerificationError(f"{keys.target}: every key was revoked", refusal=refusal)
    return tuple(line.key for line in found)


def _look_up(
    lines: Sequence[SumLine],
    keys: Sequence[VerifierKey],
    database: SumDatabase,
    progress: Callable[[int], None],
) -> _Answers:
    answers = _Answers()
    latest = database.latest()
    if latest is not None:
        answers.heads[latest] = open_head(latest, keys, file=f"{database.source}/latest")
    for module, answer in database.look_up(list(dict.fromkeys(line.module for line in lines))):
        progress(1)
        place = f"the answer for {'@'.join(module)}"
        if isinstance(answer, FetchError):
            answers.faults[module] = Outcome.UNREACHABLE, answer.message
            continue
        if answer is None:
            answers.faults[module] = Outcome.NOT_FOUND, "the database has no record of it"
            continue
        try:
            record = read_record(answer)
        except DocumentError as error:
            answers.faults[module] = Outcome.MALFORMED, f"{place} {error}"
            continue
        if record.head not in answers.heads:
            answers.heads[record.head] = open_head(record.head, keys, file=place)
        answers.records[module] = record
    return answers


def _prove(
    answers: _Answers, database: SumDatabase, seen: TreeHead | None
) -> tuple[TreeHead | None, Mapping[Module, str | None]]:
    """The newest head, and for each record that was served what is wrong with its proof (None: nothing)."""
    newest: TreeHead | None = None
    for head in answers.heads.values():
        newest = later(newest, head)
    if newest is None:
        return None, {}
    if seen is not None:
        check_not_older(newest, seen, source=database.source)
    others = [head for head in (*answers.heads.values(), *([seen] if seen else [])) if head != newest]
    inside = {module: record for module, record in answers.records.items() if record.number < newest.size}
    wanted = wanted_tiles(
        newest,
        records=(record.number for record in inside.values()),
        sizes={head.size for head in others if 0 < head.size < newest.size},
    )
    served = database.tiles(wanted)
    tree = authentic_tree(newest, _reader(served), source=database.source)
    for head in others:
        check_same_tree(head, newest, tree, source=database.source)
    return newest, {module: _proof_fault(record, newest, tree) for module, record in answers.records.items()}


def _reader(served: Mapping[Tile, bytes]) -> Callable[[Tile], bytes]:
    return served.__getitem__


def _proof_fault(record: Record, head: TreeHead, tree: TileTree) -> str | None:
    if record.number >= head.size:
        return f"it is said to be record {record.number}, of a tree that holds {head.size}"
    proof = tree.inclusion(record.number)
    try:
        check_inclusion(leaf_hash(record.text), index=record.number, size=head.size, proof=proof, root=head.root)
    except VerificationError:
        return f"record {record.number} of the tree says something else"
    return None


def _judge(line: SumLine, answers: _Answers, proven: Mapping[Module, str | None], skip: str) -> Checked:
    outcome, detail = _outcome(line, answers, proven, skip)
    fault = outcome not in (Outcome.VERIFIED, Outcome.SKIPPED)
    record = answers.records.get(line.module)
    facts = {"digest": line.digest, "record": record.number if record is not None else None}
    return Checked(name=line.spec, outcome=outcome, detail=detail, is_fault=fault, facts=facts)


def _outcome(line: SumLine, answers: _Answers, proven: Mapping[Module, str | None], skip: str) -> tuple[Outcome, str]:
    pattern = matches(skip, line.path)
    if pattern is not None:
        return Outcome.SKIPPED, f"left out by the pattern {pattern}"
    if line.module in answers.faults:
        return answers.faults[line.module]
    record = answers.records[line.module]
    wrong = proven[line.module]
    if wrong is not None:
        return Outcome.UNPROVEN, wrong
    if not line.digest.startswith("h1:"):
        kind = line.digest.partition(":")[0]
        return Outcome.UNSUPPORTED, f"the line's digest is of the kind {kind}, and only h1 is compared"
    name = f"{line.version}/go.mod" if line.is_go_mod else line.version
    stated = record.digests(*line.module).get(name, ())
    if line.digest in stated:
        return Outcome.VERIFIED, ""
    if not stated:
        return Outcome.MALFORMED, f"record {record.number} says nothing of it"
    return (
        Outcome.DIGEST_MISMATCH,
        f"the file says {line.digest}, everybody's record {record.number} {', '.join(stated)}",
    )
