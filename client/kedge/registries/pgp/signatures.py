"""What gpgv or sqv says of the signatures on a file, as values. Pure: the texts come from :mod:`.tool`.

gpgv's exit status misleads: with one known key among three good signatures it is 2, as with none (measured on Debian's
own ``InRelease``). So its status lines are read (GnuPG's ``doc/DETAILS``), signature by signature. sqv has no status
lines; it prints the fingerprint of each certificate that made a good signature, and what it misses in words.

Only two words of another program's count: that a signature is good, and that it is bad. All else makes a signature not
count, with the reason as far as it is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

__all__ = ["Signature", "Standing", "read_gpgv", "read_sqv"]

# RFC 9580 §9.5: MD5, SHA-1 and RIPEMD-160 can be, or soon can be, made to collide.
_WEAK_DIGESTS = {"1": "MD5", "2": "SHA-1", "3": "RIPEMD-160"}
_HEX = "[0-9A-Fa-f]"
_FINGERPRINT = re.compile(f"{_HEX}{{40}}|{_HEX}{{64}}")


class Standing(StrEnum):
    """What one signature is worth by the tool's word, before anybody asks whose key it is."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN_KEY = "unknown-key"
    EXPIRED_KEY = "expired-key"
    REVOKED_KEY = "revoked-key"
    EXPIRED_SIGNATURE = "expired-signature"
    WEAK_DIGEST = "weak-digest"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature. ``key`` is the key that made it, ``primary`` its certificate's fingerprint where that is known.

    ``key`` is a fingerprint, or a key id of 16 digits where the tool knows no more. ``made`` is when the signature says
    that it was made.
    """

    standing: Standing
    key: str
    primary: str | None = None
    made: datetime | None = None
    detail: str = ""


_WORDS = {
    "GOODSIG": Standing.GOOD,
    "BADSIG": Standing.BAD,
    "EXPKEYSIG": Standing.EXPIRED_KEY,
    "REVKEYSIG": Standing.REVOKED_KEY,
    "EXPSIG": Standing.EXPIRED_SIGNATURE,
}


def read_gpgv(status: str) -> tuple[Signature, ...]:
    """Read gpgv's status lines: the signatures in their order."""
    return tuple(_one(lines) for lines in _signatures(status))


def _signatures(status: str) -> Iterator[list[list[str]]]:
    """The status lines of each signature: those after one NEWSIG and before the next."""
    group: list[list[str]] | None = None
    for line in status.split("\n"):
        if not line.startswith("[GNUPG:] "):
            continue
        words = line.removeprefix("[GNUPG:] ").split(" ")
        if words[0] == "NEWSIG":
            if group is not None:
                yield group
            group = []
        elif group is not None:
            group.append(words)
    if group is not None:
        yield group


def _one(lines: list[list[str]]) -> Signature:
    said = [words for words in lines if words[0] in _WORDS and len(words) > 1]
    valid = [words for words in lines if words[0] == "VALIDSIG" and len(words) >= 10 and _names_keys(words)]
    errors = [words for words in lines if words[0] == "ERRSIG" and len(words) >= 7]
    if len(said) != 1 or (said[0][0] == "GOODSIG" and len(valid) != 1):
        # Two verdicts on one signature, or none, or a good one without its fingerprint: nothing that is understood.
        return _uncounted(lines, errors)
    word, keyid = said[0][0], said[0][1]
    found = Signature(standing=_WORDS[word], key=keyid)
    if not valid:
        return found
    fields = valid[0]
    primary = fields[10] if len(fields) > 10 else fields[1]
    found = replace(found, key=fields[1].upper(), primary=primary.upper(), made=_time(fields[3]))
    if found.standing is Standing.GOOD and fields[8] in _WEAK_DIGESTS:
        found = replace(found, standing=Standing.WEAK_DIGEST, detail=f"made over {_WEAK_DIGESTS[fields[8]]}")
    return found


def _names_keys(valid: list[str]) -> bool:
    """Whether a VALIDSIG line names the key that signed, and its primary key if that is another one."""
    return all(_FINGERPRINT.fullmatch(text) is not None for text in (valid[1], *valid[10:11]))


def _uncounted(lines: list[list[str]], errors: list[list[str]]) -> Signature:
    missing = next((words[1] for words in lines if words[0] == "NO_PUBKEY" and len(words) > 1), None)
    error = errors[0] if errors else None
    key = error[7] if error is not None and len(error) > 7 and re.fullmatch(f"{_HEX}{{16,64}}", error[7]) else None
    key = (key or missing or (error[1] if error is not None else "an unnamed key")).upper()
    made = _time(error[5]) if error is not None else None
    if missing is not None:
        return Signature(standing=Standing.UNKNOWN_KEY, key=key, made=made)
    return Signature(standing=Standing.UNCHECKED, key=key, made=made, detail="gpgv could not check it")


def _time(text: str) -> datetime | None:
    """A moment as seconds since 1970, or in ISO 8601 as newer GnuPG may write it."""
    if re.fullmatch(r"[0-9]{1,11}", text):
        return datetime.fromtimestamp(int(text), UTC)
    if match := re.fullmatch(r"(\d{8}T\d{6})Z?", text, re.ASCII):
        return datetime.strptime(match[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    return None


def read_sqv(output: str, messages: str) -> tuple[Signature, ...]:
    """Read what sqv printed (fingerprints of certificates), and said (``--verbose``, on stderr)."""
    good = [
        Signature(standing=Standing.GOOD, key=line.upper(), primary=line.upper())
        for line in output.split("\n")
        if _FINGERPRINT.fullmatch(line)
    ]
    missing = [
        Signature(standing=Standing.UNKNOWN_KEY, key=key.upper())
        for key in re.findall(rf"^Missing key ({_HEX}{{16,64}}),", messages, re.MULTILINE)
    ]
    refused = [
        Signature(
            standing=Standing.BAD if "manipulated" in reason else Standing.UNCHECKED,
            key="an unnamed key",
            detail=f"sqv: {reason.strip()}",
        )
        for reason in re.findall(r"^Verifying signature.*:\n((?:[ \t]+.*\n?)+)", messages, re.MULTILINE)
    ]
    return (*good, *refused, *missing)
