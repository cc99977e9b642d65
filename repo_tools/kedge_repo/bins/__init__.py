"""Succinct hash bins (TAP 15): a delegated role of any number of targets, of which a client reads one bin.

A role that maintainers delegate to in a signing event, say ``packages``, is signed by its keyholders offline and lists
no target itself: it delegates everything to ``2 ** bit_length`` bins, ``packages-0000`` to ``packages-3fff``, which an
online key signs. The first bits of a path's SHA-256 say which bin it belongs to. A change touches its bins, snapshot
and timestamp, and nothing else.

For programs (``kedge-repo bins`` does nothing more)::

    from kedge_repo.bins import BinTarget, in_batches, update_bins
    from kedge_repo.publish import sign_online

    listings = (BinTarget(path="api/packages/args", length=n, sha256=digest), …)     # any iterable; read once
    made = update_bins(workspace, "packages", in_batches(listings), signers, now=now)  # idempotent
    made.bins, made.added, made.changed, made.removed                 # nothing is written where nothing changed
    sign_online(workspace, signers, now=now)                          # snapshot and timestamp: the change is signed

:func:`update_bins` takes any number of targets with bounded memory, refuses bad input before it writes anything, and
commits in one step. ``replace=True`` says that the targets are all there are; ``removed=`` names paths to take out.
Target bytes that are published from the workspace are written with ``Workspace.write_target`` first; where the policy
says ``content = "elsewhere"`` kedge-repo never sees them. It uses ``workspace``.
"""

from kedge._doors import door

__all__, __getattr__, __dir__ = door(
    __name__,
    {
        "lines": ["Batch", "BinTarget", "folder_targets", "in_batches", "path_of", "read_lines"],
        "store": ["BinIndex", "BinStore", "Delegation", "bin_delegations", "bin_file", "bit_length_for", "read_bin"],
        "update": ["BinsUpdate", "KeptBins", "keep_bins", "require_bins", "update_bins"],
    },
)
