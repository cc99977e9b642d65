"""Transparency logs without I/O: signed notes, checkpoints, Merkle trees, and a log's policy.

Bytes come in; verified notes, checkpoints and proofs come out. It uses ``documents`` and ``errors`` alone, and knows
nothing of TUF: any log in C2SP's formats can be read with it.

Sources: C2SP's signed-note 1.0.0, tlog-checkpoint 1.0.0, tlog-cosignature 1.1.0-rc.1, tlog-tiles, tlog-proof 1,
tlog-policy and tlog-witness 1.0.0; RFC 6962 §2.1 (the tree).
"""

from kedge._doors import door

__all__, __getattr__, __dir__ = door(
    __name__,
    {
        "checkpoint": [
            "Checkpoint",
            "LogProof",
            "MAX_CHECKPOINT_BYTES",
            "MAX_PROOF_BYTES",
            "Witnessed",
            "check_checkpoint",
            "proof_path",
            "read_served_proof",
            "write_body",
        ],
        "note": ["Note", "NoteSignature", "SignatureKind", "VerifierKey", "decode_base64", "verify"],
        "policy": ["LogPolicy", "POLICY_TARGET", "Witness"],
        "tree": [
            "HASH_BYTES",
            "MAX_ENTRY_BYTES",
            "TILE_HEIGHT",
            "TILE_WIDTH",
            "Tile",
            "TileTree",
            "build_tiles",
            "check_consistency",
            "check_inclusion",
            "index_path",
            "join_entries",
            "leaf_hash",
            "leaf_hashes",
            "root_hash",
            "split_entries",
            "tiles_of",
        ],
    },
)
