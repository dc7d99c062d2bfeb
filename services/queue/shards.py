"""The shards of one node: which are ours by the shard map, opened, closed and looked up."""

import contextlib
import logging
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import apsw
from evenflow.queue.v1 import queue_pb2

from services.queue.database import DiskFull, require_safe_sqlite
from services.queue.domain import FreeLeases, Wake
from services.queue.file_watch import FileWatch
from services.queue.identity import (
    Manifest,
    ShardDamaged,
    check_pages,
    close_verified,
    lock,
    note_numbers,
    open_verified,
    shard_path,
)
from services.queue.losses import known_from
from services.queue.rescue import rescue
from services.queue.sessions import PollerSession, Sessions
from services.queue.settings import QueueSettings
from services.queue.shard import DrainReport, Shard, ShardStats
from services.queue.turns import Turns
from services.queue.writer import ShardWriter
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason

FILE_CHECK_SECONDS = 1.0
# How old the manifest's numbers of a busy shard may be, and with them how much an unnoticed roll-back may lose.
NOTE_SECONDS = 10.0
log = logging.getLogger(__name__)


class Shards:
    """Opens what the map gives this node and closes what it takes away."""

    def __init__(self, settings: QueueSettings, clock: Clock) -> None:
        """ValueError: this SQLite is unsafe, or the manifest is unreadable."""
        require_safe_sqlite()
        self.epoch = 0
        self.sessions = Sessions()
        self.on_drained: Callable[[int, DrainReport], None] = lambda _shard_id, _report: None
        self._settings = settings
        self._clock = clock
        self._directory = Path(settings.data_dir) / "queue" / settings.node_id
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._manifest = Manifest(self._directory)
        except ShardDamaged as e:
            raise ValueError(str(e)) from e
        self._writers: dict[int, ShardWriter] = {}
        self._locks: dict[int, int] = {}
        self._watches: dict[int, FileWatch] = {}
        self._checked: dict[int, float] = {}
        self._noted: dict[int, float] = {}
        self._random = random.SystemRandom()
        self._turns = Turns()

    def __iter__(self) -> Iterator[ShardWriter]:
        return iter([self._writers[shard_id] for shard_id in sorted(self._writers)])

    def get(self, shard_id: int) -> ShardWriter:
        """The shard. EvenflowError SHARD_UNAVAILABLE: not ours, or not served now."""
        writer = self._writers.get(shard_id)
        if writer is None:
            message = f"this node does not serve shard {shard_id}: look at the shard map"
            raise EvenflowError(Reason.ERROR_REASON_SHARD_UNAVAILABLE, message, metadata={"shard_id": str(shard_id)})
        refusal = writer.refusal()
        if refusal is not None:
            raise refusal
        return writer

    def check_epoch(self, epoch: int) -> None:
        """EvenflowError SHARD_MAP_STALE: the caller's map is older than ours."""
        if epoch < self.epoch:
            message = f"shard map epoch {epoch} is stale, this node has {self.epoch}: fetch it again"
            raise EvenflowError(Reason.ERROR_REASON_SHARD_MAP_STALE, message, metadata={"epoch": str(self.epoch)})

    async def apply(self, epoch: int, owner_node_ids: Iterable[str]) -> None:
        """Follow a newer map; one that is not newer changes nothing."""
        if epoch <= self.epoch:
            return
        self.epoch = epoch
        mine = {shard_id for shard_id, owner in enumerate(owner_node_ids) if owner == self._settings.node_id}
        for shard_id in sorted(set(self._writers) - mine):
            writer = self._writers.pop(shard_id)
            await writer.drain()
            await writer.stop()
        fresh = [self._open(shard_id) for shard_id in sorted(mine - set(self._writers))]
        for writer in fresh:
            await writer.opened.wait()

    async def drain(self) -> None:
        """Take no events and deliver no leases any more; settles go on."""
        for writer in self:
            await writer.drain()

    async def stop(self) -> None:
        """Close every shard."""
        for writer in list(self):
            await writer.stop()
        self._writers.clear()

    def wake(self, shard_ids: Iterable[int], wake: Wake) -> None:
        """Have these shards look again. Safe from any thread."""
        for shard_id in shard_ids:
            writer = self._writers.get(shard_id)
            if writer is not None:
                writer.submit(wake)

    def wake_all(self, wake: Wake) -> None:
        """Have every shard look again."""
        self.wake(list(self._writers), wake)

    def free(self, session: PollerSession) -> None:
        """End every lease of a poller that is gone."""
        for writer in self:
            writer.submit(FreeLeases(session))

    def free_undelivered(self, session: PollerSession, receipts: dict[int, list[tuple[int, int]]]) -> None:
        """Give back leases that never left this node: (sequence, fence) by shard."""
        for shard_id, undelivered in receipts.items():
            writer = self._writers.get(shard_id)
            if writer is not None:
                writer.submit(FreeLeases(session, undelivered))

    def numbers(self) -> list[tuple[int, ShardStats]]:
        """What every open shard counts. Safe from any thread."""
        return [(shard_id, w.stats) for shard_id, w in list(self._writers.items()) if w.stats is not None]

    def record(self, shard_id: int) -> tuple[str, int]:
        """Identity and generation by the manifest."""
        record = self._manifest.records.get(shard_id)
        return (record.identity, record.generation) if record is not None else ("", 0)

    def _open(self, shard_id: int, after: ShardWriter | None = None) -> ShardWriter:
        writer = ShardWriter(
            shard_id,
            open_shard=lambda is_suspect: self._open_shard(shard_id, is_suspect),
            close_shard=self._close_shard,
            check_file=self._check_file,
            release_file=lambda: self._unlock(shard_id),
            on_drained=self._note_drained,
            turns=self._turns,
        )
        self._writers[shard_id] = writer
        writer.start(after)
        return writer

    async def reopen(self, shard_id: int) -> ShardWriter:
        """Try a quarantined shard again, such as after a repair. EvenflowError SHARD_UNAVAILABLE, RESOURCE_CONFLICT."""
        old = self._writers.get(shard_id)
        if old is None:
            self.get(shard_id)
        elif old.state != queue_pb2.SHARD_STATE_QUARANTINED:
            message = f"shard {shard_id} is not quarantined: there is nothing to open again"
            raise EvenflowError(Reason.ERROR_REASON_RESOURCE_CONFLICT, message)
        else:
            fresh = self._open(shard_id, after=old)
            await fresh.opened.wait()
        return self._writers[shard_id]

    def scratch_path(self, shard_id: int) -> Path:
        """Where a copy of a shard may stand for a while; one that a killed node left is removed."""
        found = self._directory / f"check-{shard_id:04d}-{self._random.getrandbits(32):08x}.tmp"
        for old in self._directory.glob(f"check-{shard_id:04d}-*.tmp*"):
            old.unlink(missing_ok=True)
        return found

    def _note_drained(self, shard_id: int, report: DrainReport) -> None:
        self.on_drained(shard_id, report)

    def _open_shard(self, shard_id: int, is_suspect: bool) -> Shard:
        path = shard_path(self._directory, shard_id)
        if shard_id not in self._locks:
            self._locks[shard_id] = lock(path.with_suffix(".lock"))
        if is_suspect and shard_id in self._manifest.records:
            check_pages(self._directory, shard_id, self._manifest.records[shard_id], self._settings.cache_bytes)
        with self._manifest.lock:
            database = open_verified(self._directory, shard_id, self._manifest, self._settings.cache_bytes)
        self._watches[shard_id] = FileWatch(path)
        self._noted[shard_id] = time.monotonic()
        boot_number = self._random.getrandbits(31)
        return Shard(
            shard_id, database, self._settings, self._clock, self.sessions, boot_number, self.wake, self._turns
        )

    def _close_shard(self, shard: Shard, is_whole: bool) -> None:
        # Of a file that failed, too: when it does not open again its loss has a name.
        self._manifest.records[shard.shard_id].known = known_from(shard.stats(), self._clock.wall_ms())
        if is_whole:
            with self._manifest.lock:
                close_verified(shard.database, shard.shard_id, self._manifest)
            self._unlock(shard.shard_id)
            return
        shard.database.close()
        with self._manifest.lock:
            self._manifest.save()

    def _unlock(self, shard_id: int) -> None:
        """Let a repair have the file."""
        descriptor = self._locks.pop(shard_id, None)
        if descriptor is not None:
            os.close(descriptor)

    def _check_file(self, shard: Shard) -> None:
        """ShardDamaged: somebody removed, replaced or cut the file under us. apsw.Error: it cannot be written."""
        now = time.monotonic()
        if now - self._checked.get(shard.shard_id, 0.0) < FILE_CHECK_SECONDS:
            return
        self._checked[shard.shard_id] = now
        fault = self._watches[shard.shard_id].find_fault(shard.database.wal_pages)
        if fault is not None:
            saved = rescue(shard.database, self._directory, shard.shard_id) if fault.is_reachable else None
            raise ShardDamaged(
                f"{fault.what} while it was open; {shard.depth} unfinished events and {shard.dead_count} dead letters "
                "were in it" + (f"; it is saved whole as {saved.name}: put that in its place" if saved else "")
            )
        if now - self._noted[shard.shard_id] >= NOTE_SECONDS:
            self._noted[shard.shard_id] = now
            self._note_numbers(shard)

    def _note_numbers(self, shard: Shard) -> None:
        manifest = self._manifest
        record, numbers = manifest.records[shard.shard_id], known_from(shard.stats(), self._clock.wall_ms())
        is_changed = {**record.known, "at_ms": 0} != {**numbers, "at_ms": 0}
        if is_changed and not shard.is_disk_full:
            with contextlib.suppress(DiskFull, apsw.FullError):
                note_numbers(shard.database, record, shard.stats(), self._clock.wall_ms())
        # One save serves all shards; a shard that is being opened has the manifest: the next one does it.
        if time.monotonic() - manifest.saved_at >= NOTE_SECONDS and manifest.lock.acquire(blocking=False):
            try:
                manifest.save()
            except OSError as e:
                log.warning("the manifest's numbers could not be saved: %s", e)
            finally:
                manifest.lock.release()
