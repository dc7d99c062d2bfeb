"""Whether the files of an open shard are still those that were opened."""

import os
from dataclasses import dataclass
from pathlib import Path

from services.queue.database import PAGE_BYTES
from services.queue.wal import FRAME_HEADER_BYTES, HEADER_BYTES


@dataclass(frozen=True, slots=True)
class Fault:
    """What happened to a shard's files; whether the open connection still has all that was in them."""

    what: str
    is_reachable: bool


class FileWatch:
    """A shard's file and its WAL as they were when the shard was opened."""

    def __init__(self, path: Path) -> None:
        """OSError: they are gone already."""
        self._path = path
        self._wal_path = Path(f"{path}-wal")
        found = path.stat()
        self._inode, self._bytes = found.st_ino, found.st_size
        self._wal_inode = self._wal_path.stat().st_ino

    def find_fault(self, wal_pages: int) -> Fault | None:
        """What happened to them, or None; `wal_pages`: frames committed into the WAL since it was copied last."""
        name = self._path.name
        found, wal = _stat(self._path), _stat(self._wal_path)
        if found is None or found.st_ino != self._inode:
            return Fault(f"{name} was removed or replaced", is_reachable=True)
        # Pages are added and used again, never given back.
        if found.st_size < self._bytes:
            return Fault(f"{name} was cut from {self._bytes} to {found.st_size} bytes", is_reachable=False)
        self._bytes = found.st_size
        if wal is None or wal.st_ino != self._wal_inode:
            return Fault(f"{name}-wal was removed or replaced", is_reachable=True)
        least = HEADER_BYTES + wal_pages * (FRAME_HEADER_BYTES + PAGE_BYTES) if wal_pages else 0
        if wal.st_size < least:
            return Fault(f"{name}-wal was cut from {least} to {wal.st_size} bytes", is_reachable=False)
        return None


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None
