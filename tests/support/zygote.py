"""Runs the commands as processes of their own, without starting Python anew for each: one process imports, and forks.

``run(["kedge", "status"], …)`` does what ``subprocess.run([sys.executable, "-m", "kedge", "status"], …)`` does, a third
of a second quicker, and ``program("kedge")`` is an executable file that does the same for whoever runs it: a shell, a
page of the documentation, npm. The process that forks is single-threaded, runs nothing before it forks, and is started
with the first command. A command is started anew all the same where its environment changes what a Python start reads.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import pkgutil
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import IO, NoReturn

__all__ = ["program", "run"]

# What libraries import when they are first used.
USED_LATE = (
    "cryptography.hazmat.backends.openssl.backend",
    "pydantic.json_schema",
    "pydantic.main",
    "pydantic.plugin._loader",
    "pydantic.plugin._schema_validator",
    "pydantic.type_adapter",
    "rich.console",
    "rich.markdown",
    "tomllib",
    "typer._adapters",
    "typer._click.decorators",
    "typer.rich_utils",
    "_strptime",
    "zoneinfo",
)
PACKAGES = ("kedge", "kedge_repo")
FORKED = Path(__file__).with_name("forked.py")
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
    one = _Zygote.of_this_process()
    if _read_at_start(env) != one.environment:
        options = ["-W", "error"] if strict_warnings else []
        line = [sys.executable, *options, "-m", *arguments]
        return subprocess.run(line, cwd=cwd, env=dict(env), input=input, capture_output=True, timeout=timeout_s)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = one.start(arguments, cwd, env, input, (out, err), strict=strict_warnings)
        code = process.wait(timeout_s)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([*arguments], code, out.read(), err.read())


def program(module: str) -> Path:
    """An executable file that runs ``module``, in a folder of all such files; it works until this process ends."""
    return _Zygote.of_this_process().folder / module.replace("_", "-")


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(READ_AT_START)}


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
        self.environment = _read_at_start(os.environ)
        self.folder = Path(tempfile.mkdtemp(prefix="kedge-"))  # not pytest's: the path of a socket must be short
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
            listening.bind(str(self.folder / "socket"))
            listening.listen(64)
            passed = [theirs.fileno(), listening.fileno()]
            command = [sys.executable, __file__, *map(str, passed)]
            # It ends when this end of the socket is closed, at the latest with this process.
            self._process = subprocess.Popen(command, pass_fds=passed, start_new_session=True)
        for module in PACKAGES:
            self._put(module)
        atexit.register(self._close)

    def _put(self, module: str) -> None:
        file = self.folder / module.replace("_", "-")
        known = {
            "module": module,
            "python": sys.executable,
            "socket": str(self.folder / "socket"),
            "environment": self.environment,
            "read at start": READ_AT_START,
        }
        file.with_name(f"{file.name}.json").write_text(json.dumps(known))
        file.write_text(f"#!{sys.executable} -ISE\n{FORKED.read_text()}")
        file.chmod(0o755)

    def _close(self) -> None:
        if self._owner == os.getpid():
            self._socket.close()
            self._process.wait(10)
            shutil.rmtree(self.folder)

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
        message = json.dumps([list(arguments), str(cwd), dict(env), strict, None]).encode()
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


def _serve(control: socket.socket, listening: socket.socket) -> None:
    _load_everything()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        ready, _, _ = select.select([control, listening], [], [])
        if control in ready:
            message, descriptors, _, _ = socket.recv_fds(control, MAX_MESSAGE, 4)
            if not message:
                return
            if os.fork() == 0:
                control.close()
                listening.close()
                _attend(message, descriptors[:3], socket.socket(fileno=descriptors[3]))
            for each in descriptors:
                os.close(each)
        if listening in ready:
            asking, _ = listening.accept()
            if os.fork() == 0:
                control.close()
                listening.close()
                message, descriptors, _, _ = socket.recv_fds(asking, MAX_MESSAGE, 3)
                _attend(message, descriptors, asking)
            asking.close()
        _reap()


def _load_everything() -> None:
    """Import every module of both packages, so that no command has to; what an extra lacks is left to fail there."""
    walk = (pkgutil.walk_packages(import_module(name).__path__, f"{name}.") for name in PACKAGES)
    for name in [*(module.name for module in chain(*walk)), *USED_LATE]:
        with suppress(ModuleNotFoundError):
            import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a command would copy every page that the two share


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _attend(message: bytes, descriptors: Sequence[int], answers: socket.socket) -> NoReturn:
    """Fork once more: the command's parent tells how it ended, passes signals on, and kills it if nobody waits."""
    command = os.fork()
    if command == 0:
        answers.close()
        os._exit(_become(message, descriptors))
    for each in descriptors:
        os.close(each)
    with suppress(OSError):  # whoever asked is gone
        answers.send(str(command).encode())
    ended = os.pidfd_open(command)
    while ended not in select.select([ended, answers.fileno()], [], [])[0]:
        number = answers.recv(64)
        os.kill(command, int(number or signal.SIGKILL))
        if not number:
            break
    _, status = os.waitpid(command, 0)
    code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    with suppress(OSError):
        answers.send(str(code).encode())
    os._exit(0)


def _become(message: bytes, descriptors: Sequence[int]) -> int:
    arguments, cwd, env, strict, umask = json.loads(message)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.closerange(3, 256)
    os.chdir(cwd)
    if umask is not None:
        os.umask(umask)
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
    _serve(*(socket.socket(fileno=int(number)) for number in sys.argv[1:]))
