"""Which file is which shard: the node's manifest against each file's own record.

The manifest names every shard that ever lived here, with its identity and how often it was opened. A file that is
missing, foreign or older than the manifest says is an error with a name; it is never silently replaced by an empty one.
"""

import contextlib
import fcntl
import json
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

import apsw

from services.queue.database import Database

QUICK_CHECK_MAX_BYTES = 256 << 20
IDENTITY_BYTES = 16
_FORMAT = 1


class ShardDamaged(Exception):
    """The shard's file failed verification; the message says how."""


@dataclass(slots=True)
class ShardRecord:
    """What the manifest knows of one shard; `closed` is the stamp of its last clean end, empty while it is open."""

    identity: str
    generation: int
    created: bool = False
    closed: str = ""


class Manifest:
    """The node's list of its shards, in one small file that is replaced whole."""

    def __init__(self, directory: Path) -> None:
        """Read it. ShardDamaged: it is there but unreadable."""
        self._path = directory / "manifest.json"
        # Held while a shard is opened or closed: the shards' threads share the manifest.
        self.lock = threading.Lock()
        self.records: dict[int, ShardRecord] = {}
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            return
        try:
            stored = json.loads(text)
            if stored["format"] != _FORMAT:
                raise ValueError(f"format {stored['format']}")
            self.records = {int(k): ShardRecord(**v) for k, v in stored["shards"].items()}
        except (ValueError, KeyError, TypeError) as e:
            raise ShardDamaged(f"{self._path} is unreadable ({e}): restore it from a backup") from e

    def save(self) -> None:
        """Replace the file, durably."""
        shards = {str(k): asdict(v) for k, v in sorted(self.records.items())}
        fresh = self._path.with_suffix(".new")
        with open(fresh, "w") as file:
            json.dump({"format": _FORMAT, "shards": shards}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        sync_directory(self._path.parent)


def sync_directory(path: Path) -> None:
    """Make names in this folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Make this folder, and its name and those of the folders above it durable. OSError: it cannot be made.

    A manifest in a folder whose own name a power cut takes away is as good as none. Those above are synced although
    they were there: whoever made them just before may not have done it.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    for parent in path.absolute().parents:
        # Not ours to open: then it was not made for us.
        with contextlib.suppress(OSError):
            sync_directory(parent)


def lock(path: Path) -> int:
    """An exclusive lock for as long as the descriptor is open. ShardDamaged: another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise ShardDamaged(f"{path.name} is locked: another process serves this shard") from None
    return descriptor


def shard_path(directory: Path, shard_id: int) -> Path:
    """The shard's file."""
    return directory / f"shard-{shard_id:04d}.db"


def open_verified(directory: Path, shard_id: int, manifest: Manifest, cache_bytes: int) -> Database:
    """The shard's database, created when the manifest never heard of it. ShardDamaged: its file is not what it must be.

    The order of writes makes every crash in between recoverable: the manifest announces a file before it exists, and
    the file's generation is raised before the manifest's.
    """
    path = shard_path(directory, shard_id)
    record = manifest.records.get(shard_id)
    if record is None or not record.created:
        if record is None and path.exists():
            raise ShardDamaged(f"{path.name} is there but the manifest does not name it: a foreign file")
        database = _create(path, shard_id, manifest, cache_bytes)
    else:
        if not path.exists():
            raise ShardDamaged(f"{path.name} is missing; the manifest says identity {record.identity}: restore it")
        database = _open_known(path, shard_id, record, cache_bytes)
    record = manifest.records[shard_id]
    try:
        database.begin()
        database.set_meta("generation", record.generation + 1)
        database.set_meta("closed", "")
        database.commit()
    except apsw.Error as e:
        database.close()
        raise ShardDamaged(f"{path.name} cannot be written: {e}") from e
    record.generation += 1
    record.closed = ""
    manifest.save()
    # What a crash left in the WAL goes into the file before anything is built on it.
    database.checkpoint(truncate=True)
    return database


def close_verified(database: Database, shard_id: int, manifest: Manifest) -> None:
    """Close cleanly: file and manifest get the same stamp, so that an older copy of the file is told apart."""
    stamp = os.urandom(8).hex()
    database.begin()
    database.set_meta("closed", stamp)
    database.commit()
    database.checkpoint(truncate=True)
    database.close()
    manifest.records[shard_id].closed = stamp
    manifest.save()


def _create(path: Path, shard_id: int, manifest: Manifest, cache_bytes: int) -> Database:
    record = manifest.records[shard_id] = ShardRecord(os.urandom(IDENTITY_BYTES).hex(), 0)
    manifest.save()
    for suffix in ("", "-wal", "-shm"):
        # What a crash left before the shard was announced as made: nothing in it was ever accepted.
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    database = Database(path, cache_bytes=cache_bytes, create=True)
    database.begin()
    database.set_meta("identity", record.identity)
    database.set_meta("shard_id", shard_id)
    database.set_meta("generation", 0)
    database.commit()
    database.checkpoint()
    sync_directory(path.parent)
    record.created = True
    manifest.save()
    return database


def _open_known(path: Path, shard_id: int, record: ShardRecord, cache_bytes: int) -> Database:
    try:
        database = Database(path, cache_bytes=cache_bytes)
    except (apsw.Error, ValueError) as e:
        raise ShardDamaged(f"{path.name} does not open: {e}") from e
    try:
        reason = _find_fault(database, shard_id, record)
    except apsw.Error as e:
        reason = str(e)
    if reason is not None:
        database.close()
        raise ShardDamaged(f"{path.name}: {reason}")
    return database


def _find_fault(database: Database, shard_id: int, record: ShardRecord) -> str | None:
    if database.get_meta("identity") != record.identity or database.get_meta("shard_id") != shard_id:
        return f"a foreign file; the manifest says identity {record.identity}"
    generation = int(database.get_meta("generation") or 0)
    if generation < record.generation:
        return f"an old copy: generation {generation}, the manifest says {record.generation}"
    if record.closed and generation == record.generation and database.get_meta("closed") != record.closed:
        return "an old copy: it is not the file that was closed last"
    record.generation = generation
    if not record.closed and database.file_bytes() <= QUICK_CHECK_MAX_BYTES:
        found = database.quick_check()
        if found != "ok":
            return f"corrupt: {found}"
    return None
