"""Ends everything in a cgroup: for a sandbox that is no child of anybody who could reap what it leaves."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

MAX_ROUNDS = 2_000
# Processes that are held at once, each by a descriptor.
HELD_AT_ONCE = 64
_ROUND_SECONDS = 0.0005


def pids_in(entrance: str) -> list[int]:
    """Processes in the group that is entered by this file, dead ones left out; empty as well: the group is gone."""
    try:
        return [int(text) for text in Path(entrance).read_text().split()]
    except OSError:
        return []


def send(entrance: str, signum: int) -> None:
    """Signal all that are in it now."""
    pids = pids_in(entrance)
    for at in range(0, len(pids), HELD_AT_ONCE):
        held = {pid: pid_fd for pid in pids[at : at + HELD_AT_ONCE] if (pid_fd := _hold(pid)) >= 0}
        # Looked up again now that they are held: a number may have become another's before.
        still = set(pids_in(entrance))
        for pid, pid_fd in held.items():
            try:
                if pid in still:
                    signal.pidfd_send_signal(pid_fd, signum)
            except OSError:
                continue
            finally:
                os.close(pid_fd)


def end(entrances: Sequence[str]) -> bool:
    """Kill until nothing is left; False: some would not die within MAX_ROUNDS. To be called off the loop."""
    with _without_forks(entrances):
        for _ in range(MAX_ROUNDS):
            if not pids_in(entrances[0]):
                return True
            send(entrances[0], signal.SIGKILL)
            time.sleep(_ROUND_SECONDS)
    return False


def _hold(pid: int) -> int:
    """A descriptor of the process; -1: it is gone."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return -1


@contextlib.contextmanager
def _without_forks(entrances: Sequence[str]) -> Iterator[None]:
    """What forks faster than it is killed forks no more; the limits that stood stand again afterwards."""
    limits = [path for entrance in entrances if (path := Path(entrance).with_name("pids.max")).exists()]
    before = [path.read_text() for path in limits]
    for path in limits:
        path.write_text("0")
    try:
        yield
    finally:
        for path, text in zip(limits, before, strict=True):
            path.write_text(text)
