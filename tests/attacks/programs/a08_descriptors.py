"""Attack 8: use up descriptors and threads. Success is the number that the event names; more are not made."""

import array
import contextlib
import ctypes
import os
import socket
import threading
from typing import Any

from . import system
from .lib import Event, Tries, keep, run

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


def watches(event: Event, tries: Tries) -> None:
    """Every inotify instance that the host's user may have, if that is who this is."""
    with open("/proc/sys/fs/inotify/max_user_instances") as file:
        most = int(file.read())
    fds: list[int] = []
    try:
        while len(fds) < most:
            fd = system.libc.inotify_init1(0)
            if fd < 0:
                break
            fds.append(fd)
        error = ctypes.get_errno()
        # The limit of the user, not that of one process: nobody else of this user gets one now.
        if os.getuid() == event["host_uid"] and len(fds) > most // 2:
            tries.got(f"{len(fds)} of the host's {most}")
        else:
            tries.refuse(f"{len(fds)} of a user of its own, errno {error}")
    finally:
        for fd in fds:
            os.close(fd)


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
        keep(event)
        tries.got(f"{len(started)} threads")
    finally:
        stop.set()
        for thread in started:
            with contextlib.suppress(RuntimeError):
                thread.join()


def handler(event: Event, _context: object) -> "dict[str, Any]":
    """Takes what there is."""
    return run({"open files": open_files, "stashed": stashed, "inotify": watches, "threads": threads}, event)
