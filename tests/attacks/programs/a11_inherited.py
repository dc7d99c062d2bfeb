"""Attack 11: descriptors that were open before the handler's own code ran."""

import errno
import fcntl
import os
import stat
from typing import Any

from .lib import Event, Tries, canaries_in, run

MAX_DESCRIPTOR = 65_536
# Standard input, output and errors, and the channel to the host.
EXPECTED = {0: "nothing", 1: "pipe", 2: "pipe", 3: "socket"}


def _open_now() -> "list[int]":
    found = []
    for fd in range(MAX_DESCRIPTOR):
        try:
            fcntl.fcntl(fd, fcntl.F_GETFD)
        except OSError as e:
            if e.errno != errno.EBADF:
                found.append(fd)
        else:
            found.append(fd)
    return found


_at_import = _open_now()


def _kind_of(fd: int) -> str:
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        return "socket"
    if stat.S_ISFIFO(mode):
        return "pipe"
    if stat.S_ISCHR(mode) and os.fstat(fd).st_rdev == os.stat("/dev/null").st_rdev:
        return "nothing"
    return f"mode {mode:o}"


def further(event: Event, tries: Tries) -> None:
    """More than the four."""
    for fd in _at_import:
        if fd not in EXPECTED:
            tries.got(f"descriptor {fd} is open: {_kind_of(fd)} {_content(fd)}")


def _content(fd: int) -> str:
    try:
        return canaries_in(os.pread(fd, 4_096, 0))
    except OSError:
        return ""


def other_kind(event: Event, tries: Tries) -> None:
    """One of the four is not what it must be, or can do more."""
    for fd, kind in EXPECTED.items():
        if fd not in _at_import:
            continue
        if _kind_of(fd) != kind:
            tries.got(f"descriptor {fd} is {_kind_of(fd)}, not {kind}")
        mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        if (fd == 0 and mode != os.O_RDONLY) or (fd in (1, 2) and mode != os.O_WRONLY):
            tries.got(f"descriptor {fd} is open for more than its use")


def handler(event: Event, _context: object) -> "dict[str, Any]":
    """Looks at what is open."""
    return run({"further descriptors": further, "of another kind": other_kind}, event)
