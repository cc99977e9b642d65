"""What a keyholder meets: the request, its review, the lint of key documents, thresholds, and signers.

A request is verified from a root that the keyholder already trusts, reviewed as what it changes, and signed with a key
that stays where it is. It uses ``workspace``.
"""

from kedge._doors import door

__all__, __getattr__, __dir__ = door(
    __name__,
    {
        "key_diff": ["Sample", "read_sample"],
        "key_rules": ["KeyRule", "judge_keys"],
        "keyholder": [
            "FirstCeremony",
            "TrustedRoot",
            "VerifiedRequest",
            "require_right_keys",
            "sign_request",
            "verify_request",
        ],
        "lint": [
            "DocumentChange",
            "Version",
            "exit_code",
            "fetch_live",
            "finding_table",
            "lint_change",
            "lint_keys",
            "lint_live",
            "lint_sarif",
            "lint_table",
            "request_changes",
            "signed_version",
            "workspace_documents",
        ],
        "request": ["Request", "Response", "RoleSignature", "TargetChange", "request_code"],
        "review": ["review_request", "review_table"],
        "signers.keyfile": ["Algorithm", "KeyProtection", "new_key"],
        "signers.location": ["open_keyholders", "open_signer"],
        "signers.secret": ["Passphrase", "ask_passphrase", "asked_twice", "passphrase_from"],
        "threshold": ["Group", "Progress", "check_signature", "groups_for", "progress"],
    },
)
