"""The workspace as files of a folder: policy, signed metadata, targets, keys, and the catalogue of registries.

It reads and writes whole files and knows nothing of events or destinations. It uses only ``kedge``.
"""

from kedge._doors import door

__all__, __getattr__, __dir__ = door(
    __name__,
    {
        "catalogue": ["CatalogueEntry", "KnownPath", "catalogue_entry", "catalogue_names", "known_path"],
        "files": ["create_file", "load_extra", "read_file", "remove_file", "remove_folder", "replace_file"],
        "key_document": ["KeyDocument", "end_key", "find_key_document", "new_document", "remove_key", "with_key"],
        "metadata": [
            "FORMER_FIELD",
            "Payload",
            "SignedMetadata",
            "canonical",
            "canonical_json",
            "check_target_path",
            "copy_signed",
            "digest",
            "file_name",
            "verify_roots",
            "write_metadata",
        ],
        "policy": [
            "BinsPolicy",
            "Content",
            "DelegationPolicy",
            "Destination",
            "HandInPolicy",
            "POLICY_FORMAT",
            "Policy",
            "ROLE_NAMES",
            "RolePolicy",
            "check_name",
            "read_name",
            "with_delegation",
            "with_keyholder",
            "with_location",
            "with_role",
            "without_keyholder",
        ],
        "public_key": [
            "KINDS",
            "algorithm",
            "fingerprint",
            "from_crypto",
            "parse_public_key",
            "ssh_fingerprint_of",
            "to_pem",
        ],
        "workspace": ["LOCK_FILE", "LOCK_TIMEOUT_S", "POLICY_FILE", "Workspace", "find_workspace"],
    },
)
