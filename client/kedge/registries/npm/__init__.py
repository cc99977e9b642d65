"""npm registries: key documents, registry signatures, lockfiles, attestations, and Corepack."""

from kedge._doors import door

__all__, __getattr__, __dir__ = door(
    __name__,
    {
        "attestations": ["Attested", "Attesting"],
        "attestor": ["Attestor"],
        "config": ["Mappings", "Npmrc", "Registries", "Upstreams", "check_rule", "parse_npmrc"],
        "corepack": [
            "PackageMirror",
            "Pin",
            "Spec",
            "choose_registry",
            "make_pin",
            "read_package_manager",
            "set_package_manager",
        ],
        "export": ["DEFAULT_UPSTREAM", "VARIABLE", "corepack_json"],
        "fetch": ["FetchLimits"],
        "judge": [
            "Cause",
            "FAULTLESS",
            "Outcome",
            "Policy",
            "RetiredKeys",
            "SIGNATURES",
            "Verdict",
            "judge_package",
            "judge_unsigned",
            "verify_signature",
        ],
        "keyring": ["Issued", "KeyRing", "NoKeys"],
        "locked": [
            "Archives",
            "Digest",
            "LockedPackage",
            "Lockfile",
            "Skip",
            "check_name",
            "check_version",
            "parse_sri",
        ],
        "lockfiles": ["LockfileKind", "NAMES", "read_lines", "read_lockfile"],
        "packument": ["MAX_SIGNATURES", "Served", "ServedSignature"],
        "registry": ["NPM"],
        "report": ["Input", "Report", "sarif"],
        "verify": ["JOBS", "Settings", "verify_packages"],
    },
)
