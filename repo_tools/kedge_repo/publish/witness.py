"""The client of C2SP tlog-witness: asks witnesses to cosign a checkpoint, and believes none of them.

Each witness is asked at the same time. One that has seen another size of the log says so (409) and is asked again from
there; one that cannot be reached, or says that it is busy, is asked again after a pause; one that says that the log
forked (422), or that it has seen more of the log than there is, is not asked again: whoever publishes must know.

Invariants:

- A cosignature counts once it verifies over the very checkpoint that was sent, with a time that is near ours.
- What a witness answers is bounded in bytes and in time, and is never followed to another place.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import urllib3
from urllib3.exceptions import HTTPError

from kedge.documents import DocumentError
from kedge.errors import KedgeError, VerificationError
from kedge.tlog import Note, NoteSignature, Witness, verify

ATTEMPTS = 3
PAUSE_S = 0.5
TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 65_536
CLOCKS_AGREE = timedelta(hours=1)
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: an HTTP status and a body, or why nothing did (``status`` 0)."""

    status: int
    body: bytes


class Post(Protocol):
    """Sends a body to a URL."""

    def __call__(self, url: str, body: bytes) -> Answer:
        """Send it, and give the answer, whatever it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessFault:
    """Why a witness did not cosign. ``grave``: it contradicts the log, and asking again would not help."""

    witness: str
    problem: str
    grave: bool

    def __str__(self) -> str:
        return f"witness {self.witness}: {self.problem}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Witnessing:
    """The signatures that were obtained, in the order of the witnesses, and what went wrong with the others."""

    signatures: tuple[NoteSignature, ...]
    faults: tuple[WitnessFault, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A checkpoint as the log signed it, its size, and a maker of proofs that it begins with a smaller tree."""

    note: Note
    size: int
    consistency: Callable[[int], Sequence[bytes]]
    now: datetime


class HttpPost:
    """Sends over HTTP(S), a connection a call."""

    def __init__(self, *, timeout_s: float = TIMEOUT_S) -> None:
        """Wait at most ``timeout_s`` for each answer as a whole."""
        self._timeout_s = timeout_s

    def __call__(self, url: str, body: bytes) -> Answer:
        """Send ``body``; what fails on the way is an answer of status 0."""
        end = time.monotonic() + self._timeout_s
        timeout = urllib3.Timeout(total=self._timeout_s)
        try:
            with urllib3.PoolManager(retries=False, timeout=timeout) as pool:
                response = pool.request("POST", url, body=body, redirect=False, preload_content=False)
                data = bytearray()
                for chunk in response.stream(4_096):
                    data += chunk
                    if len(data) > MAX_ANSWER_BYTES:
                        return Answer(0, f"answers with more than {MAX_ANSWER_BYTES} bytes".encode())
                    if time.monotonic() > end:
                        return Answer(0, f"did not answer within {self._timeout_s:g} seconds".encode())
        except (HTTPError, ValueError) as error:
            reason = "did not answer in time" if "timed out" in str(error).lower() else "cannot be reached"
            return Answer(0, reason.encode())
        return Answer(response.status, bytes(data))


def ask_witnesses(
    witnesses: Iterable[Witness], question: Question, *, seen: Mapping[bytes, int], post: Post, pause_s: float = PAUSE_S
) -> Witnessing:
    """Ask every witness that has a URL; ``seen`` says by key id which size each of them saw last, if known."""
    asked = [witness for witness in witnesses if witness.url is not None]
    if not asked:
        return Witnessing(signatures=(), faults=())
    with ThreadPoolExecutor(len(asked), thread_name_prefix="kedge-witness") as workers:
        answers = list(
            workers.map(lambda witness: _ask(witness, question, seen.get(witness.key.id, 0), post, pause_s), asked)
        )
    return Witnessing(
        signatures=tuple(line for answer in answers if not isinstance(answer, WitnessFault) for line in answer),
        faults=tuple(answer for answer in answers if isinstance(answer, WitnessFault)),
    )


def _ask(
    witness: Witness, question: Question, old_size: int, post: Post, pause_s: float
) -> tuple[NoteSignature, ...] | WitnessFault:
    url = f"{(witness.url or '').rstrip('/')}/add-checkpoint"
    problem = ""
    old_size = min(old_size, question.size)
    for attempt in range(ATTEMPTS):
        answer = post(url, _body(question, old_size))
        if answer.status == 200:
            return _cosignatures(witness, question, answer.body)
        if answer.status == 409:
            size = re.fullmatch(rb"(0|[1-9][0-9]{0,14})\n?", answer.body)
            if size is None:
                return _fault(witness, "says that it has seen another size of the log (409), and not which")
            old_size = int(size[1])
            if old_size > question.size:
                problem = f"has seen size {old_size} of this log, which has {question.size} entries here"
                return _fault(witness, problem, grave=True)
            problem = f"keeps saying that it has seen another size of the log (409): {old_size}"
        elif answer.status in _RETRIED or not answer.status:
            problem = answer.body.decode() if not answer.status else f"answers with status {answer.status}"
            if attempt + 1 < ATTEMPTS:
                time.sleep(pause_s * 2**attempt)
        else:
            return _refused(witness, answer.status)
    return _fault(witness, problem)


def _refused(witness: Witness, status: int) -> WitnessFault:
    meanings = {
        403: "does not accept the log's signature (403)",
        404: "does not know this log (404)",
        422: "says that the log does not continue what it has seen of it (422)",
    }
    return _fault(witness, meanings.get(status, f"answers with status {status}"), grave=status == 422)


def _fault(witness: Witness, problem: str, *, grave: bool = False) -> WitnessFault:
    return WitnessFault(witness=witness.name, problem=problem, grave=grave)


def _body(question: Question, old_size: int) -> bytes:
    hashes = "".join(f"{base64.b64encode(each).decode('ascii')}\n" for each in question.consistency(old_size))
    return f"old {old_size}\n{hashes}\n".encode() + question.note.to_bytes()


def _cosignatures(witness: Witness, question: Question, body: bytes) -> tuple[NoteSignature, ...] | WitnessFault:
    try:
        lines = body.decode("utf-8").removesuffix("\n").split("\n")
        signatures = tuple(map(NoteSignature.from_text, lines))
        own = tuple(line for line in signatures if (line.name, line.key_id) == (witness.key.name, witness.key.id))[:1]
        (signed,) = verify(Note(text=question.note.text, signatures=own), [witness.key], file="the answer")
    except (DocumentError, VerificationError, UnicodeDecodeError) as error:
        text = error.message if isinstance(error, KedgeError) else "is no list of signatures"
        return _fault(witness, f"answers with what does not count: {text}")
    if signed.time is not None and abs(signed.time - question.now) > CLOCKS_AGREE:
        return _fault(witness, f"signs with a time that is not now: {signed.time:%Y-%m-%dT%H:%M:%SZ}")
    return own
