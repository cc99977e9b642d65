"""Verifies a detached OpenPGP signature over a file: Maven's ``.asc``, npm's old signatures, a release's ``.sig``.

A clear-signed text (``InRelease``) taken apart: the signed text, and the signature over it. RFC 9580 §7.

The trap of this form: a reader that skips to the header, and another one that reads from the top, see two texts in one
file. So the frame must be the whole file, and only what comes out here is ever parsed, and it is checked as what it is:
gpgv gets this text and this signature, never the file.

A detached signature as it lies beside a file: ``.asc``, ``.sig``, ``Release.gpg``; armoured or binary.

What gpgv or sqv says of the signatures on a file, as values. Pure: the texts come from :mod:`.tool`.

gpgv's exit status misleads: with one known key among three good signatures it is 2, as with none (measured on Debian's
own ``InRelease``). So its status lines are read (GnuPG's ``doc/DETAILS``), signature by signature. sqv has no status
lines; it prints the fingerprint of each certificate that made a good signature, and what it misses in words.

Only two words of another program's count: that a signature is good, and that it is bad. All else makes a signature not
count, with the reason as far as it is known.

Judges the signatures on one file against the keys of one issuer. Pure: what gpgv said comes from :mod:`.signatures`.

The rule is apt's: at least one good signature by a key that counts, and no bad one. Signatures by other keys are no
harm: Debian's ``InRelease`` has three, and an installed keyring knows one. A key that the repository revoked counts for
nothing, whatever gpgv, which cannot know it, says of it.

Runs gpgv, or sqv where there is no gpgv, on a detached signature.

Both are the programs that apt itself calls. They get absolute paths, a keyring of our own making and a home of their
own, so that nothing in the user's GnuPG folder takes part. What they say goes to :mod:`.signatures`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from kedge.documents import DocumentError, format_time
from kedge.errors import StoreError
from kedge.registries import Checked, KeySet, KeyStatus, RegistryKey
from kedge.registries.pgp.certificate import WEAK_DIGESTS, read_keyring
from kedge.registries.pgp.packets import SIGNATURE, dearmor, is_armored, read_packets
from kedge.registries.pgp.registry import MIN_RSA_BITS, keyring_of

BEGIN = b"-----BEGIN PGP SIGNED MESSAGE-----"
BEGIN_SIGNATURE = b"-----BEGIN PGP SIGNATURE-----"
END_SIGNATURE = b"-----END PGP SIGNATURE-----"
_HASH = re.compile(rb"Hash: ?[A-Za-z0-9, -]{1,200}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearSigned:
    """``text`` is what is signed, lines ended by one newline each and the last by none; ``signature`` is packets."""

    text: bytes
    signature: bytes


def is_clear_signed(data: bytes) -> bool:
    """Whether the header of a clear-signed text stands anywhere at the beginning of a line."""
    return data.startswith(BEGIN) or b"\n" + BEGIN in data


def split(data: bytes) -> ClearSigned:
    """Take a clear-signed text apart, which must be all of ``data``.

    Raises:
        DocumentError: something stands before, between or after its parts, or a part is missing.
    """
    lines = [line.rstrip(b" \t\r") for line in data.split(b"\n")]
    if lines[0] != BEGIN:
        where = "stands before the header of a signed text" if BEGIN in lines else "is no header of a signed text"
        raise DocumentError("line 1", f"{where} ({BEGIN.decode()})")
    if lines[-1] == b"":
        lines.pop()  # the last line may end without a newline, as apt and gpgv read it
    start = _end_of_headers(lines)
    end = _find(lines, BEGIN_SIGNATURE, start, "holds no signature after the signed text")
    last = _find(lines, END_SIGNATURE, end, "begins a signature that does not end")
    if last != len(lines) - 1:
        raise DocumentError(f"line {last + 2}", "stands after the end of the signature: nobody signed it")
    try:
        signature = dearmor(b"\n".join(lines[end:]) + b"\n", SIGNATURE)
    except DocumentError as error:
        raise DocumentError(f"the signature that begins at line {end + 1}", error.problem) from error
    return ClearSigned(text=b"\n".join(_unescape(lines, start, end)), signature=signature)


def _end_of_headers(lines: list[bytes]) -> int:
    for number, line in enumerate(lines[1:], 1):
        if not line:
            return number + 1
        if _HASH.fullmatch(line) is None:
            raise DocumentError(f"line {number + 1}", "is no Hash header, which is all that may stand above the text")
    raise DocumentError(f"line {len(lines)}", "ends before the signed text begins")


def _find(lines: list[bytes], wanted: bytes, start: int, problem: str) -> int:
    try:
        return lines.index(wanted, start)
    except ValueError:
        raise DocumentError(f"line {len(lines)}", problem) from None


def _unescape(lines: list[bytes], start: int, end: int) -> list[bytes]:
    text: list[bytes] = []
    for number, line in enumerate(lines[start:end], start):
        if line.startswith(b"- ") or line == b"-":
            text.append(line[2:])
        elif line.startswith(b"-"):
            raise DocumentError(f"line {number + 1}", "begins with a dash that is not escaped inside the signed text")
        else:
            text.append(line)
    return text


MAX_SIGNATURE_BYTES = 1 << 20
_TAG = 2


def read_signature(data: bytes) -> bytes:
    """Give the signature packets of a file that holds nothing else; empty where the file is.

    Raises:
        DocumentError: it holds something else, such as a signed message with a text of its own.
    """
    if not data.strip():
        return b""
    packets = dearmor(data, SIGNATURE) if is_armored(data) else data
    for packet in read_packets(packets):
        if packet.tag != _TAG:
            raise DocumentError("", f"holds a packet of tag {packet.tag}, expected signatures and nothing else")
    return packets


_WEAK_DIGESTS = {str(number): name for number, name in WEAK_DIGESTS.items()}
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


class SignatureOutcome(StrEnum):
    """What the signatures on a file came to. The values stand in ``--json``."""

    VERIFIED = "verified"
    UNSIGNED = "unsigned"
    BAD_SIGNATURE = "bad-signature"
    REVOKED_KEY = "revoked-key"
    EXPIRED_KEY = "expired-key"
    EXPIRED_SIGNATURE = "expired-signature"
    WEAK_DIGEST = "weak-digest"
    UNKNOWN_KEY = "unknown-key"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The judgement: ``key`` is the fingerprint of the certificate that counts, ``notes`` what stands beside it."""

    outcome: SignatureOutcome
    detail: str = ""
    key: str | None = None
    notes: tuple[str, ...] = ()


# Of several signatures that verify nothing, the first of these that is among them names the outcome.
_TELLING = (
    SignatureOutcome.BAD_SIGNATURE,
    SignatureOutcome.VERIFIED,
    SignatureOutcome.REVOKED_KEY,
    SignatureOutcome.EXPIRED_KEY,
    SignatureOutcome.EXPIRED_SIGNATURE,
    SignatureOutcome.WEAK_DIGEST,
    SignatureOutcome.UNCHECKED,
    SignatureOutcome.UNKNOWN_KEY,
)
_PLAIN = {
    Standing.BAD: (SignatureOutcome.BAD_SIGNATURE, "did not make this signature over this content"),
    Standing.UNKNOWN_KEY: (SignatureOutcome.UNKNOWN_KEY, "is not in the verified keyring"),
    Standing.EXPIRED_KEY: (SignatureOutcome.EXPIRED_KEY, "has expired"),
    Standing.REVOKED_KEY: (SignatureOutcome.REVOKED_KEY, "was revoked by its owner"),
    Standing.EXPIRED_SIGNATURE: (SignatureOutcome.EXPIRED_SIGNATURE, "signed for a time that is over"),
    Standing.WEAK_DIGEST: (SignatureOutcome.WEAK_DIGEST, "signed a digest that can be forged"),
    Standing.UNCHECKED: (SignatureOutcome.UNCHECKED, "made a signature that could not be checked"),
}


def judge(signatures: Sequence[Signature], keys: KeySet) -> Judged:
    """Judge the signatures on one file."""
    if not signatures:
        return Judged(outcome=SignatureOutcome.UNSIGNED, detail="there is no signature")
    told = [(signature, *_tell(signature, keys)) for signature in signatures]
    signature, outcome, detail = min(told, key=lambda each: _TELLING.index(each[1]))
    if outcome is not SignatureOutcome.VERIFIED:
        many = f" ({len(told)} signatures)" if len(told) > 1 else ""
        return Judged(outcome=outcome, detail=f"{signature.key} {detail}{many}")
    beside = [each for each in told if each[1] is not SignatureOutcome.VERIFIED]
    notes = tuple(f"beside it: {other.key} {text}" for other, _, text in beside)
    return Judged(outcome=outcome, key=signature.primary or signature.key, notes=notes)


def future_refusals(judged: Judged, keys: KeySet) -> tuple[str, ...]:
    """What newer tools will say of the key that counted: Sequoia, which apt asks from Debian 13 on."""
    key = next((key for key in keys.keys if key.id == judged.key), None)
    if key is None:
        return ()
    (certificate,) = read_keyring(key.material)
    told = []
    if certificate.weak_binding is not None:
        told.append(f"its self-signatures are over {certificate.weak_binding}, which it accepts until 2026-02-01")
    if certificate.algorithm == "DSA" or (certificate.algorithm == "RSA" and (certificate.bits or 0) < MIN_RSA_BITS):
        told.append(
            f"it is a {certificate.algorithm} key" + (f" of {certificate.bits} bits" if certificate.bits else "")
        )
    return tuple(f"apt of Debian 13 refuses key {judged.key}: {text}" for text in told)


def _tell(signature: Signature, keys: KeySet) -> tuple[SignatureOutcome, str]:
    is_revoked = signature.key in keys.revoked or signature.primary in keys.revoked
    if is_revoked and signature.standing is not Standing.BAD:
        return SignatureOutcome.REVOKED_KEY, f"was revoked in the repository that holds {keys.target}"
    if signature.standing is not Standing.GOOD:
        outcome, text = _PLAIN[signature.standing]
        return outcome, f"{text} ({signature.detail})" if signature.detail else text
    key = next((key for key in keys.keys if key.id == signature.primary), None)
    if key is None:
        return SignatureOutcome.UNKNOWN_KEY, "is not in the verified keyring"
    if key.status is KeyStatus.REVOKED:
        return SignatureOutcome.REVOKED_KEY, "was revoked by its owner"
    if _is_over(key, keys):
        return SignatureOutcome.EXPIRED_KEY, f"ended at {format_time(key.valid_until)}" if key.valid_until else ""
    return SignatureOutcome.VERIFIED, ""


def _is_over(key: RegistryKey, keys: KeySet) -> bool:
    # gpgv goes by this machine's clock, which may be behind the time that trust has reached.
    return key.valid_until is not None and key.valid_until <= keys.reference_time


TOOLS = ("gpgv", "sqv")
_ENVIRONMENT = {"LC_ALL": "C", "LANGUAGE": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checker:
    """One of the programs, by its absolute path."""

    program: Path
    timeout_s: float = 120.0

    def check(self, signature: bytes, content: bytes | Path, keyring: bytes) -> tuple[Signature, ...]:
        """Check a detached signature over ``content``, bytes or a file, with the certificates of a binary keyring.

        Raises:
            StoreError: the program cannot be run, or says nothing in time.
        """
        with tempfile.TemporaryDirectory(prefix="kedge-") as name:
            folder = Path(name)
            for file, data in (("keyring.gpg", keyring), ("signature", signature)):
                (folder / file).write_bytes(data)
            if isinstance(content, bytes):
                (folder / "content").write_bytes(content)
                content = folder / "content"
            return self._run(folder, content.absolute())

    def _run(self, folder: Path, content: Path) -> tuple[Signature, ...]:
        keyring, signature = str(folder / "keyring.gpg"), str(folder / "signature")
        if self.program.name == "sqv":
            done = self._call(["--verbose", "--keyring", keyring, signature, str(content)], folder)
            return read_sqv(done.stdout, done.stderr)
        options = ["--homedir", str(folder), "--status-fd", "1", "--keyring", keyring]
        return read_gpgv(self._call([*options, signature, str(content)], folder).stdout)

    def _call(self, arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
        command = [str(self.program), *arguments]
        environment = {**_ENVIRONMENT, "HOME": str(folder), "GNUPGHOME": str(folder)}
        try:
            return subprocess.run(  # noqa: S603 a program by its absolute path, with files of our own making
                command,
                capture_output=True,
                check=False,
                cwd=folder,
                encoding="utf-8",
                env=environment,
                errors="replace",
                stdin=subprocess.DEVNULL,
                timeout=self.timeout_s,
            )
        except subprocess.TimeoutExpired as error:
            raise StoreError(f"{self.program}: said nothing for {self.timeout_s:g} seconds") from error
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise StoreError(f"{self.program}: cannot be run: {reason}") from error


def find_checker() -> Checker:
    """Find gpgv, or else sqv, among the installed programs.

    Raises:
        StoreError: there is neither.
    """
    for name in TOOLS:
        if found := shutil.which(name):
            return Checker(program=Path(found).absolute())
    raise StoreError("neither gpgv nor sqv is installed, which check OpenPGP signatures", hint="apt install gpgv")


class FileOutcome(StrEnum):
    """What became of a file that is no signature at all; the other outcomes are those of signatures."""

    MALFORMED = "malformed"


GOOD: frozenset[StrEnum] = frozenset({SignatureOutcome.VERIFIED})


def verify_file(file: Path, signature: bytes, keys: KeySet, checker: Checker) -> Checked:
    """Check the signature on a file.

    Raises:
        StoreError: gpgv cannot be run.
    """
    try:
        packets = read_signature(signature)
    except DocumentError as error:
        return Checked(name=str(file), outcome=FileOutcome.MALFORMED, is_fault=True, detail=str(error))
    judged = judge(checker.check(packets, file, keyring_of(keys)) if packets else (), keys)
    return Checked(
        name=str(file),
        outcome=judged.outcome,
        is_fault=judged.outcome is not SignatureOutcome.VERIFIED,
        detail=judged.detail or f"by key {judged.key}",
        notes=judged.notes,
        facts={"key": judged.key},
    )
