"""The recorder's other half: compiling it, reading its log, and the marks that a client appends to the same log."""

import enum
import json
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("recorder.c")
# Of a disk with a write cache that has to be emptied; in memory a sync is over before an early answer can be seen.
SYNC_DELAY_US = 1_500
CREATED, TRUNCATED, DIRECTORY = 1, 2, 4
# `struct header` of recorder.c.
_HEADER = struct.Struct("=IIQqqII")


class NoCompiler(Exception):
    """There is no C compiler here; the message says what to install."""


class Kind(enum.IntEnum):
    """What a record says; the numbers of recorder.c."""

    OPEN = 1
    WRITE = 2
    TRUNCATE = 3
    SYNC = 4
    RENAME = 5
    UNLINK = 6
    MKDIR = 7
    EXTEND = 8
    MARK = 9
    UNSUPPORTED = 10


@dataclass(frozen=True, slots=True)
class Record:
    """One call that succeeded, or one mark. `value`: new size in bytes, or the flags of an open."""

    kind: Kind
    inode: int
    offset: int
    value: int
    name: str
    data: bytes


def find_compiler() -> str:
    """Path of a C compiler. NoCompiler."""
    for name in ("cc", "gcc", "clang"):
        found = shutil.which(name)
        if found is not None:
            return found
    raise NoCompiler("no C compiler (cc, gcc or clang) here: install one, such as Debian's gcc and libc6-dev")


def compile_recorder(folder: Path) -> Path:
    """The preload library, compiled into this folder. NoCompiler: there is none, or it cannot compile."""
    library = folder / "recorder.so"
    flags = ["-shared", "-fPIC", "-O2", "-Wall", "-U_FORTIFY_SOURCE"]
    command = [find_compiler(), *flags, "-o", str(library), str(SOURCE), "-ldl", "-lpthread"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise NoCompiler(f"the C compiler cannot compile {SOURCE.name}:\n{done.stderr}")
    return library


def environment(library: Path, root: Path, log: Path, sync_delay_us: int = SYNC_DELAY_US) -> dict[str, str]:
    """Variables for a process whose writes below `root` are recorded."""
    return {
        "LD_PRELOAD": str(library),
        "POWER_LOSS_DIR": str(root),
        "POWER_LOSS_LOG": str(log),
        "POWER_LOSS_SYNC_DELAY_US": str(sync_delay_us),
    }


class Marks:
    """Appends what a client knows to the log.

    A mark stands behind every record that was there when the client learned it: an accept is marked after its answer
    was read, so that what the mark promises must be on the disk at any cut behind it.
    """

    def __init__(self, log: Path) -> None:
        self._descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def mark(self, *fields: Any) -> None:
        """Append one; JSON values."""
        data = json.dumps(fields).encode()
        record = _HEADER.pack(_HEADER.size + len(data), Kind.MARK, 0, 0, 0, 0, len(data)) + data
        if os.write(self._descriptor, record) != len(record):
            raise OSError("a mark was written in part: the log's volume is full")

    def close(self) -> None:
        """No more marks."""
        os.close(self._descriptor)


def read(log: Path) -> list[Record]:
    """The records in their order. ValueError: the log ends in the middle of one, or a call could not be described."""
    return list(_parse(log.read_bytes()))


def _parse(stored: bytes) -> Iterator[Record]:
    at = 0
    while at < len(stored):
        if len(stored) - at < _HEADER.size:
            raise ValueError("the log ends in the middle of a record")
        size, kind, inode, offset, value, name_bytes, data_bytes = _HEADER.unpack_from(stored, at)
        name_at = at + _HEADER.size
        data_at = name_at + name_bytes
        if size != _HEADER.size + name_bytes + data_bytes or at + size > len(stored):
            raise ValueError("the log ends in the middle of a record")
        name = stored[name_at:data_at].rstrip(b"\0").decode()
        if kind == Kind.UNSUPPORTED:
            raise ValueError(f"the recorder cannot describe a call that was made: {name}")
        yield Record(Kind(kind), inode, offset, value, name, stored[data_at : data_at + data_bytes])
        at += size
