"""Stands where a program stands, and has the zygote fork it: ``zygote.program("kedge")`` puts this file there.

A Python that loads next to nothing takes a tenth of the time that a command takes to load. The command gets this
process's streams, folder, environment and umask; signals are passed on; and this process ends as the command ends.
Where the environment changes what a Python start reads, or more than three streams are handed over, it becomes the
command itself, started anew. Two things are not the same: the command has no controlling terminal, and is not this
process's child.
"""

import json
import os
import signal
import socket
import sys

PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1)


def main() -> int:
    """Run the command, and give its exit status."""
    with open(f"{__file__}.json", encoding="utf-8") as file:  # noqa: PTH123 pathlib takes longer than all the rest
        known = json.load(file)
    read = {name: value for name, value in os.environ.items() if name.startswith(tuple(known["read at start"]))}
    handed_over = {int(name) for name in os.listdir("/proc/self/fd")} - {3}  # noqa: PTH208 as above; 3 is the list
    if read != known["environment"] or handed_over != {0, 1, 2}:
        os.execv(known["python"], [known["python"], "-m", known["module"], *sys.argv[1:]])
    umask = os.umask(0)
    os.umask(umask)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as zygote:
        zygote.connect(known["socket"])
        line = [known["module"], *sys.argv[1:]]
        message = json.dumps([line, os.getcwd(), dict(os.environ), False, umask])  # noqa: PTH109 as above
        socket.send_fds(zygote, [message.encode()], [0, 1, 2])
        zygote.recv(64)  # it has begun

        def pass_on(number: int, _: object) -> None:
            zygote.send(str(number).encode())

        for number in PASSED_ON:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, pass_on)
        status = int(zygote.recv(64))
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    sys.exit(main())
