"""Sigstore: trusted roots as key documents, and bundles verified with them."""

from kedge._doors import door

__all__, __getattr__, __dir__ = door(
    __name__,
    {
        "bundle": ["Bundle", "Part", "read_bundles", "refuse"],
        "content": ["Content", "ManagedKey"],
        "expectations": ["Build", "Expectations", "NpmRule", "Publisher", "normalized", "read_build"],
        "reference": ["Outcome", "verify_file"],
        "identity": ["Expected"],
        "registry": ["Sigstore"],
        "statement": ["PAYLOAD_TYPE", "SLSA", "Statement"],
        "verify": ["BundleVerifier", "LogPlace", "SignedFile", "SignedStatement"],
    },
)
