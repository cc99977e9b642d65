"""The signatures of one file: whose they are, which are right, and which ought not to stand there.

A client counts the right signatures of keys that have a say and passes over all others. Over the others an audit does
not pass: an empty one halts stricter clients (Sigstore's roots 12 to 14 carried such), a stray one says that somebody
signed who has no say, a wrong one that something was changed after signing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from securesystemslib.formats import encode_canonical
from tuf.api.metadata import Key, Root, Targets

from kedge.errors import StoreError, VerificationError
from kedge.findings import Severity
from kedge.metadata import Checked, Count, count_signatures
from kedge_repo.audit.archive import Entry
from kedge_repo.audit.judged import finding
from kedge_repo.audit.verdict import AuditFinding, Rule
from kedge_repo.publickey import fingerprint

__all__ = ["Report", "check_keys", "count", "odd_signatures"]

Report = Callable[[AuditFinding], None]

_KEYID = re.compile(r"[0-9a-f]{64}")


def count(delegator: Root | Targets, entry: Entry, checked: Checked, report: Report) -> Count | None:
    """Count every right signature of ``entry`` by the keys that ``delegator`` names; None where it names none."""
    if entry.parsed is None:
        return None
    try:
        return count_signatures(delegator, entry.role, entry.parsed, every=True, checked=checked)
    except VerificationError:
        return None
    except StoreError as error:
        text = error.message.removeprefix(f"{entry.file}: ")
        report(finding(Rule.UNCHECKED_SIGNATURE, Severity.WARNING, entry, text))
        return None


def odd_signatures(entry: Entry, keys: Mapping[str, Key], right: Iterable[str]) -> Iterator[AuditFinding]:
    """Signatures that count for nobody. ``keys`` are all that ever had a say, ``right`` those that signed this rightly.

    Nothing is said of a signature by a key that today's libraries cannot read at all.
    """
    if entry.parsed is None:
        return
    marks = {fingerprint(keys[keyid]) for keyid in right if keyid in keys}
    for keyid, signature in entry.parsed.signatures.items():
        if not signature.signature:
            text = f"the signature by {keyid[:16]} is empty: stricter clients refuse the file"
            yield finding(Rule.EMPTY_SIGNATURE, Severity.WARNING, entry, text)
        elif keyid not in keys:
            text = f"is signed by {keyid[:16]}, a key that never had a say in {entry.role}"
            yield finding(Rule.STRAY_SIGNATURE, Severity.WARNING, entry, text)
        elif (mark := fingerprint(keys[keyid])) not in marks and not mark.startswith("keyid:"):
            text = f"the signature by {keyid[:16]} is not one of this key over this content"
            yield finding(Rule.WRONG_SIGNATURE, Severity.WARNING, entry, text)


def check_keys(entry: Entry, keys: Mapping[str, Key], roles: Mapping[str, Iterable[str]]) -> Iterator[AuditFinding]:
    """Keyids that do not fit their keys, and keys that stand twice in a role."""
    for keyid, key in keys.items():
        if _KEYID.fullmatch(keyid) is None or keyid not in _derived(key):
            text = f"the keyid {keyid[:16]} is not the digest of its key: clients that compare them refuse the file"
            yield finding(Rule.KEYID, Severity.WARNING, entry, text)
    for role, keyids in roles.items():
        seen: dict[str, str] = {}
        for keyid in keyids:
            if keyid not in keys:
                yield finding(
                    Rule.KEYID, Severity.WARNING, entry, f"{role} names the key {keyid[:16]}, which is not there"
                )
                continue
            other = seen.setdefault(fingerprint(keys[keyid]), keyid)
            if other != keyid:
                text = f"{role} names one key under two keyids, {other[:16]} and {keyid[:16]}: it counts once"
                yield finding(Rule.ONE_KEY_TWICE, Severity.WARNING, entry, text)


def _derived(key: Key) -> set[str]:
    """The keyids that tools derive from a key: over all its fields, without a tool's own, and over the bare ones."""
    whole: dict[str, Any] = dict(key.to_dict())
    named = {name: value for name, value in whole.items() if not name.startswith("x-")}
    bare = {name: value for name, value in whole.items() if name in {"keytype", "scheme", "keyval"}}
    return {_digest(fields) for fields in (whole, named, bare)}


def _digest(fields: dict[str, Any]) -> str:
    return hashlib.sha256(str(encode_canonical(fields)).encode("utf-8", "surrogatepass")).hexdigest()
