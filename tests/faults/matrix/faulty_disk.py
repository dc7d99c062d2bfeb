"""The other half of faulty_disk.c: compiling it, and telling it what is to fail."""

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
NODE = "queue-1"
# `struct control`: kind, calls until the one that fails, errno, delay of a sync; then what the library counts.
_ORDER = struct.Struct("=qqqq")
_COUNTS = struct.Struct("=qq")
_BYTES = _ORDER.size + _COUNTS.size
WRITE, SYNC, READ = 1, 2, 3
COMPILERS = ("cc", "gcc", "clang")


def lacking() -> str:
    """What this machine lacks to make a disk fail; "" when nothing."""
    return "" if any(map(shutil.which, COMPILERS)) else f"needs a C compiler ({', '.join(COMPILERS)})"


class FaultyDisk:
    """The disk of one queue node, whose shards stand in `shards`; `folder` takes the library and its control."""

    def __init__(self, folder: Path, shards: Path) -> None:
        """OSError, subprocess.CalledProcessError: the library cannot be made."""
        library, control = folder / "faulty_disk.so", folder / "faulty_disk.control"
        compiler = next(filter(None, map(shutil.which, COMPILERS)))
        flags = ["-shared", "-fPIC", "-O2", "-Wall", "-U_FORTIFY_SOURCE"]
        subprocess.run([compiler, *flags, "-o", str(library), str(SOURCE)], check=True, capture_output=True)
        control.write_bytes(bytes(_BYTES))
        with control.open("r+b") as file:
            self._control = mmap.mmap(file.fileno(), _BYTES)
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAULTY_DISK_NODE": NODE,
            "FAULTY_DISK_DIR": str(shards),
            "FAULTY_DISK_CONTROL": str(control),
        }

    def fail(self, kind: int, at_call: int, error: int) -> None:
        """Let the at_call-th call of this kind from now on fail, once, with this errno."""
        # The kind last: from then on calls are counted.
        self._control[8:24] = struct.pack("=qq", at_call, error)
        self._control[0:8] = struct.pack("=q", kind)

    def slow_down(self, sync_seconds: float) -> None:
        """Let every sync take longer by this; 0: no more."""
        self._control[24:32] = struct.pack("=q", int(sync_seconds * 1e6))

    @property
    def failed(self) -> int:
        """Calls that failed so far."""
        return int(_COUNTS.unpack_from(self._control, _ORDER.size)[0])

    @property
    def synced_again(self) -> int:
        """Syncs of a descriptor on which one had failed before."""
        return int(_COUNTS.unpack_from(self._control, _ORDER.size)[1])
