"""Several mirrors of one repository: the newest answer that verifies wins, and the others are named.

A file that may honestly differ between mirrors (the next root, the timestamp) is asked of all of them at once. Of the
answers that verify, the one of the highest version is taken; two of one version that say different things are a
conflict, which is refused. What cannot change is taken from the first mirror whose copy verifies, the one with the
newest timestamp first.

Invariants:

- A mirror can keep nothing back that another one serves, and can add nothing that does not verify.
- "There is no next root" counts only where no mirror has one that verifies.
- Once one mirror has given an answer that verifies, the others have :data:`PATIENCE_S` seconds left.
- A mirror that is still busy with a former question is not asked again in the same run.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final

from kedge.errors import FetchError, KedgeError, Reason, Refusal, StoreError, VerificationError
from kedge.transport.mirror import Deadline, Transport
from kedge.tuf import MISSING, Fetch, Judge, Merit, Missing

PATIENCE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Answer:
    """One mirror's answer: bytes that verify and their merit, that the file is missing, or what is wrong."""

    mirror: Transport
    data: bytes | Missing | KedgeError
    merit: Merit | None = None


class MirrorsTransport:
    """Asks several mirrors."""

    def __init__(self, mirrors: Sequence[Transport], *, patience_s: float = PATIENCE_S) -> None:
        """Ask ``mirrors``; their order counts where nothing else decides."""
        self._mirrors = list(mirrors)
        self._patience_s = patience_s
        self._workers = ThreadPoolExecutor(len(self._mirrors), thread_name_prefix="kedge-mirror")
        self._run: Deadline | None = None
        self._silence = f"did not answer within {patience_s:g} seconds of the others"
        self._busy: dict[int, Future[bytes | Missing]] = {}
        self._notices: dict[str, None] = {}

    @property
    def source(self) -> str:
        """The mirror that is asked first."""
        return self._mirrors[0].source

    @property
    def notices(self) -> tuple[str, ...]:
        """Which mirrors lag, lie or are silent, since the present run began."""
        return tuple(self._notices)

    def begin(self, requests: Sequence[Fetch], deadline: Deadline) -> None:
        """Begin a run at every mirror."""
        self._enter(deadline)
        for mirror in self._free():
            mirror.begin(requests, deadline)

    def get(self, request: Fetch, deadline: Deadline) -> bytes | Missing:
        """Get one file.

        Raises:
            FetchError: no mirror can be reached in time.
            VerificationError: no mirror's answer verifies, or two that do contradict each other.
        """
        self._enter(deadline)
        if request.mutable:
            return self._choose(request, self._ask_all(request, deadline))
        return self._first_right(request, deadline)

    def close(self) -> None:
        """Give up what is under way, at every mirror."""
        for mirror in self._mirrors:
            mirror.close()
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _enter(self, deadline: Deadline) -> None:
        if deadline is not self._run:
            self._run = deadline
            self._notices.clear()

    def _free(self) -> list[Transport]:
        self._busy = {key: future for key, future in self._busy.items() if not future.done()}
        return [mirror for mirror in self._mirrors if id(mirror) not in self._busy]

    def _submit(self, mirror: Transport, request: Fetch, deadline: Deadline) -> Future[bytes | Missing]:
        return self._workers.submit(mirror.get, request, deadline)

    def _ask_all(self, request: Fetch, deadline: Deadline) -> list[_Answer]:
        asked = {self._submit(mirror, request, deadline): mirror for mirror in self._free()}
        answers: list[_Answer] = []
        waiting, until = set(asked), time.monotonic() + deadline.remaining_s()
        while waiting:
            done, waiting = wait(waiting, timeout=max(0.0, until - time.monotonic()), return_when=FIRST_COMPLETED)
            answers += [_weigh(asked[future], future, request.judge) for future in done]
            if not done:
                break
            if any(not isinstance(answer.data, KedgeError) for answer in answers):
                until = min(until, time.monotonic() + self._patience_s)
        self._leave({future: asked[future] for future in waiting})
        for future in waiting:
            self._note(asked[future], self._silence)
        order = {id(mirror): index for index, mirror in enumerate(self._mirrors)}
        return sorted(answers, key=lambda answer: order[id(answer.mirror)])

    def _first_right(self, request: Fetch, deadline: Deadline) -> bytes | Missing:
        """Take the first copy that verifies; a mirror that is slow is overtaken by the next one."""
        queue, failed = self._free(), list[_Answer]()
        asked: dict[Future[bytes | Missing], Transport] = {}
        while (queue or asked) and deadline.remaining_s():
            if queue:
                mirror = queue.pop(0)
                asked[self._submit(mirror, request, deadline)] = mirror
            patience_s = min(self._patience_s, deadline.remaining_s()) if queue else deadline.remaining_s()
            done = wait(asked, timeout=patience_s, return_when=FIRST_COMPLETED).done
            if not done:
                for mirror in asked.values():
                    self._note(mirror, self._silence)
            for future in done:
                answer = _weigh(asked.pop(future), future, request.judge)
                if isinstance(answer.data, bytes):
                    self._leave(asked)
                    self._blame(failed)
                    return answer.data
                failed.append(answer)
        self._leave(asked)
        return self._none_of(request, failed)

    def _leave(self, asked: dict[Future[bytes | Missing], Transport]) -> None:
        self._busy.update({id(mirror): future for future, mirror in asked.items()})

    def _choose(self, request: Fetch, answers: list[_Answer]) -> bytes | Missing:
        right = [answer for answer in answers if answer.merit is not None]
        wrong = [answer for answer in answers if isinstance(answer.data, KedgeError)]
        if not right:
            return self._none_of(request, answers)
        best = max(right, key=_version)
        self._check_agreement(request, best, right)
        for answer in right:
            if answer.merit != best.merit and answer.merit is not None and best.merit is not None:
                lag = f"lags: it serves {request.path} of version {answer.merit.version}"
                self._note(answer.mirror, f"{lag}, others have {best.merit.version}")
        self._blame(wrong)
        # Whoever has the newest is asked first for what it names.
        self._mirrors.remove(best.mirror)
        self._mirrors.insert(0, best.mirror)
        return best.data if isinstance(best.data, bytes | Missing) else MISSING

    def _check_agreement(self, request: Fetch, best: _Answer, right: Iterable[_Answer]) -> None:
        for other in right:
            same_version = other.merit == best.merit
            if same_version and other.merit and best.merit and other.merit.identity != best.merit.identity:
                raise _conflict(request, best, other)

    def _none_of(self, request: Fetch, answers: Sequence[_Answer]) -> Missing:
        """Decide where no mirror has the file: it is missing, or the gravest of what went wrong."""
        faults = [answer.data for answer in answers if isinstance(answer.data, KedgeError)]
        # Where a file must be there, a mirror that lacks it does not excuse another one that serves a wrong one.
        excused = request.may_be_missing or not any(isinstance(fault, VerificationError) for fault in faults)
        missing = [answer.data for answer in answers if isinstance(answer.data, Missing)]
        if excused and missing:
            self._blame(answer for answer in answers if isinstance(answer.data, KedgeError))
            return Missing(", ".join(each.where for each in missing))
        if not faults:
            raise FetchError("no mirror answers", hint="check the network, or name another mirror")
        gravest = next((fault for fault in faults if isinstance(fault, VerificationError)), faults[0])
        self._blame(answer for answer in answers if answer.data is not gravest)
        raise gravest

    def _blame(self, answers: Iterable[_Answer]) -> None:
        for answer in answers:
            if isinstance(answer.data, KedgeError):
                self._note(answer.mirror, answer.data.message)
            elif isinstance(answer.data, Missing):
                self._note(answer.mirror, "lacks a file that another mirror has")

    def _note(self, mirror: Transport, what: str) -> None:
        self._notices[f"mirror {mirror.source}: {what}"] = None


def _weigh(mirror: Transport, future: Future[bytes | Missing], judge: Judge | None) -> _Answer:
    try:
        data = future.result()
        if isinstance(data, Missing):
            return _Answer(mirror, data)
        return _Answer(mirror, data, judge(data) if judge is not None else Merit(0))
    except StoreError:
        raise  # this machine is at fault, whichever mirror it was
    except VerificationError as error:
        return _Answer(mirror, error.served_by(mirror.source))
    except KedgeError as error:
        return _Answer(mirror, error)


def _version(answer: _Answer) -> int:
    return answer.merit.version if answer.merit is not None else 0


def _conflict(request: Fetch, one: _Answer, other: _Answer) -> VerificationError:
    exhibits = tuple(answer.data for answer in (one, other) if isinstance(answer.data, bytes))
    version = _version(one)
    refusal = Refusal(
        reason=Reason.CONFLICT,
        file=request.path,
        expected=f"one version {version}",
        found=f"two, by {one.mirror.source} and {other.mirror.source}",
        exhibits=exhibits,
    )
    return VerificationError(
        f"{request.path}: {one.mirror.source} and {other.mirror.source} serve two different versions {version}, "
        "both rightly signed",
        refusal=refusal,
        hint="somebody with the signing key shows different things to different people: report it, with both files",
    )
