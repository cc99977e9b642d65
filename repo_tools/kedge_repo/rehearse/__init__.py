"""A recovery, rehearsed: on a copy of the repository with throw-away keys, against real clients."""

from kedge_repo.rehearse.play import Act, Rehearsal, rehearse
from kedge_repo.rehearse.witnesses import Sight

__all__ = ["Act", "Rehearsal", "Sight", "rehearse"]
