"""Attack 8: use up descriptors and threads. Success is the number that the event names; more are not made."""

import array
import contextlib
import os
import socket
import threading
from typing import Any

from .lib import Event, Tries, run

STACK_BYTES = 65_536
STASHED_AT_ONCE = 64


def open_files(event: Event, tries: Tries) -> None:
    """Open files of one process."""
    fds: list[int] = []
    try:
        while len(fds) < event["descriptors"]:
            fds.append(os.open("/dev/null", os.O_RDONLY))
        tries.got(f"{len(fds)} open files")
    finally:
        for fd in fds:
            os.close(fd)


def stashed(event: Event, tries: Tries) -> None:
    """Open files that nobody has: they are under way in sockets."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    keep = [ours, theirs]
    sent = 0
    try:
        while sent < event["descriptors"]:
            fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(STASHED_AT_ONCE)]
            try:
                ours.setblocking(False)
                ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
            except BlockingIOError:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
                keep += [ours, theirs]
                continue
            finally:
                for fd in fds:
                    os.close(fd)
            sent += STASHED_AT_ONCE
        tries.got(f"{sent} stashed descriptors")
    finally:
        for one in keep:
            one.close()


def threads(event: Event, tries: Tries) -> None:
    """Threads of one process."""
    stop = threading.Event()
    threading.stack_size(STACK_BYTES)
    started: list[threading.Thread] = []
    try:
        while len(started) < event["threads"]:
            thread = threading.Thread(target=stop.wait, daemon=True)
            thread.start()
            started.append(thread)
        tries.got(f"{len(started)} threads")
    finally:
        stop.set()
        for thread in started:
            with contextlib.suppress(RuntimeError):
                thread.join()


def handler(event: Event, _context: object) -> "dict[str, Any]":
    """Takes what there is."""
    return run({"open files": open_files, "stashed": stashed, "threads": threads}, event)
