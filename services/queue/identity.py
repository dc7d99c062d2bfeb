"""Which file is which shard: the node's manifest against each file's own record.

The manifest names every shard that ever lived here, with its identity and how often it was opened. A file that is
missing, foreign or older than the manifest says is an error with a name; it is never silently replaced by an empty one.
"""

import contextlib
import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import apsw

from services.queue import install, losses, migrations, wal
from services.queue.database import PAGE_BYTES, Database
from services.queue.paths import shard_files, shard_path, sync_directory

__all__ = ["Manifest", "ShardDamaged", "ShardRecord", "close_verified", "lock", "open_verified", "shard_path"]
# After a crash files up to this size are checked whole before they are served; after a clean end, up to the smaller
# one. All of a node's shards share it: what a start takes is bounded, however many they are. A larger file is checked
# when it shows damage, and by `evenflow shards check`.
QUICK_CHECK_MAX_BYTES = 256 << 20
CLEAN_CHECK_MAX_BYTES = 32 << 20
IDENTITY_BYTES = 16
_FORMAT = 1
log = logging.getLogger(__name__)


class ShardDamaged(Exception):
    """The shard's file failed verification; the message says how."""


@dataclass(slots=True)
class ShardRecord:
    """What the manifest knows of one shard; `closed` is the stamp of its last clean end, empty while it is open."""

    identity: str
    generation: int
    created: bool = False
    closed: str = ""
    # Where the file is in a move, by what it was noted, and the other node: see moves.py.
    place: str = ""
    noted_epoch: int = 0
    peer: str = ""
    # Counted up in the file first, then here, while the shard is open: a file with a lower one has gone back.
    stamp: int = 0
    # Its numbers when they were noted last, see losses.py.
    known: dict[str, int] = field(default_factory=dict)


class Manifest:
    """The node's list of its shards, in one small file that is replaced whole."""

    def __init__(self, directory: Path) -> None:
        """Read it. ShardDamaged: it is there but unreadable."""
        self._path = directory / "manifest.json"
        # Held while it is changed and saved: the shards' threads share it.
        self.lock = threading.Lock()
        self.saved_at = 0.0
        # It was lost, and is being made anew from repaired shards: what it does not name may be missing, not new.
        self.is_rebuilt = False
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
            self.is_rebuilt = bool(stored.get("rebuilt", False))
        except (ValueError, KeyError, TypeError) as e:
            advice = "restore it, or move it away and repair each shard with --accept-old-copy"
            raise ShardDamaged(f"{self._path} is unreadable ({e}): {advice}") from e

    def change(self, shard_id: int, change: Callable[[ShardRecord], None]) -> None:
        """Change a record and save. OSError: nothing was changed."""
        fresh = replace(self.records[shard_id])
        change(fresh)
        self.put(shard_id, fresh)

    def put(self, shard_id: int, record: ShardRecord) -> None:
        """Set a record and save; safe from any thread. OSError: nothing was changed."""
        with self.lock:
            before = self.records.get(shard_id)
            self.records[shard_id] = record
            try:
                self.save()
            except OSError:
                if before is None:
                    del self.records[shard_id]
                else:
                    self.records[shard_id] = before
                raise

    def save(self) -> None:
        """Replace the file, durably."""
        shards = {str(k): asdict(v) for k, v in sorted(self.records.items())}
        fresh = self._path.with_suffix(".new")
        with open(fresh, "w") as file:
            rebuilt = {"rebuilt": True} if self.is_rebuilt else {}
            json.dump({"format": _FORMAT, **rebuilt, "shards": shards}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        sync_directory(self._path.parent)
        self.saved_at = time.monotonic()


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
        raise ShardDamaged(f"{path.name} is locked: another process serves or repairs this shard") from None
    return descriptor


def open_verified(directory: Path, shard_id: int, manifest: Manifest, cache_bytes: int, sharers: int = 1) -> Database:
    """The shard's database, created when the manifest never heard of it. ShardDamaged: its file is not what it must be.

    sharers: shards that this node opens, at once in threads of their own: the manifest's lock is taken here, and not
    held while a file is read.

    The order of writes makes every crash in between recoverable: the manifest announces a file before it exists, and
    the file's generation is raised before the manifest's.
    """
    path = shard_path(directory, shard_id)
    with manifest.lock:
        _adopt(directory, shard_id, manifest)
        record = manifest.records.get(shard_id)
        database = None
        if record is None or not record.created:
            database = _create_new(path, shard_id, manifest, cache_bytes)
            record = manifest.records[shard_id]
    if database is None:
        try:
            if not path.exists():
                raise ShardDamaged(f"{path.name} is missing; the manifest says identity {record.identity}: restore it")
            _require_pages(path)
            database = _open_known(path, shard_id, record, cache_bytes, sharers)
        except ShardDamaged as e:
            raise ShardDamaged(f"{e}; {losses.describe(record.known)}") from e
    try:
        database.begin()
        database.set_meta("generation", record.generation + 1)
        database.set_meta("closed", "")
        database.commit()
    except apsw.Error as e:
        database.close()
        raise ShardDamaged(f"{path.name} cannot be written: {e}") from e
    with manifest.lock:
        record.generation += 1
        record.closed = ""
        manifest.save()
    # What a crash left in the WAL goes into the file before anything is built on it.
    database.checkpoint(truncate=True)
    return database


def check_pages(directory: Path, shard_id: int, record: ShardRecord, cache_bytes: int) -> None:
    """Look at every page, whatever the file's size: it showed damage. ShardDamaged."""
    path = shard_path(directory, shard_id)
    if not path.exists():
        # To be told as such by whoever opens it.
        return
    try:
        _require_pages(path)
        database = Database(path, cache_bytes=cache_bytes)
        try:
            found = database.quick_check()
        finally:
            database.close()
    except (apsw.Error, ShardDamaged) as e:
        found = str(e)
    if found != "ok":
        raise ShardDamaged(f"{path.name}: corrupt: {found}; {losses.describe(record.known)}")


def note_numbers(database: Database, record: ShardRecord, numbers: losses.HasNumbers, at_ms: int) -> None:
    """Stamp the file, then the record; the caller saves the manifest some time after. apsw.Error, DiskFull."""
    database.begin()
    try:
        database.set_meta("stamp", record.stamp + 1)
        database.commit()
    except BaseException:
        database.rollback()
        raise
    record.stamp += 1
    record.known = losses.known_from(numbers, at_ms)


def close_verified(database: Database, shard_id: int, manifest: Manifest) -> None:
    """Close cleanly: file and manifest get the same stamp, so that an older copy of the file is told apart.

    DiskFull, apsw.Error: it is closed as after a crash, and nothing is lost.
    """
    stamp = os.urandom(8).hex()
    try:
        database.begin()
        database.set_meta("closed", stamp)
        database.commit()
        database.checkpoint(truncate=True)
    finally:
        database.close()
    manifest.records[shard_id].closed = stamp
    manifest.save()


def _require_pages(path: Path) -> None:
    """ShardDamaged: nothing is left; SQLite would make an empty database of it."""
    if (size := path.stat().st_size) < PAGE_BYTES:
        raise ShardDamaged(f"{path.name} was cut to {size} bytes")


def _adopt(directory: Path, shard_id: int, manifest: Manifest) -> None:
    """Finish a repair or restore: its file goes in, its record into the manifest."""
    try:
        found = install.finish_files(directory, shard_id)
        if found is not None:
            manifest.is_rebuilt = manifest.is_rebuilt or not manifest.records
            manifest.records[shard_id] = ShardRecord(**found)  # type: ignore[arg-type]  # as asdict wrote it
            manifest.save()
            install.done(directory, shard_id)
    except (ValueError, TypeError) as e:
        raise ShardDamaged(str(e)) from e


def _create_new(path: Path, shard_id: int, manifest: Manifest, cache_bytes: int) -> Database:
    """A file that the manifest never heard of, or only heard of. ShardDamaged: what is here speaks against it."""
    is_named = shard_id in manifest.records
    if not is_named and path.exists():
        raise ShardDamaged(f"{path.name} is there but the manifest does not name it: a foreign file")
    if not manifest.records and (others := shard_files(path.parent)):
        names = ", ".join(other.name for other in others[:3])
        raise ShardDamaged(f"manifest.json is missing while {names} are here: restore it, or repair each shard")
    if not is_named and manifest.is_rebuilt:
        raise ShardDamaged(f"{path.name} is missing, or new: the manifest was lost and cannot tell; repair the shard")
    return _create(path, shard_id, manifest, cache_bytes)


def _create(path: Path, shard_id: int, manifest: Manifest, cache_bytes: int) -> Database:
    record = manifest.records[shard_id] = ShardRecord(os.urandom(IDENTITY_BYTES).hex(), 0)
    manifest.save()
    for suffix in install.SUFFIXES:
        # What a crash left before the shard was announced as made: nothing in it was ever accepted.
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    try:
        migrations.create(path)
    except ValueError as e:
        raise ShardDamaged(f"{path.name} cannot be made: {e}") from e
    database = Database(path, cache_bytes=cache_bytes)
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


def _open_known(path: Path, shard_id: int, record: ShardRecord, cache_bytes: int, sharers: int) -> Database:
    """The file that the record names, with the current schema. ShardDamaged."""
    database: Database | None = None
    try:
        database = Database(path, cache_bytes=cache_bytes)
        reason = _find_fault(database, shard_id, record, sharers)
        if reason is not None:
            raise ShardDamaged(f"{path.name}: {reason}")
        # Only a file that is ours and whole is migrated.
        if migrations.version_of(database) < migrations.CURRENT_VERSION:
            migrations.upgrade(database)
            database = Database(path, cache_bytes=cache_bytes)
            is_small = database.file_bytes() <= QUICK_CHECK_MAX_BYTES // sharers
            if is_small and (found := database.quick_check()) != "ok":
                raise ShardDamaged(f"{path.name}: corrupt after its migration: {found}")
    except (apsw.Error, ValueError, OSError) as e:
        if database is not None:
            database.close()
        raise ShardDamaged(f"{path.name} does not open: {e}") from e
    except ShardDamaged:
        if database is not None:
            database.close()
        raise
    return database


def _find_fault(database: Database, shard_id: int, record: ShardRecord, sharers: int) -> str | None:
    frames = database.wal_frames()
    damage = wal.find_damage(Path(f"{database.path}-wal"), frames)
    if damage is not None:
        return damage
    if not frames and (excess := database.path.stat().st_size % PAGE_BYTES):
        # With a WAL it may be a page that a checkpoint was adding when the power went.
        return f"cut in the middle of a page, {excess} bytes into it"
    if database.get_meta("identity") != record.identity or database.get_meta("shard_id") != shard_id:
        return f"a foreign file; the manifest says identity {record.identity}"
    generation = int(database.get_meta("generation") or 0)
    if generation < record.generation:
        return f"an old copy: generation {generation}, the manifest says {record.generation}"
    if record.closed and generation == record.generation and database.get_meta("closed") != record.closed:
        return "an old copy: it is not the file that was closed last"
    stamp = int(database.get_meta("stamp") or 0)
    if stamp < record.stamp:
        return f"an old copy, or its WAL was lost: stamp {stamp}, the manifest says {record.stamp}"
    if generation > record.generation + 1:
        log.warning("manifest.json is older than the file", extra={"shard_id": shard_id, "generation": generation})
    record.generation, record.stamp = generation, stamp
    bound = CLEAN_CHECK_MAX_BYTES if record.closed else QUICK_CHECK_MAX_BYTES
    if database.file_bytes() <= bound // sharers:
        found = database.quick_check()
        if found != "ok":
            return f"corrupt: {found}"
    return None
