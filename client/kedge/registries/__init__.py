"""Keys of package registries as values, and one package per ecosystem.

A registry's kind is a :class:`Registry`: it names the target with the keys, reads it into a :class:`KeySet`, and lints
a change. The packages below (``npm``, ``apt``, ``go`` …) add what verifies packages and exports keys. They are found by
entry points (``kedge.registries``, ``kedge.exports``) and take keys, or a function that gives them, never a client.
They use ``transport``, ``tuf``, ``tlog`` and the floor below; of each other only apt uses pgp, npm and pypi sigstore.
"""

from kedge._doors import door

__all__, __getattr__, __dir__ = door(
    __name__,
    {
        "allowances": ["Allowance", "Allowances", "parse_allowance", "read_allowances"],
        "export": ["Adjustable", "Exported", "Exporter", "GROUP", "Source", "find_exporter", "take_settings"],
        "keys": [
            "ALGORITHMS",
            "Evidence",
            "KeyFormat",
            "KeySet",
            "KeyStatus",
            "RegistryKey",
            "TimeBasis",
            "load_public_key",
            "parser_errors",
            "ssh_fingerprint",
        ],
        "last_seen": ["Memory"],
        "registry": [
            "Finding",
            "KEYID",
            "LiveRegistry",
            "NoKeysError",
            "Registry",
            "Severity",
            "dropped",
            "find_extension",
            "find_registry",
            "load_extension",
            "names_of_extensions",
            "read_custom",
            "read_served_keys",
        ],
        "report": ["Checked", "Checklist", "SarifResult", "sarif_log"],
        "served": ["Served", "TooLongError"],
    },
)
