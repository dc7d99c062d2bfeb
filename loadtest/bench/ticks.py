"""What a measured handler leaves behind: how often it ran and when the last run began, in a mapped file of its own.

The same lines run inside Evenflow's sandboxes and inside the peers' processes, so none pays more than another: two
8-byte stores a run, no system call. Standard library only, since it is copied into the function's package.
"""

import mmap
import os
import threading
import time

# Two numbers of the machine's own size: runs so far, and the start of the last one in nanoseconds since the epoch.
FILE_BYTES = 16
SUFFIX = ".tick"
FOLDER_VARIABLE = "BENCH_TICKS"
_own = threading.local()


def _open_cells() -> "memoryview[int]":
    # A random name: sandboxes in pid namespaces of their own share their pids.
    path = os.path.join(os.environ[FOLDER_VARIABLE], os.urandom(8).hex() + SUFFIX)
    with open(path, "w+b") as file:
        file.truncate(FILE_BYTES)
        return memoryview(mmap.mmap(file.fileno(), FILE_BYTES)).cast("Q")


def mark() -> None:
    """The handler began: keep the time, then count."""
    now_ns = time.time_ns()
    cells = getattr(_own, "cells", None)
    if cells is None:
        cells = _own.cells = _open_cells()
    cells[1] = now_ns
    cells[0] += 1
