"""Finds and kills what dead sandboxes left behind.

The parent and every sandbox adopt orphans below them (child subreaper). So a child of the parent that is no sandbox
was started by a sandbox that is gone.
"""

import os
import signal
import time
from collections.abc import Container

MAX_ROUNDS = 2_000
MAX_DESCENDANTS = 10_000
_ROUND_SECONDS = 0.0005


def children_of(pid: int) -> "list[int]":
    """Pids of the direct children, dead ones that nobody reaped included."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(text) for text in file.read().split()]
    except FileNotFoundError:
        return [other for other in _all_pids() if _parent_of(other) == pid]


def descendants_of(pid: int) -> "list[int]":
    """Pids below it, nearest first; at most MAX_DESCENDANTS. They may be gone when this returns."""
    found = [pid]
    for one in found:
        if len(found) > MAX_DESCENDANTS:
            break
        found += children_of(one)
    return found[1 : MAX_DESCENDANTS + 1]


def kill_all(known: "Container[int]") -> bool:
    """Kill this process's children that are not known, and theirs, until there is none; False: some would not die."""
    me = os.getpid()
    for attempt in range(MAX_ROUNDS):
        left = [pid for pid in children_of(me) if pid not in known]
        if not left:
            return True
        # Stop first what may fork faster than it is killed.
        for signum in (signal.SIGSTOP, signal.SIGKILL):
            for pid in left:
                os.kill(pid, signum)
        for pid in left:
            os.waitpid(pid, os.WNOHANG)
        if attempt:
            time.sleep(_ROUND_SECONDS)
    return False


def _all_pids() -> "list[int]":
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _parent_of(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0
