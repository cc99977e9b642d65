"""Tree heads of a checksum database: what is signed, what was seen last, and whether one tree goes on from another.

A tree head says how many records the database holds and what their root hash is. It carries no time and no expiry, so
an old one is as right as a new one; what a mirror can be caught at is going back, and telling two stories.

- A head is *older* than another one if its tree is smaller. That is no fault in an answer to a look-up, which proxies
  keep for long, as long as the larger tree begins with the smaller one.
- It is a *rollback* if the newest that is served is older than what this machine has seen, and a *fork* if two trees
  contradict each other. Both are refused, and both heads are kept: whoever signed them cannot deny it.

Sources: golang.org/x/mod/sumdb/tlog (ParseTree), RFC 6962 §2.1.2.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kedge.document import DocumentError, Fields, blame_served
from kedge.errors import Reason, Refusal, StoreError, VerificationError
from kedge.keylog import note as notes
from kedge.keylog.note import Note, VerifierKey, decode_base64
from kedge.keylog.tree import HASH_BYTES, TileTree, check_consistency

__all__ = ["TreeHead", "check_not_older", "check_same_tree", "later", "open_head", "remembered"]

_TEXT = re.compile(r"go\.sum database tree\n(0|[1-9][0-9]{0,14})\n([A-Za-z0-9+/=]{1,64})\n.*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeHead:
    """A signed tree head: how many records, their root hash, the note, and the ids of the keys that signed it."""

    size: int
    root: bytes
    note: bytes
    signers: tuple[str, ...]

    def describe(self) -> str:
        """The head in a few words."""
        return f"{self.size} records, root hash {base64.b64encode(self.root).decode('ascii')}"

    def to_table(self) -> dict[str, Any]:
        """The head as it is remembered."""
        return {
            "size": self.size,
            "root": base64.b64encode(self.root).decode("ascii"),
            "note": self.note.decode("utf-8"),
            "signers": list(self.signers),
        }


def open_head(data: bytes, keys: Iterable[VerifierKey], *, file: str) -> TreeHead:
    """Read a signed tree head; one of ``keys`` at least must have signed it.

    Raises:
        VerificationError: it cannot be read (``malformed``), none of the keys signed it (``signatures``), or a known
            key's signature is not right (``bad-signature``).
    """
    with blame_served(file):
        note = Note.from_bytes(data)
    signed = notes.verify(note, keys, file=file)
    with blame_served(file):
        match = _TEXT.fullmatch(note.text)
        if match is None:
            raise DocumentError("", "is signed, and is no tree head of a checksum database")
        root = decode_base64(match[2], "the root hash")
        if len(root) != HASH_BYTES:
            raise DocumentError("", f"the root hash has {len(root)} bytes, not {HASH_BYTES}")
    signers = tuple(f"{each.key.name}+{each.key.id.hex()}" for each in signed)
    return TreeHead(size=int(match[1]), root=root, note=data, signers=signers)


def remembered(seen: Mapping[str, Any] | None, *, place: str) -> TreeHead | None:
    """The head that was seen last, as :meth:`TreeHead.to_table` wrote it.

    Raises:
        StoreError: the record is damaged.
    """
    if seen is None:
        return None
    try:
        fields = Fields(seen)
        root = decode_base64(fields.text("root"), "root")
        if len(root) != HASH_BYTES:
            fields.fail("root", f"must be {HASH_BYTES} bytes")
        note, size = fields.text("note").encode("utf-8"), fields.integer("size")
        head = TreeHead(size=size, root=root, note=note, signers=fields.texts("signers"))
        fields.end()
    except DocumentError as error:
        hint = "restore it; deleting it forgets what was seen, so that a rollback would not be noticed"
        raise StoreError(f"{place}: the tree head that was seen last is damaged: {error}", hint=hint) from error
    return head


def later(seen: TreeHead | None, head: TreeHead) -> TreeHead:
    """Which of two heads of one tree is to be remembered."""
    return head if seen is None or head.size > seen.size else seen


def check_not_older(newest: TreeHead, seen: TreeHead, *, source: str) -> None:
    """Check that what is served now reaches as far as what was seen before.

    Raises:
        VerificationError: it does not (``rollback``).
    """
    if newest.size >= seen.size:
        return
    refusal = Refusal(
        reason=Reason.ROLLBACK,
        file="the tree head",
        expected=f"at least {seen.size} records",
        found=f"{newest.size} records",
        source=source,
        exhibits=(seen.note, newest.note),
    )
    raise VerificationError(
        f"rollback of the checksum database to {newest.size} records; {seen.size} were seen before"
        f" (served by {source})",
        refusal=refusal,
        hint="the mirror serves an old tree: ask the database itself, and tell whoever runs the mirror",
    )


def check_same_tree(old: TreeHead, new: TreeHead, tree: TileTree, *, source: str) -> None:
    """Check that the tree of ``new``, of which ``tree`` reads authentic tiles, begins with the tree of ``old``.

    Raises:
        VerificationError: it does not (``conflict``).
    """
    if old.size == new.size and old.root == new.root:
        return
    fork = VerificationError(
        f"the checksum database tells two stories: {old.describe()}, and {new.describe()} (served by {source})",
        refusal=Refusal(
            reason=Reason.CONFLICT,
            file="the tree head",
            expected=old.describe(),
            found=new.describe(),
            source=source,
            exhibits=(old.note, new.note),
        ),
        hint="both are signed, and no tree holds both: report it to whoever runs the database, with the two heads",
    )
    if old.size >= new.size:
        raise fork
    proof = tree.consistency(old.size)
    try:
        check_consistency(old_size=old.size, old_root=old.root, size=new.size, root=new.root, proof=proof)
    except VerificationError as error:
        raise fork from error
