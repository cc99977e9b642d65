"""Whose signatures make a log's checkpoint count: the log's keys, the witnesses, the quorum (C2SP tlog-policy).

::

    log example.com/keys+0123abcd+AQ…
    witness north witness.example/n+89abcdef+BA… https://witness.example/n
    witness south other.example/s+01234567+BA…
    witness west  third.example/w+76543210+BA…
    group two-of-three 2 north south west
    quorum two-of-three

The file is a target of the repository (:data:`POLICY_TARGET`), or the user's own choice in the anchor.

Invariants:

- A witness counts in one way only: each name is a member of at most one group, and no key stands there twice.
- The time of a quorum is one that the quorum vouches for: of a group of which ``k`` must sign, the ``k``-th latest. No
  minority of its members can move it forward.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from kedge.documents import DocumentError
from kedge.errors import Reason, Refusal, VerificationError
from kedge.tlog.note import SignatureKind, Signed, VerifierKey

POLICY_TARGET = "tlog/policy"
MAX_POLICY_BYTES = 262_144
_NONE = "none"
_LOG_KINDS = (SignatureKind.ED25519, SignatureKind.ML_DSA_44_COSIGNATURE)
_WITNESS_KINDS = (SignatureKind.ED25519_COSIGNATURE, SignatureKind.ML_DSA_44_COSIGNATURE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """One witness: its name within the policy, its key, and the URL below which it takes checkpoints."""

    name: str
    key: VerifierKey
    url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Witnesses and groups of which ``threshold`` must have signed."""

    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPolicy:
    """The whole file; ``data`` are its bytes. ``quorum`` names a witness or a group, or is None where none is asked."""

    data: bytes
    logs: tuple[VerifierKey, ...]
    witnesses: Mapping[str, Witness]
    groups: Mapping[str, Group]
    quorum: str | None

    @classmethod
    def from_bytes(cls, data: bytes) -> LogPolicy:
        """Parse a policy.

        Raises:
            DocumentError: it is none; the path is the line.
        """
        if len(data) > MAX_POLICY_BYTES:
            raise DocumentError("", f"is longer than the {MAX_POLICY_BYTES} bytes that a log policy may have")
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DocumentError("", f"is not UTF-8 (byte {error.start})") from error
        reading = _Reading()
        for number, line in enumerate(text.split("\n"), start=1):
            try:
                reading.line(line)
            except DocumentError as error:
                raise DocumentError(f"line {number}", error.problem) from error
        if not reading.logs:
            raise DocumentError("", "must name at least one log")
        if not reading.has_quorum:
            raise DocumentError("", "must have one quorum line")
        return cls(
            data=data,
            logs=tuple(reading.logs),
            witnesses=reading.witnesses,
            groups=reading.groups,
            quorum=reading.quorum,
        )

    @property
    def keys(self) -> tuple[VerifierKey, ...]:
        """Every key that counts, the logs' first."""
        return (*self.logs, *(witness.key for witness in self.witnesses.values()))

    def describe_quorum(self) -> str:
        """The rule in words: ``2 of north, south, west``."""
        if self.quorum is None:
            return "no witness"
        group = self.groups.get(self.quorum)
        return self.quorum if group is None else f"{group.threshold} of {', '.join(group.members)}"

    def quorum_time(self, signed: Iterable[Signed], *, file: str) -> datetime | None:
        """Check that the quorum signed, and give the time that it vouches for; None where no witness is asked.

        Raises:
            VerificationError: too few witnesses signed (reason ``signatures``).
        """
        if self.quorum is None:
            return None
        times = {each.key: each.time for each in signed if each.time is not None}
        found = self._time(self.quorum, times)
        if found is None:
            names = [witness.name for witness in self.witnesses.values() if witness.key in times]
            present = ", ".join(names) or "none"
            refusal = Refusal(reason=Reason.SIGNATURES, file=file, expected=self.describe_quorum(), found=present)
            raise VerificationError(
                f"{file}: of the witnesses, {present} signed it; its log's policy asks for {self.describe_quorum()}",
                refusal=refusal,
            )
        return found

    def _time(self, name: str, times: Mapping[VerifierKey, datetime]) -> datetime | None:
        if name in self.witnesses:
            return times.get(self.witnesses[name].key)
        group = self.groups[name]
        found = sorted(filter(None, (self._time(member, times) for member in group.members)), reverse=True)
        return found[group.threshold - 1] if len(found) >= group.threshold else None


class _Reading:
    """What has been read so far; names must be defined before they are used."""

    def __init__(self) -> None:
        self.logs: list[VerifierKey] = []
        self.witnesses: dict[str, Witness] = {}
        self.groups: dict[str, Group] = {}
        self.quorum: str | None = None
        self.has_quorum = False
        self._members: set[str] = set()

    def line(self, line: str) -> None:
        control = next((sign for sign in line if (sign < " " and sign != "\t") or sign == "\x7f"), None)
        if control is not None:
            raise DocumentError("", f"holds the control character U+{ord(control):04X}")
        words = re.split("[ \t]+", line.strip(" \t"))
        if not words[0] or words[0].startswith("#"):
            return
        readers = {"log": self._log, "witness": self._witness, "group": self._group, "quorum": self._quorum}
        reader = readers.get(words[0])
        if reader is None:
            raise DocumentError("", f"must begin with log, witness, group or quorum, not {words[0][:40]}")
        reader(words[1:])

    def _log(self, words: list[str]) -> None:
        if len(words) not in (1, 2):
            raise DocumentError("", "must be: log VKEY [URL]")
        self.logs.append(self._new_key(words[0], _LOG_KINDS, "a log"))

    def _witness(self, words: list[str]) -> None:
        if len(words) not in (2, 3):
            raise DocumentError("", "must be: witness NAME VKEY [URL]")
        name = self._new_name(words[0])
        key = self._new_key(words[1], _WITNESS_KINDS, "a witness")
        self.witnesses[name] = Witness(name=name, key=key, url=words[2] if len(words) == 3 else None)

    def _group(self, words: list[str]) -> None:
        if len(words) < 3:
            raise DocumentError("", "must be: group NAME all|any|K NAME...")
        name, rule, members = self._new_name(words[0]), words[1], tuple(words[2:])
        for member in members:
            self._known(member)
            if member in self._members:
                raise DocumentError("", f"{member} is a member already")
            self._members.add(member)
        if rule in ("all", "any"):
            threshold = len(members) if rule == "all" else 1
        elif re.fullmatch("[1-9][0-9]{0,8}", rule) and int(rule) <= len(members):
            threshold = int(rule)
        else:
            raise DocumentError("", f"must ask for all, any, or 1 to {len(members)} members, not {rule[:40]}")
        self.groups[name] = Group(threshold=threshold, members=members)

    def _quorum(self, words: list[str]) -> None:
        if len(words) != 1 or self.has_quorum:
            raise DocumentError("", "must be the one line: quorum NAME")
        self.quorum = None if words[0] == _NONE else self._known(words[0])
        self.has_quorum = True

    def _known(self, name: str) -> str:
        if name not in self.witnesses and name not in self.groups:
            raise DocumentError("", f"{name[:80]} is no witness or group that stands above")
        return name

    def _new_name(self, name: str) -> str:
        if name == _NONE or name in self.witnesses or name in self.groups:
            raise DocumentError("", f"the name {name[:80]} is taken")
        return name

    def _new_key(self, text: str, kinds: tuple[SignatureKind, ...], what: str) -> VerifierKey:
        key = VerifierKey.from_text(text)
        if key.kind not in kinds:
            read = ", ".join(f"{kind:02x}" for kind in kinds)
            raise DocumentError("", f"{key.name}: {what} signs with keys of type {read}, not {key.kind:02x}")
        held = (*self.logs, *(witness.key for witness in self.witnesses.values()))
        if any(other.public == key.public for other in held):
            raise DocumentError("", f"{key.name}: this key stands here twice")
        return key
