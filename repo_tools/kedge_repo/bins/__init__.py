"""Succinct hash bins (TAP 15): a delegated role of any number of targets, of which a client reads one bin.

A role that maintainers delegate to in a signing event, say ``packages``, is signed by its keyholders offline and lists
no target itself: it delegates everything to ``2 ** bit_length`` bins, ``packages-0000`` to ``packages-3fff``, which an
online key signs. The first bits of a path's SHA-256 say which bin it belongs to. A change touches its bins, snapshot
and timestamp, and nothing else.

For programs (``kedge-repo bins`` does nothing more)::

    from kedge_repo.bins import BinTarget, in_batches, update_bins
    from kedge_repo.online import sign_online

    listings = (BinTarget(path="api/packages/args", length=n, sha256=digest), …)     # any iterable; read once
    made = update_bins(workspace, "packages", in_batches(listings), signers, now=now)  # idempotent
    made.bins, made.added, made.changed, made.removed        # what it came to; nothing is written where nothing changed
    sign_online(workspace, signers, now=now)                 # snapshot and timestamp: the change is now signed

:func:`update_bins` takes any number of targets with bounded memory, refuses bad input before it writes anything, and
commits in one step. ``replace=True`` says that the targets are all there are; ``removed=`` names paths to take out.
Target bytes that are published from the workspace are written with :meth:`~kedge_repo.workspace.Workspace.write_target`
first; where the policy says ``content = "elsewhere"`` kedge-repo never sees them.

- :mod:`kedge_repo.bins.lines`: targets as lines, checked; :mod:`kedge_repo.bins.folder`: a folder's files as targets
- :mod:`kedge_repo.bins.bucket`: lines into bins, sorted, on disk where there are many
- :mod:`kedge_repo.bins.index`: which version of each bin counts; replacing it is the commit
- :mod:`kedge_repo.bins.binfile`: one bin's file, written and read
- :mod:`kedge_repo.bins.update`: changes; :mod:`kedge_repo.bins.keep`: new keys, another number of bins, expiry
- :mod:`kedge_repo.bins.size`: how many bins
"""

from __future__ import annotations

from kedge_repo.bins.folder import folder_targets
from kedge_repo.bins.index import BinIndex
from kedge_repo.bins.keep import keep_bins
from kedge_repo.bins.lines import BinTarget, in_batches, read_lines
from kedge_repo.bins.size import bit_length_for
from kedge_repo.bins.store import BinStore, Delegation, bin_delegations
from kedge_repo.bins.update import BinsUpdate, update_bins

__all__ = [
    "BinIndex",
    "BinStore",
    "BinTarget",
    "BinsUpdate",
    "Delegation",
    "bin_delegations",
    "bit_length_for",
    "folder_targets",
    "in_batches",
    "keep_bins",
    "read_lines",
    "update_bins",
]
