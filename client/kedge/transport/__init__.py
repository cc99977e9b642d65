"""From a path to bytes: HTTP, a folder, a bundle, several mirrors at once.

A :class:`Transport` answers a :class:`kedge.tuf.Fetch` with the file's bytes or with ``MISSING``, which means HTTP 404
or 403, or a file that is not there, and nothing else. It bounds what is read, in bytes and in time, and judges no
content: trust is never in the transport. It uses ``tuf`` (for the words of a request), ``documents`` and ``files``.
"""

from kedge._doors import door

__all__, __getattr__, __dir__ = door(
    __name__,
    {
        "bundle": ["BundleTransport", "LOG_PREFIX", "files_by_path", "read_bundle_file"],
        "bundle_format": [
            "Baseline",
            "Bundle",
            "Carried",
            "Held",
            "Manifest",
            "SHORT_KEYID",
            "Summary",
            "pack",
            "read_manifest",
            "unpack",
        ],
        "directory": ["file_name"],
        "http": ["Sockets", "explain", "is_final", "open_pool"],
        "mirror": ["Deadline", "Mirror", "ReadableMirror", "Transport", "is_loopback"],
        "open": ["BUNDLE_SUFFIX", "open_mirror", "open_mirrors", "split_url"],
    },
)
