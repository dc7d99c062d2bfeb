"""The function that load runs invoke: it does what its event says. Standard library only: this file is the package.

A run leaves a record behind in the bucket BUCKET where the function has it; deployed elsewhere by hand, it leaves none.
"""

import os
import struct
import time

BUCKET = "load-records"
FOLDER_VARIABLE = "EVENFLOW_BUCKET_LOAD_RECORDS"
SUFFIX = ".runs"
# Run of the generator, number of the event, begin and end of the handler in nanoseconds since the epoch.
RECORD = struct.Struct("<QQQQ")
_own: list[int] = []


class Asked(Exception):
    """The event asked for a failure."""


def handler(event, context):  # type: ignore[no-untyped-def]
    """Burn, allocate, sleep, in this order, then answer with the event's number, or fail."""
    started_ns = time.time_ns()
    run, number = event.get("run", 0), event.get("number", 0)
    if burn_ms := event.get("burn_ms"):
        until = time.process_time() + burn_ms / 1000
        while time.process_time() < until:
            pass
    if allocate_mib := event.get("allocate_mib"):
        held = bytearray(allocate_mib << 20)
        # Every page is touched: memory that is only reserved costs nothing.
        held[::4096] = b"\x01" * len(held[::4096])
    if sleep_ms := event.get("sleep_ms"):
        time.sleep(sleep_ms / 1000)
    _note(run, number, started_ns)
    if event.get("fails"):
        raise Asked(f"event {number} was told to fail")
    return {"number": number}


def _note(run: int, number: int, started_ns: int) -> None:
    # One append, whole, into a file of this sandbox's own.
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return
    if not _own:
        path = os.path.join(folder, os.urandom(8).hex() + SUFFIX)
        _own.append(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644))
    os.write(_own[0], RECORD.pack(run, number, started_ns, time.time_ns()))
