"""Attack 14: leave a process behind that outlives the sandbox."""

import os
import signal
import time
from typing import Any

from .lib import Event, linger
from .mark import MARK

WAIT_SECONDS = 30


def _daemon(closes: bool) -> int:
    """A process in a session of its own, out of reach of its parent; `closes`: with nothing open."""
    read_fd, write_fd = os.pipe()
    first = os.fork()
    if first == 0:
        os.setsid()
        second = os.fork()
        if second == 0:
            os.close(write_fd)
            if closes:
                os.closerange(0, 64)
            linger()
        os.write(write_fd, str(second).encode())
        os._exit(0)
    os.close(write_fd)
    with open(read_fd, "rb") as pipe:
        told = pipe.read()
    os.waitpid(first, 0)
    return int(told)


def handler(event: Event, _context: object) -> Any:
    """`do`: begin (leave some behind), crash or hang after that, look (who else is of this user?)."""
    if event["do"] == "look":
        return {"pids": _others(event), "tmp": sorted(os.listdir(os.environ.get("TMPDIR", "/tmp")))}
    if event["do"] == "count":
        return {"alive": _alive(event["daemons"])}
    pids = [_daemon(closes=True), _daemon(closes=False), _daemon(closes=True)]
    with open(os.path.join(os.environ.get("TMPDIR", "/tmp"), "ef-attack-left"), "w") as file:
        file.write("left")
    if event["do"] == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if event["do"] == "hang":
        time.sleep(WAIT_SECONDS)
    return {"daemons": pids}


def _alive(pids: "list[int]") -> int:
    return sum(os.path.exists(f"/proc/{pid}") for pid in pids)


def _others(event: Event) -> "list[int]":
    """Processes of this user that are not this sandbox's own."""
    known = {os.getpid(), os.getppid(), 1}
    found = []
    try:
        names = os.listdir("/proc")
    except OSError:
        return []
    for name in names:
        if name.isdigit() and int(name) not in known:
            try:
                with open(f"/proc/{name}/comm") as file:
                    if MARK in file.read():
                        found.append(int(name))
            except OSError:
                continue
    return found
