"""The file of a shard on its way to another node: read in chunks at the source, written and verified at the target.

Everything here blocks on the disk and is called on threads, never on the loop. A call may be left behind by a task that
was cancelled: each file has a lock, so that no descriptor is closed, and given to another file, under its user.
"""

import hashlib
import io
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import apsw

from services.queue.identity import QUICK_CHECK_MAX_BYTES, ShardRecord, shard_path
from services.queue.paths import sync_directory

CHUNK_BYTES = 1 << 20
# What is left free on the volume beside a copy.
SPARE_BYTES = 64 << 20
SHA256_BYTES = 32
_SIDE_FILES = ("-wal", "-shm")


class CopyRefused(Exception):
    """What came is not the file that was promised, or there is no room for it; the message says how."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What the source says of the file that it offers."""

    size_bytes: int
    identity: str
    generation: int
    closed_stamp: str


def incoming_path(directory: Path, shard_id: int) -> Path:
    """Where the copy of a shard that moves here stands until it is the shard's home."""
    return directory / f"shard-{shard_id:04d}.incoming"


class OfferedFile:
    """A closed shard's file, read from its begin to its end."""

    def __init__(self, directory: Path, shard_id: int, record: ShardRecord) -> None:
        """OSError: it does not open. CopyRefused: it was not closed cleanly."""
        path = shard_path(directory, shard_id)
        wal = Path(f"{path}-wal")
        if not record.closed or (wal.exists() and wal.stat().st_size):
            raise CopyRefused(f"{path.name} was not closed cleanly")
        self._lock = threading.Lock()
        self._file = io.FileIO(path, "rb")
        self._hash = hashlib.sha256()
        size_bytes = os.fstat(self._file.fileno()).st_size
        self.facts = FileFacts(size_bytes, record.identity, record.generation, record.closed)

    def read(self) -> bytes:
        """The next chunk; empty: that was all, or the file was closed."""
        with self._lock:
            chunk = b"" if self._file.closed else self._file.read(CHUNK_BYTES)
            self._hash.update(chunk)
        return chunk

    def digest(self) -> bytes:
        """SHA-256 of what was read."""
        return self._hash.digest()

    def close(self) -> None:
        """Close the file, once."""
        with self._lock:
            self._file.close()


class IncomingFile:
    """A copy that is being written; whole and durable once `finish` returned."""

    def __init__(self, directory: Path, shard_id: int, facts: FileFacts) -> None:
        """Begin anew. CopyRefused: there is no room for it."""
        self._directory = directory
        self._shard_id = shard_id
        self._facts = facts
        self._path = incoming_path(directory, shard_id)
        self._path.unlink(missing_ok=True)
        space = os.statvfs(directory)
        if space.f_bavail * space.f_frsize < facts.size_bytes + SPARE_BYTES:
            mib = (facts.size_bytes + SPARE_BYTES) >> 20
            raise CopyRefused(f"{mib:,} MiB must be free in {directory} for the copy: make room")
        self._lock = threading.Lock()
        self._file = io.FileIO(self._path, "wb", opener=_private)
        self._hash = hashlib.sha256()
        self.written_bytes = 0

    def write(self, chunk: bytes) -> None:
        """Add a chunk. CopyRefused: more came than was promised; OSError."""
        with self._lock:
            self._require_open()
            if self.written_bytes + len(chunk) > self._facts.size_bytes:
                raise CopyRefused(f"more than the promised {self._facts.size_bytes:,} bytes came")
            view = memoryview(chunk)
            while view:
                view = view[self._file.write(view) :]
            self._hash.update(chunk)
            self.written_bytes += len(chunk)

    def finish(self, sha256: bytes) -> None:
        """Make it durable and verify it. CopyRefused: it is not the file that was promised."""
        if self.written_bytes != self._facts.size_bytes:
            raise CopyRefused(f"{self.written_bytes:,} bytes came, {self._facts.size_bytes:,} were promised")
        if self._hash.digest() != sha256:
            raise CopyRefused("its SHA-256 is not the source's: it changed on its way")
        with self._lock:
            self._require_open()
            os.fsync(self._file.fileno())
        sync_directory(self._directory)
        reason = find_fault(self._path, self._shard_id, self._facts)
        if reason is not None:
            raise CopyRefused(reason)

    def close(self, *, keep: bool) -> None:
        """Close it, once; what is not kept is removed."""
        with self._lock:
            self._file.close()
        if not keep:
            self._path.unlink(missing_ok=True)

    def _require_open(self) -> None:
        if self._file.closed:
            raise CopyRefused("the fetch was given up")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def find_fault(path: Path, shard_id: int, facts: FileFacts) -> str | None:
    """Why this file is not the closed shard that it should be; None: it is. The file is not written to."""
    uri = f"file:{path}?mode=ro&immutable=1"
    try:
        connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
        try:
            meta = dict(connection.execute("SELECT key, value FROM meta"))
            if meta.get("identity") != facts.identity or meta.get("shard_id") != shard_id:
                return f"the copy is another shard's file: identity {meta.get('identity')}"
            if (meta.get("generation"), meta.get("closed")) != (facts.generation, facts.closed_stamp):
                return f"the copy is not the file that was closed: generation {meta.get('generation')}"
            if facts.size_bytes <= QUICK_CHECK_MAX_BYTES:
                ((found,),) = connection.execute("PRAGMA quick_check(1)")
                if found != "ok":
                    return f"the copy is corrupt: {found}"
        finally:
            connection.close()
    except apsw.Error as e:
        return f"the copy is no shard: {e}"
    return None


def put_in_place(directory: Path, shard_id: int) -> None:
    """Make the copy the shard's file; may be repeated. OSError."""
    path, copy = shard_path(directory, shard_id), incoming_path(directory, shard_id)
    if copy.exists():
        # What an earlier life of the shard here may have left must not be taken for this file's.
        _remove_side_files(path)
        copy.replace(path)
    sync_directory(directory)


def remove_file(directory: Path, shard_id: int) -> None:
    """Remove the shard's file and all that belongs to it; may be repeated. OSError."""
    path = shard_path(directory, shard_id)
    path.unlink(missing_ok=True)
    _remove_side_files(path)
    path.with_suffix(".reserve").unlink(missing_ok=True)
    remove_copy(directory, shard_id)


def remove_copy(directory: Path, shard_id: int) -> None:
    """Remove a copy that is not wanted any more; may be repeated. OSError."""
    incoming_path(directory, shard_id).unlink(missing_ok=True)
    sync_directory(directory)


def remove_unfinished(directory: Path, is_wanted: Callable[[int], bool]) -> None:
    """At start: remove copies that a crash left before they were noted."""
    for path in directory.glob("shard-*.incoming"):
        number = path.stem.removeprefix("shard-")
        if number.isdecimal() and not is_wanted(int(number)):
            path.unlink(missing_ok=True)


def _remove_side_files(path: Path) -> None:
    for suffix in _SIDE_FILES:
        Path(f"{path}{suffix}").unlink(missing_ok=True)
