"""Looking at what was: history, monitoring of the key log, the machine's fitness, evidence of a run.

Nothing here changes trust. It uses ``client``, ``registries`` and what lies below.
"""

from kedge._doors import door

__all__, __getattr__, __dir__ = door(
    __name__,
    {
        "doctor": ["Machine", "diagnose"],
        "evidence": ["Evidence", "Offline", "Proof", "ProofTransport"],
        "history": [
            "Change",
            "Chosen",
            "KeptSet",
            "KeyWindow",
            "Moment",
            "RegistryKeys",
            "Story",
            "differences",
            "kept_in_folder",
            "kept_in_mirror",
            "kept_in_state",
            "moment_at",
            "tell",
            "windows",
        ],
        "monitor": ["Expectation", "News", "WholeLog", "exit_code", "read_whole_log", "watch"],
    },
)
