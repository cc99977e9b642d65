"""Bringing a workspace to clients: snapshot and timestamp, the key log, destinations, the order of writes.

Before anything is written, readers of two implementations replay it; files that never change come first, the timestamp
last and by compare-and-swap. It uses ``signing``, ``bins`` and ``workspace``.
"""

from kedge._doors import door

__all__, __getattr__, __dir__ = door(
    __name__,
    {
        "destination": ["Destination", "Overlay"],
        "files": ["collect_files"],
        "folder": ["FolderDestination"],
        "log_writer": ["LogWriter", "publish_log", "verifier_key"],
        "online": ["Upkeep", "keep_online", "metrics", "online_keyholders", "sign_online"],
        "prune": ["prune_destination"],
        "publish": [
            "adopt",
            "destination_at",
            "destinations_of",
            "publication_changes",
            "publish_to",
            "publish_workspace",
        ],
        "replay": [
            "MEMORY_BASE",
            "MemoryFetcher",
            "READERS",
            "ReadBack",
            "Reader",
            "read_back",
            "read_with_kedge",
            "read_with_python_tuf",
        ],
        "witness": ["HttpPost"],
    },
)
