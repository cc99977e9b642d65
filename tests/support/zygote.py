"""Runs the commands as processes of their own, without starting Python anew for each: one process imports, and forks.

``run(["kedge", "status"], …)`` does what ``subprocess.run([sys.executable, "-m", "kedge", "status"], …)`` does, a third
of a second quicker. The process that forks is single-threaded, runs nothing before it forks, and is started with the
first command. A command is started anew all the same where its environment changes what a Python start reads.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import IO, NoReturn

__all__ = ["run"]

PRELOADED = (
    "kedge._cli.app",
    "kedge_repo._cli.app",
    "kedge.client.client",
    "kedge.transport.http",
    "kedge.registries.npm",
)
READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC", "COVERAGE")
MAX_MESSAGE = 1 << 20


def run(
    arguments: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    input: bytes = b"",  # noqa: A002 as subprocess.run calls it
    strict_warnings: bool = False,
    timeout_s: float = 120.0,
) -> subprocess.CompletedProcess[bytes]:
    """Run ``arguments[0]`` as a module, with the rest as its arguments; stdin is a pipe that holds ``input``.

    Raises:
        subprocess.TimeoutExpired: it did not end in time, and was killed.
    """
    if _needs_a_start_of_its_own(env):
        options = ["-W", "error"] if strict_warnings else []
        line = [sys.executable, *options, "-m", *arguments]
        return subprocess.run(line, cwd=cwd, env=dict(env), input=input, capture_output=True, timeout=timeout_s)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = _Zygote.of_this_process().start(arguments, cwd, env, input, (out, err), strict=strict_warnings)
        code = process.wait(timeout_s)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([*arguments], code, out.read(), err.read())


def _needs_a_start_of_its_own(env: Mapping[str, str]) -> bool:
    def read(names: Mapping[str, str]) -> dict[str, str]:
        return {name: value for name, value in names.items() if name.startswith(READ_AT_START)}

    return read(env) != read(os.environ)


class _Zygote:
    """The process that forks, as seen from the tests."""

    _one: _Zygote | None = None

    @classmethod
    def of_this_process(cls) -> _Zygote:
        """The one of this test process; a process that was forked from a test makes one of its own."""
        if cls._one is None or cls._one._owner != os.getpid():
            cls._one = cls()
        return cls._one

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, __file__, str(theirs.fileno())]
            # It ends when this end of the socket is closed, at the latest with this process.
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True)
        atexit.register(self._close)

    def _close(self) -> None:
        if self._owner == os.getpid():
            self._socket.close()
            self._process.wait(10)

    def start(
        self,
        arguments: Sequence[str],
        cwd: Path,
        env: Mapping[str, str],
        given: bytes,
        outputs: tuple[IO[bytes], IO[bytes]],
        *,
        strict: bool,
    ) -> _Started:
        message = json.dumps([list(arguments), str(cwd), dict(env), strict]).encode()
        assert len(message) < MAX_MESSAGE
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        reading, writing = os.pipe()
        descriptors = [reading, *(output.fileno() for output in outputs), theirs.fileno()]
        socket.send_fds(self._socket, [message], descriptors)
        theirs.close()
        os.close(reading)
        _write(writing, given)
        return _Started(ours, arguments)


class _Started:
    """One command: the first answer on its socket is its process id, the second its exit status."""

    def __init__(self, answers: socket.socket, arguments: Sequence[str]) -> None:
        self._answers = answers
        self._arguments = arguments

    def wait(self, timeout_s: float) -> int:
        with self._answers:
            end = time.monotonic() + timeout_s
            self._answers.settimeout(timeout_s)
            process = int(self._answers.recv(64))
            try:
                self._answers.settimeout(max(0.01, end - time.monotonic()))
                return int(self._answers.recv(64))
            except TimeoutError as error:
                os.kill(process, signal.SIGKILL)
                raise subprocess.TimeoutExpired([*self._arguments], timeout_s) from error


def _write(descriptor: int, data: bytes) -> None:
    """Fill a pipe and close it; a command that reads nothing of it is no fault."""
    try:
        with os.fdopen(descriptor, "wb") as pipe:
            pipe.write(data)
    except BrokenPipeError:
        return


def _serve(descriptor: int) -> None:
    for name in PRELOADED:
        import_module(name)
    control = socket.socket(fileno=descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, MAX_MESSAGE, 4)
        if not message:
            return
        if os.fork() == 0:
            control.close()
            _attend(message, descriptors)
        for each in descriptors:
            os.close(each)
        _reap()


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _attend(message: bytes, descriptors: Sequence[int]) -> NoReturn:
    """Fork once more: the command's parent waits for it, and tells how it ended."""
    answers = socket.socket(fileno=descriptors[3])
    command = os.fork()
    if command == 0:
        answers.close()
        os._exit(_become(message, descriptors[:3]))
    answers.send(str(command).encode())
    for each in descriptors[:3]:
        os.close(each)
    _, status = os.waitpid(command, 0)
    code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    answers.send(str(code).encode())
    os._exit(0)


def _become(message: bytes, descriptors: Sequence[int]) -> int:
    arguments, cwd, env, strict = json.loads(message)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.closerange(3, 256)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    if strict:
        warnings.simplefilter("error")
    encoding = sys.stdout.encoding
    sys.stdin = open(0, encoding=encoding)  # noqa: SIM115 they live as long as the process
    sys.stdout = open(1, "w", encoding=encoding)  # noqa: SIM115 as above
    sys.stderr = open(2, "w", encoding=encoding, errors="backslashreplace", buffering=1)  # noqa: SIM115 as above
    sys.argv = [f"{arguments[0]}/__main__.py", *arguments[1:]]
    try:
        code = import_module(f"{arguments[0]}.__main__").main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 what Python itself does at the end
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or 120
    return int(code or 0)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
