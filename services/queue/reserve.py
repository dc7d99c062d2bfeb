"""A file whose space is given up when the volume is full, so that settles, which free space, can still be written."""

import os
from pathlib import Path


class Reserve:
    """The reserved space of one shard."""

    def __init__(self, shard_path: Path, reserve_bytes: int) -> None:
        self._path = shard_path.with_suffix(".reserve")
        self._bytes = reserve_bytes

    def keep(self) -> bool:
        """Reserve the space (again); False when the volume has less than twice of it left."""
        if self._bytes == 0 or (self._path.exists() and self._path.stat().st_size == self._bytes):
            return True
        if self.is_scarce():
            return False
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._bytes)
        except OSError:
            os.ftruncate(descriptor, 0)
            return False
        finally:
            os.close(descriptor)
        return True

    def is_scarce(self) -> bool:
        """Whether the volume has less left than twice what is reserved."""
        space = os.statvfs(self._path.parent)
        return space.f_bavail * space.f_frsize < 2 * self._bytes

    def give_up(self) -> None:
        """Free the space."""
        self._path.unlink(missing_ok=True)
