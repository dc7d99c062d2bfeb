"""One look at one path of a bucket: is there an object to announce? Blocking code, for threads.

The rule: an object is announced when nobody has its file open for writing. The kernel is asked (folder.has_writer).
Where it does not say, a file that was closed or moved in before our eyes is taken as it is, and any other when two
looks a settle time apart found the same size and modification time. A file that somebody writes is left alone: its
close is noticed.
"""

import enum
import os
import threading
from dataclasses import dataclass

from services.policy.s3_events import ObjectVersion
from services.poller.sources.folder import has_writer, is_unchanged, md5_of, open_object
from services.poller.sources.journal import Journal

# Larger files are read by threads of their own, so that they hold up nobody else.
LARGE_BYTES = 8 << 20


class Sight(enum.Enum):
    """What a look found."""

    READY = "ready"
    # Nothing to do: no object there, or announced before.
    NOTHING = "nothing"
    # Somebody writes; a notice comes when that ends.
    WRITTEN = "written"
    # Perhaps somebody writes; look again after the settle time.
    UNSETTLED = "unsettled"
    # Look again with `reads_large`.
    LARGE = "large"


@dataclass(frozen=True, slots=True)
class Look:
    """What was found; `version` is None for NOTHING. `arrived_ns` and `md5_hex` belong to READY."""

    sight: Sight
    version: ObjectVersion | None = None
    arrived_ns: int = 0
    md5_hex: str = ""


def look_at(
    root: str, path: str, journal: Journal, halt: threading.Event, *, is_whole: bool, seen: str, reads_large: bool
) -> Look:
    """Look at a path. `is_whole`, `seen`: as in a wish. Halted; JournalClosed; apsw.Error; OSError: unreadable."""
    file = open_object(root, path)
    if file is None:
        return Look(Sight.NOTHING)
    try:
        version = file.version
        if not journal.unknown([version]):
            return Look(Sight.NOTHING)
        is_written = has_writer(file.fd)
        if is_written:
            return Look(Sight.WRITTEN, version)
        if is_written is None and not is_whole and seen != version.identity:
            return Look(Sight.UNSETTLED, version)
        if version.size_bytes > LARGE_BYTES and not reads_large:
            return Look(Sight.LARGE, version)
        md5_hex = md5_of(file.fd, halt)
        if has_writer(file.fd):
            return Look(Sight.WRITTEN, version)
        if not is_unchanged(file):
            # Written and closed while it was read: its close is noticed, and without notices the next scan finds it.
            return Look(Sight.UNSETTLED, version)
        return Look(Sight.READY, version, file.arrived_ns, md5_hex)
    finally:
        os.close(file.fd)
