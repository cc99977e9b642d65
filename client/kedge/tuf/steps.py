"""What the workflow asks for, what it is answered, and how far it may go: the words between it and its driver.

:mod:`kedge.tuf.workflow` yields these values; the client and the transports act on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias

from kedge.tuf.state import TrustedState

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile


@dataclass(frozen=True, slots=True)
class Missing:
    """The answer for a file that is not there: HTTP 404 or 403, or no such file, and nothing else.

    ``where`` says for people where it was asked for, and what was answered.
    """

    where: str = field(default="", compare=False)


MISSING: Final = Missing()


class Area(Enum):
    """The parts of a repository, of which a mirror says where each lies; and what is held of the roots."""

    METADATA = "metadata"
    TARGETS = "targets"
    LOG = "tlog"
    """The log of what the repository ever allowed, where it has one."""
    ROOTS = "roots"
    """Not of a mirror: what is held of the chain of roots, by version."""


@dataclass(frozen=True, slots=True)
class Merit:
    """How good an answer is: the higher ``version`` wins; two of one version must say the same (``identity``)."""

    version: int
    identity: str = field(default="", compare=False)


Judge: TypeAlias = Callable[[bytes], Merit]
"""Gives an answer's merit, or raises ``VerificationError``. It is pure."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask the repository for ``path`` (quoted, relative to its area) of at most ``max_bytes``.

    With ``again``, an answer that was asked ahead does not count: the file may have come to be since. ``judge`` tells a
    transport that has several sources which of their answers are right, and which is the newest; what it chooses is
    checked all the same. A file is ``mutable`` where sources may honestly differ: then all of them are asked. That it
    is missing is an honest answer for the next root alone.
    """

    area: Area
    path: str
    max_bytes: int
    ahead: tuple[Fetch, ...] = ()
    again: bool = False
    judge: Judge | None = field(default=None, compare=False)
    mutable: bool = False
    may_be_missing: bool = False


@dataclass(frozen=True, slots=True)
class Recall:
    """Ask for what may be held from before: roots by version, metadata by role name, targets by path."""

    area: Area
    name: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """``data`` passed as ``name`` (see :class:`Recall`); ``state`` is what holds from now on."""

    area: Area
    name: str
    data: bytes
    state: TrustedState


@dataclass(frozen=True, slots=True)
class Found:
    """A target, the role that lists it, and the state in which it was found."""

    role: str
    target: TargetFile
    state: TrustedState


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that is read, in bytes and in files. Reaching one is an error."""

    root_bytes: int = 512_000
    timestamp_bytes: int = 65_536
    snapshot_bytes: int = 16_000_000
    targets_bytes: int = 64_000_000
    root_rotations: int = 1_024
    delegations: int = 64
    root_window: int = 8
    """How many roots are asked for ahead; 0 makes the client strictly sequential."""


class Phase(Enum):
    """The points at which a :data:`Gate` is asked."""

    ROOT = "root"
    TIMESTAMP = "timestamp"
    SNAPSHOT = "snapshot"


Gate: TypeAlias = Callable[[Phase, TrustedState], None]
"""Asked before a state is accepted that is right by the specification; it raises, or does nothing."""


Step: TypeAlias = Fetch | Recall | Accepted
Answer: TypeAlias = bytes | Missing | None
