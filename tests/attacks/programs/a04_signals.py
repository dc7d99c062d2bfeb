"""Attack 4: signal siblings, the parent and the host, and change how they are scheduled and limited.

Signal 0 asks the kernel the same question as SIGKILL; SIGKILL itself goes to the harness's own victim only.
"""

import os
import resource
import signal
import struct
from ctypes import create_string_buffer
from typing import Any

from . import system
from .lib import Event, Tries, foreign_pids, has_own_pids, run, works

MAX_PID = 32_768
_SI_QUEUE = -1


def named(event: Event, tries: Tries) -> None:
    """The host, the parent, a neighbour."""
    for what, pid in event["pids"].items():
        tries.take(f"{what} {pid}", works, os.kill, pid, 0)


def kill(event: Event, tries: Tries) -> None:
    """SIGKILL for a process of the host's user."""
    tries.take("victim", works, os.kill, event["pids"]["victim"], signal.SIGKILL)


def scanned(event: Event, tries: Tries) -> None:
    """Every pid that there can be, but the own ones."""
    if event.get("only_named_pids"):
        return named(event, tries)
    if has_own_pids(event):
        return tries.refuse("every pid there is belongs to this sandbox")
    for pid in range(1, MAX_PID):
        if pid != os.getpid():
            tries.take(f"pid {pid}", works, os.kill, pid, 0)


def queued(event: Event, tries: Tries) -> None:
    """Other ways to send one: rt_sigqueueinfo, tgkill, pidfd_send_signal."""
    info = create_string_buffer(struct.pack("iii", 0, 0, _SI_QUEUE) + bytes(116))
    for what, pid in event["pids"].items():
        tries.take(f"{what} queued", system.succeeds, "rt_sigqueueinfo", pid, 0, info)
        tries.take(f"{what} thread", system.succeeds, "tgkill", pid, pid, 0)
        tries.take(f"{what} pidfd", _by_pidfd, pid)


def _by_pidfd(pid: int) -> bool:
    fd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(fd, 0)
    finally:
        os.close(fd)
    return True


def bounds(event: Event, tries: Tries) -> None:
    """Their resource limits, priority and cores; each is set to what it is."""
    for pid in foreign_pids(event):
        tries.take(f"limits of {pid}", resource.prlimit, pid, resource.RLIMIT_CPU)
        nice = _nice_of(pid)
        tries.take(f"priority of {pid}", works, os.setpriority, os.PRIO_PROCESS, pid, nice)
        tries.take(f"cores of {pid}", _set_cores, pid)


def _nice_of(pid: int) -> int:
    try:
        return os.getpriority(os.PRIO_PROCESS, pid)
    except OSError:
        return 0


def _set_cores(pid: int) -> bool:
    os.sched_setaffinity(pid, os.sched_getaffinity(pid))
    return True


def handler(event: Event, _context: object) -> "dict[str, Any]":
    """Signals whoever can be signalled."""
    return run({"named": named, "scanned": scanned, "queued": queued, "bounds": bounds, "kill": kill}, event)
