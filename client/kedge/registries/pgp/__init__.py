"""OpenPGP keyrings and signatures, and Gradle's files of trusted keys."""

from kedge._doors import door

__all__, __getattr__, __dir__ = door(
    __name__,
    {
        "export": ["choose"],
        "packets": ["armor"],
        "registry": ["Gradle", "Keyring", "PGP", "keyring_of"],
        "verify": [
            "Checker",
            "GOOD",
            "MAX_SIGNATURE_BYTES",
            "SignatureOutcome",
            "find_checker",
            "future_refusals",
            "judge",
            "read_signature",
            "split",
            "verify_file",
        ],
    },
)
