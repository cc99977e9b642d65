"""The TUF client without I/O: metadata, checks, state, the workflow and look-ups.

Bytes and a time come in; verified state, or an error, comes out. Nothing here opens a file or a socket or asks a clock:
the workflow is a generator that says what it needs (:class:`Fetch`, :class:`Recall`), and a driver answers. It uses
``documents`` and ``errors``, and python-tuf's Metadata API. Source: TUF 1.0.34 §5.
"""

from kedge._doors import door

__all__, __getattr__, __dir__ = door(
    __name__,
    {
        "checks": [
            "Freshness",
            "STRONG_DIGESTS",
            "accept_root",
            "begin",
            "content_matches",
            "describe_age",
            "keys_replaced",
            "raise_time",
            "require_complete",
            "require_fresh",
            "role_meta",
            "settle_floors",
            "signers_of",
        ],
        "driver": ["no_network", "run"],
        "metadata": [
            "Checked",
            "Count",
            "Parsed",
            "SNAPSHOT",
            "TARGETS",
            "TIMESTAMP",
            "claimed_version",
            "count_signatures",
            "parse",
            "require_threshold",
        ],
        "state": ["Floors", "RootFile", "StateRecord", "TrustedState", "sha256_hex"],
        "steps": [
            "Accepted",
            "Area",
            "Fetch",
            "Found",
            "Gate",
            "Judge",
            "Limits",
            "MISSING",
            "Merit",
            "Missing",
            "Phase",
            "Recall",
        ],
        "trust": [
            "AgeBasis",
            "AgeLimits",
            "LogState",
            "RoleState",
            "Target",
            "Trust",
            "age_of",
            "issued_at",
            "key_warnings",
            "role_states",
        ],
        "walk": ["Listed", "every_role", "every_target", "get_all"],
        "workflow": [
            "Workflow",
            "download",
            "find",
            "opening",
            "prefixes",
            "refresh",
            "restore",
            "root_request",
            "target_paths",
        ],
    },
)
