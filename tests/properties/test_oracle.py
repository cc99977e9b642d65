"""The oracle: on random repositories with a history, kedge's workflow and python-tuf's ``Updater`` agree.

They agree in each run on whether everything is accepted, on every target's bytes, and on the bytes of the metadata that
are trusted afterwards. Where ours refuses and theirs does not, a line of :data:`STRICTER` says why. Where ours accepts
and theirs does not, or keeps another file, a line of :data:`BY_THE_SPECIFICATION` says what the specification asks for.
A line that no run needs is a fault.

``make test`` plays the same few hundred stories each time; ``make oracle`` (KEDGE_ORACLE=long) many new ones. Both
print what they saw, and fail if they saw too little of anything.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from kedge.errors import Reason
from properties.peer import LIMITS, Ours, Outcome, Theirs, versions
from properties.stories import LIES, Chapter, Deed, Scene, Story, stories

LONG = os.environ.get("KEDGE_ORACLE") == "long"
STORIES = int(os.environ.get("KEDGE_ORACLE_STORIES", "20000" if LONG else "400"))
TIMES_SEEN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Where the two may differ: in stories with this mark, if ours refuses for this reason.

    Without a reason: if ours accepts the metadata, or trusts other bytes of the same versions, or theirs refuses a
    version, or the loss of a role, that ours no longer remembers.
    """

    mark: str
    reason: Reason | None
    why: str
    also: tuple[str, ...] = ()
    """Other reasons that come of the same cause."""
    theirs: str | None = None
    """Where theirs stops at a document that ours reads: what theirs says. Whatever ours then says, it knows more."""

    @property
    def name(self) -> str:
        """The line in the counts."""
        return f"{self.mark}, {self.reason or 'accepted'}"

    def covers(self, marks: set[str], mine: Outcome, other: Outcome) -> bool:
        """Whether this line is the explanation."""
        if self.mark not in marks:
            return False
        if self.theirs is not None:
            return other.reason == self.theirs
        if self.reason is None:
            known = mine.reason in (None, Reason.NOT_FOUND.value) or other.reason in ("version", "vanished")
            return known or versions(mine) == versions(other)
        return mine.reason in (self.reason.value, *self.also)


STRICTER = (
    Line(
        mark="one-key-twice",
        reason=Reason.SIGNATURES,
        why="a threshold asks for so many keys, not keyids: one key's material under two keyids counts once",
    ),
    Line(
        mark="duplicate-json-keys",
        reason=Reason.MALFORMED,
        why="two parsers may take different ones of two equal keys, so that one signature vouches for two documents",
    ),
    Line(
        mark="many-roots",
        reason=Reason.LIMIT,
        why="who stops silently at a limit believes a root whose successors may have revoked its keys",
    ),
    Line(
        mark="many-delegations",
        reason=Reason.LIMIT,
        why="a search that was cut off has not shown that nobody lists the target",
    ),
    Line(
        mark="path",
        reason=Reason.PATH,
        why="no request may leave the base that the mirror serves targets from",
    ),
    Line(
        mark="empty-prefix",
        reason=Reason.MALFORMED,
        why="an empty hash prefix delegates everything without saying so: the pattern * does",
    ),
    Line(
        mark="same-version",
        reason=Reason.CONTENT,
        why="a snapshot that is held must have the digest that the timestamp names, not only the version",
        also=("version", "missing"),  # what is asked for again may be another version by now, or gone
    ),
    Line(
        mark="same-version",
        reason=Reason.TOO_LARGE,
        why="the limit on a file is ours: a length that somebody with a stolen key has signed does not lift it",
    ),
    Line(
        mark="same-version",
        reason=Reason.EXPIRED,
        why="a version names one file: a snapshot that is signed again is no news until its version rises",
    ),
    Line(
        mark="weak-digest",
        reason=Reason.CONTENT,
        why="collisions of MD5 and SHA-1 can be made, so that they identify no file",
    ),
)

BY_THE_SPECIFICATION = (
    Line(
        mark="unknown-key",
        reason=None,
        theirs="other",
        why="§4.2, §5.3.4: a key that cannot be used counts nothing towards a threshold; python-tuf stops at the first "
        "key of a type that it does not know, so that one registry's new algorithm locks out the clients of all",
    ),
    Line(
        mark="fraction-of-a-second",
        reason=None,
        theirs="other",
        why="§4.2.1 asks for ISO 8601, of which a fraction of a second is a part: tough writes one. What is verified "
        "is what was received; the fraction is cut off, so that nothing lives longer for it",
    ),
    Line(
        mark="same-version",
        reason=None,
        why="§5.5: the snapshot that counts is the one that the timestamp names, by digest too; python-tuf keeps the "
        "one that it holds if only the version is the same",
    ),
    Line(
        mark="online-keys",
        reason=None,
        why="§5.3.11: if the timestamp's or the snapshot's keys were replaced, both files are forgotten; python-tuf "
        "forgets only those that the new keys did not sign, so that it can stay locked out after a fast-forward",
    ),
)

# The reasons that the workflow itself can give. The others are given by what stands around it.
REASONS = (
    Reason.MALFORMED,
    Reason.SIGNATURES,
    Reason.VERSION,
    Reason.ROLLBACK,
    Reason.EXPIRED,
    Reason.CONTENT,
    Reason.NOT_IN_SNAPSHOT,
    Reason.NOT_FOUND,
    Reason.PATH,
    Reason.TOO_LARGE,
    Reason.LIMIT,
)


def _story(honest: str | None, lie: Deed, *, hours: int = 0, meta_hashes: bool = False) -> Story:
    first = Chapter(honest=[], lies=[], undone=False, hours=hours)
    second = Chapter(honest=[Deed(honest, 1)] if honest else [], lies=[lie], undone=False, hours=0)
    return Story(root=(1, 1), meta_hashes=meta_hashes, consistent=True, chapters=[first, second])


# Every lie alone, told in ten ways; and stories for lines that chance seldom needs.
EACH_LIE = tuple(
    _story("add_target", Deed(name, seed), meta_hashes=seed % 2 == 0) for name in LIES for seed in range(TIMES_SEEN)
)
RESIGNED_SNAPSHOT = _story(None, Deed("lower_version", 0), hours=200)
SECOND_SNAPSHOT = _story(None, Deed("equivocate_snapshot", 0), meta_hashes=True)
FORGOTTEN_ROLE = _story("rotate_to_other_algorithm", Deed("forget_a_role", 0))


class Tally:
    """What was seen in all runs."""

    def __init__(self) -> None:
        self.runs = 0
        self.accepted = 0
        self.reasons: Counter[str] = Counter()
        self.differences: Counter[str] = Counter()

    def __str__(self) -> str:
        refused = self.runs - self.accepted
        lines = [f"{self.runs} runs: {self.accepted} accepted, {refused} refused"]
        lines += [f"  {count:6} {reason}" for reason, count in sorted(self.reasons.items())]
        lines += [f"  {count:6} differ: {name}" for name, count in sorted(self.differences.items())]
        return "\n".join(lines)


# A snapshot that is longer than the limit, and a timestamp that names its length.
SIGNED_LENGTH = Story(
    root=(1, 1),
    meta_hashes=False,
    consistent=True,
    chapters=[
        Chapter(
            honest=[],
            lies=[Deed(name="grow", seed=0), Deed(name="equivocate_snapshot", seed=0)],
            undone=False,
            hours=0,
        )
    ],
)


def test_the_workflow_and_python_tuf_agree_on_random_repositories(
    record_property: Callable[[str, object], None],
) -> None:
    tally = Tally()

    @settings(
        max_examples=STORIES,
        derandomize=not LONG,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(stories())
    def agree(story: Story) -> None:
        with tempfile.TemporaryDirectory() as folder:
            _play(story, Path(folder), tally)

    for story in (*EACH_LIE, RESIGNED_SNAPSHOT, SECOND_SNAPSHOT, FORGOTTEN_ROLE, SIGNED_LENGTH):
        with tempfile.TemporaryDirectory() as folder:
            _play(story, Path(folder), tally)
    agree()
    record_property("figure", str(tally))
    assert tally.accepted >= tally.runs / 5
    assert tally.runs - tally.accepted >= tally.runs / 5
    for reason in REASONS:
        assert tally.reasons[reason.value] >= TIMES_SEEN, f"{reason} was hardly seen:\n{tally}"
    for line in (*STRICTER, *BY_THE_SPECIFICATION):
        assert tally.differences[line.name], f"the line {line.name} is not needed:\n{tally}"


def _play(story: Story, folder: Path, tally: Tally) -> None:
    scene = Scene(story)
    ours = Ours(repo=scene.repo, now=scene.repo.now, limits=LIMITS)
    theirs = Theirs(scene.repo, folder, scene.repo.now)
    for index, chapter in enumerate(story.chapters):
        scene.honest(chapter)
        saved = scene.repo.save()
        paths = list(scene.paths)
        scene.lie(chapter)
        asked = scene.asked(index + sum(deed.seed for deed in (*chapter.honest, *chapter.lies)))
        mine, other = ours.attempt(asked), theirs.attempt(asked)
        tally.runs += 1
        tally.accepted += mine.accepted
        if mine.reason is not None:
            tally.reasons[mine.reason] += 1
        if _told(mine) != _told(other):
            tally.differences[_difference(scene, mine, other)] += 1
            return  # from here on they know different things
        scene.former.append(scene.repo.save())
        if chapter.undone:
            scene.undo(saved)
            scene.paths = paths
        scene.repo.now += timedelta(hours=chapter.hours)
        ours.now = theirs.now = scene.repo.now


def _told(outcome: Outcome) -> tuple[object, ...]:
    """What the two must agree on. For which reason something is refused first is each client's own matter."""
    return outcome.accepted, outcome.reason == Reason.NOT_FOUND.value, outcome.targets, outcome.held


def _difference(scene: Scene, mine: Outcome, other: Outcome) -> str:
    for line in (*STRICTER, *BY_THE_SPECIFICATION):
        if line.covers(scene.marks, mine, other):
            return line.name
    pytest.fail(f"they disagree, and no line says why: {_disagreement(mine, other)}")


def _disagreement(mine: Outcome, other: Outcome) -> str:
    sides = (("ours", mine), ("python-tuf", other))
    return "".join(
        f"\n{name}: {side.reason} ({side.text}), targets {sorted(side.targets)}, trusts {versions(side)}"
        for name, side in sides
    )
