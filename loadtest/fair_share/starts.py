"""What handlers leave behind: a record a start. Standard library only, since it is copied into the package."""

import os
import struct
import time

FOLDER_VARIABLE = "FAIR_SHARE_STARTS"
SUFFIX = ".starts"
# Phase and number of the event, and when its handler began, nanoseconds since the epoch.
RECORD = struct.Struct("<IIQ")
_own: list[int] = []


def note(phase: int, number: int) -> None:
    """The handler began: one append, whole, into a file of this sandbox's own."""
    now_ns = time.time_ns()
    if not _own:
        path = os.path.join(os.environ[FOLDER_VARIABLE], os.urandom(8).hex() + SUFFIX)
        _own.append(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644))
    os.write(_own[0], RECORD.pack(phase, number, now_ns))
