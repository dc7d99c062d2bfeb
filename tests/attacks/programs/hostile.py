"""The hostile handlers of the fault matrix: each misbehaves until it is stopped."""

import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from .lib import Event, end_by_itself, keep, linger
from .mark import MARK

LOG_BYTES = 64 * 1_048_576
MAX_PROCESSES = 300
MAX_MEMORY_MB = 512
MAX_DISK_MB = 256
MAX_DESCRIPTORS = 4_096
HANG_SECONDS = 60


def _forks(event: Event) -> None:
    for _ in range(MAX_PROCESSES):
        if os.fork() == 0:
            linger()


def _sessions(event: Event) -> None:
    """Each in a session of its own, then the handler hangs."""
    for _ in range(8):
        if os.fork() == 0:
            os.setsid()
            linger()
    time.sleep(HANG_SECONDS)


def _deaf(event: Event) -> None:
    for signum in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(signum, signal.SIG_IGN)
    time.sleep(HANG_SECONDS)


def _memory(event: Event) -> None:
    held = [bytearray(b"\x01" * 1_048_576) for _ in range(MAX_MEMORY_MB)]
    raise AssertionError(f"{len(held)} MB were given")


def _processes(event: Event) -> None:
    """Short-lived ones as fast as they can be made, until the time-out."""
    while True:
        try:
            pid = os.fork()
        except BlockingIOError:
            continue
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)


def _descriptors(event: Event) -> None:
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(MAX_DESCRIPTORS)]
    raise AssertionError(f"{len(held)} were given")


def _disk(event: Event) -> None:
    with open(os.path.join(os.environ.get("TMPDIR", "/tmp"), MARK), "wb", buffering=0) as file:
        for _ in range(MAX_DISK_MB):
            file.write(b"\x01" * 1_048_576)
    # What is watched is seen within a moment.
    keep(event)
    raise AssertionError(f"{MAX_DISK_MB} MB were given")


def _cpu(event: Event) -> None:
    # As many as cores, and more: a share by processes would show.
    for _ in range(3):
        if os.fork() == 0:
            end_by_itself()
            while True:
                pass
    while True:
        pass


def _closed(event: Event) -> None:
    for fd in (0, 1, 2, 3):
        os.close(fd)
    time.sleep(HANG_SECONDS)


def _shut(event: Event) -> None:
    """The channel is shut, but for reading, and the process goes on."""
    with socket.socket(fileno=os.dup(3)) as channel:
        channel.shutdown(socket.SHUT_WR)
    time.sleep(HANG_SECONDS)


def _logs(event: Event) -> str:
    line = b"x" * 65_535 + b"\n"
    for _ in range(LOG_BYTES // len(line)):
        os.write(1, line)
    return "written"


def _frames(event: Event) -> None:
    with socket.socket(fileno=os.dup(3)) as channel:
        channel.sendall(os.urandom(65_536))
    time.sleep(HANG_SECONDS)


def _exit(event: Event) -> None:
    os._exit(3)


def _fault(event: Event) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _stopped(event: Event) -> None:
    """Asleep by its own hand: no signal but SIGKILL wakes it up to be dealt with."""
    os.kill(os.getpid(), signal.SIGSTOP)


WAYS: "dict[str, Callable[[Event], Any]]" = {
    "forks": _forks,
    "setsid": _sessions,
    "ignores signals": _deaf,
    "memory": _memory,
    "processes": _processes,
    "descriptors": _descriptors,
    "disk": _disk,
    "CPU": _cpu,
    "closes its descriptors": _closed,
    "shuts its channel": _shut,
    "logs": _logs,
    "forged frames": _frames,
    "exits": _exit,
    "crashes": _fault,
    "stops itself": _stopped,
}


def handler(event: Event, _context: object) -> Any:
    """`way` names how it misbehaves."""
    return WAYS[event["way"]](event)
