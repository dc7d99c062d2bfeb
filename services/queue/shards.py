"""The shards of one node: which are ours by the shard map, opened, closed and looked up."""

import asyncio
import contextlib
import logging
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import apsw
from evenflow.control.v1 import resources_pb2
from evenflow.queue.v1 import queue_pb2

from services.queue import transfer
from services.queue.counts import DrainReport, ShardStats
from services.queue.database import DiskFull, require_safe_sqlite
from services.queue.domain import FreeLeases, Wake
from services.queue.file_watch import FileWatch
from services.queue.identity import (
    Manifest,
    ShardDamaged,
    ShardRecord,
    check_pages,
    close_verified,
    lock,
    make_directory,
    note_numbers,
    open_verified,
    shard_path,
)
from services.queue.keeper import LEASES_POLL_SECONDS, Courier, Keeper, NoCourier, Progress
from services.queue.losses import known_from
from services.queue.marks import Marks
from services.queue.moves import Place, Step, Told, next_step, why_not_to_open
from services.queue.rescue import rescue
from services.queue.sessions import PollerSession, Sessions
from services.queue.settings import QueueSettings
from services.queue.shard import Shard
from services.queue.turns import Turns
from services.queue.writer import ShardWriter
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason

FILE_CHECK_SECONDS = 1.0
# Files that are fetched at once: more would only share the disk.
MAX_FETCHES = 2
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
        make_directory(self._directory)
        try:
            self._manifest = Manifest(self._directory)
        except ShardDamaged as e:
            raise ValueError(str(e)) from e
        transfer.remove_unfinished(self._directory, self._is_fetched)
        self._writers: dict[int, ShardWriter] = {}
        self._locks: dict[int, int] = {}
        # Shards by the newest map.
        self._sharers = 1
        self._watches: dict[int, FileWatch] = {}
        self._checked: dict[int, float] = {}
        self._noted: dict[int, float] = {}
        # The durable marks of moves.
        self.marks = Marks(self._directory, self._manifest)
        self._told: dict[int, Told] = {}
        self._keepers: dict[int, Keeper] = {}
        self._is_stopping = False
        # How moves reach other processes; set before the first map with a move is taken.
        self.courier: Courier = NoCourier()
        self.fetch_slots = asyncio.Semaphore(MAX_FETCHES)
        # How far files are sent, by shard.
        self.sent: dict[int, Progress] = {}
        self._random = random.SystemRandom()
        self._turns = Turns()

    def __iter__(self) -> Iterator[ShardWriter]:
        return iter([self._writers[shard_id] for shard_id in sorted(self._writers)])

    def get(self, shard_id: int) -> ShardWriter:
        """The shard. EvenflowError SHARD_UNAVAILABLE: not ours, or not served now."""
        writer = self._writers.get(shard_id)
        if writer is None:
            message = f"this node does not serve shard {shard_id}: look at the shard map"
            told = self._told.get(shard_id)
            if told is not None and told.owner == self._settings.node_id and told.move_to:
                message = f"shard {shard_id} is on its way to {told.move_to}: try again"
            raise EvenflowError(Reason.ERROR_REASON_SHARD_UNAVAILABLE, message, metadata={"shard_id": str(shard_id)})
        refusal = writer.refusal()
        if refusal is not None:
            raise refusal
        return writer

    def get_for_settles(self, shard_id: int) -> ShardWriter:
        """The same for settlements. EvenflowError RECEIPT_EXPIRED: the shard moved, and its leases have ended."""
        record = self._manifest.records.get(shard_id)
        if shard_id not in self._writers and record is not None and record.place in (Place.OFFERED, Place.GONE):
            text = f"shard {shard_id} was closed to move to another node: its leases have ended"
            raise EvenflowError(Reason.ERROR_REASON_RECEIPT_EXPIRED, text, metadata={"shard_id": str(shard_id)})
        return self.get(shard_id)

    def check_epoch(self, epoch: int) -> None:
        """EvenflowError SHARD_MAP_STALE: the caller's map is older than ours."""
        if epoch < self.epoch:
            message = f"shard map epoch {epoch} is stale, this node has {self.epoch}: fetch it again"
            raise EvenflowError(Reason.ERROR_REASON_SHARD_MAP_STALE, message, metadata={"epoch": str(self.epoch)})

    async def apply(
        self,
        epoch: int,
        owner_node_ids: Iterable[str],
        moves: Iterable[resources_pb2.ShardMove] = (),
        arrivals: Iterable[resources_pb2.ShardArrival] = (),
    ) -> None:
        """Follow a newer map, but for steps that wait for others; one that is not newer changes nothing."""
        keepers = self.take(epoch, owner_node_ids, moves, arrivals)
        for keeper in keepers:
            await keeper.is_settled.wait()

    def take(
        self,
        epoch: int,
        owner_node_ids: Iterable[str],
        moves: Iterable[resources_pb2.ShardMove] = (),
        arrivals: Iterable[resources_pb2.ShardArrival] = (),
    ) -> list[Keeper]:
        """Begin to follow a newer map; whoever now has work to do."""
        if epoch <= self.epoch or self._is_stopping:
            return []
        self.epoch = epoch
        owners = list(owner_node_ids)
        self._sharers = max(1, owners.count(self._settings.node_id))
        move_of, arrival_of = {m.shard_id: m for m in moves}, {a.shard_id: a for a in arrivals}
        for shard_id, owner in enumerate(owners):
            move, arrival = move_of.get(shard_id), arrival_of.get(shard_id)
            self._told[shard_id] = Told(
                epoch,
                owner,
                move.to_node_id if move is not None else "",
                move.move_epoch if move is not None else 0,
                arrival.identity if arrival is not None else "",
                arrival.generation if arrival is not None else 0,
            )
            keeper = self._keepers.get(shard_id)
            if keeper is not None and not keeper.is_done:
                keeper.map_changed()
            elif self.next_step(shard_id) is not Step.REST:
                self._keepers[shard_id] = Keeper(self, shard_id)
        return [keeper for keeper in self._keepers.values() if not keeper.is_done]

    def told(self, shard_id: int) -> Told:
        """What the map says of a shard."""
        return self._told[shard_id]

    def offer(self, shard_id: int, move_epoch: int, node_id: str) -> ShardRecord:
        """The record of a file that is offered for this move. EvenflowError: it is not, or not to this node."""
        return self.marks.offer(shard_id, self._told.get(shard_id), move_epoch, node_id)

    def next_step(self, shard_id: int) -> Step:
        """What is to be done for a shard."""
        writer = self._writers.get(shard_id)
        stats = writer.stats if writer is not None else None
        return next_step(
            self._settings.node_id,
            self._told[shard_id],
            self._manifest.records.get(shard_id),
            is_open=writer is not None,
            is_leaving=stats is not None and stats.is_leaving,
        )

    @property
    def move_drain_seconds(self) -> float:
        """How long leases may be extended while their shard moves."""
        return self._settings.move_drain_seconds

    def writer(self, shard_id: int) -> ShardWriter:
        """The open shard, whatever its state. KeyError: it is not open."""
        return self._writers[shard_id]

    async def open(self, shard_id: int) -> ShardWriter:
        """Open the shard unless it is open; once it is known how it is."""
        writer = self._writers.get(shard_id) or self._open(shard_id)
        await writer.opened.wait()
        return writer

    async def close(self, shard_id: int) -> None:
        """Close the shard's file."""
        writer = self._writers[shard_id]
        await writer.stop()
        self._writers.pop(shard_id, None)

    def is_closed_cleanly(self, shard_id: int) -> bool:
        """Whether file and manifest have the stamp of a clean end."""
        record = self._manifest.records.get(shard_id)
        return record is not None and bool(record.closed)

    @property
    def directory(self) -> Path:
        """Where this node's shards are."""
        return self._directory

    def move_statuses(self) -> list[queue_pb2.ShardMoveStatus]:
        """The moves that this node has a part in."""
        found = []
        for shard_id, told in sorted(self._told.items()):
            keeper, record = self._keepers.get(shard_id), self._manifest.records.get(shard_id)
            if record is not None and record.place == Place.OFFERED and told.owner == self._settings.node_id:
                sent = self.sent.get(shard_id) or Progress()
                found.append(
                    queue_pb2.ShardMoveStatus(
                        shard_id=shard_id,
                        move_epoch=told.move_epoch,
                        phase=queue_pb2.SHARD_MOVE_PHASE_OFFERED,
                        peer_node_id=told.move_to,
                        bytes_done=sent.bytes_done,
                        bytes_total=sent.bytes_total,
                    )
                )
            elif keeper is not None and not keeper.is_done:
                status = keeper.describe(self.next_step(shard_id), told)
                if status is not None:
                    found.append(status)
        return found

    async def drain(self) -> None:
        """Take no events and deliver no leases any more; settles go on. Moves are taken up at the next start."""
        self._is_stopping = True
        await asyncio.gather(*(keeper.stop() for keeper in self._keepers.values()))
        for writer in self:
            await writer.drain()

    async def wait_leases_end(self) -> None:
        """Until no lease is out: what runs is settled here, as the next start knows of no lease and it would run again.

        Pollers extend the leases of what runs longer: whoever waits bounds it.
        """
        # Once in a process's life: asking is simpler than signals of every shard's thread.
        while await self._leases_out():  # noqa: ASYNC110
            await asyncio.sleep(LEASES_POLL_SECONDS)

    async def _leases_out(self) -> int:
        # A shard that is not served any more has none that could be settled.
        counts = await asyncio.gather(
            *(writer.call(lambda shard: len(shard.leases)) for writer in self), return_exceptions=True
        )
        return sum(count for count in counts if not isinstance(count, BaseException))

    async def stop(self) -> None:
        """Close every shard."""
        self._is_stopping = True
        await asyncio.gather(*(keeper.stop() for keeper in self._keepers.values()))
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

    def _is_fetched(self, shard_id: int) -> bool:
        record = self._manifest.records.get(shard_id)
        return record is not None and record.place == Place.FETCHED

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
        reason = why_not_to_open(shard_id, self._told.get(shard_id), self._manifest.records.get(shard_id))
        if reason is not None:
            raise ShardDamaged(reason)
        if shard_id not in self._locks:
            self._locks[shard_id] = lock(path.with_suffix(".lock"))
        # A node's memory is divided when a shard is opened; those that are open keep what they have.
        settings = self._settings.shared_by(self._sharers)
        if is_suspect and shard_id in self._manifest.records:
            check_pages(self._directory, shard_id, self._manifest.records[shard_id], settings.cache_bytes)
        database = open_verified(self._directory, shard_id, self._manifest, settings.cache_bytes, self._sharers)
        self._watches[shard_id] = FileWatch(path)
        self._noted[shard_id] = time.monotonic()
        boot_number = self._random.getrandbits(31)
        shard = Shard(shard_id, database, settings, self._clock, self.sessions, boot_number, self.wake, self._turns)
        shard.before_checkpoint = lambda: self._look_at_file(shard)
        return shard

    def _close_shard(self, shard: Shard, is_whole: bool) -> None:
        # Of a file that failed, too: when it does not open again its loss has a name.
        self._manifest.records[shard.shard_id].known = known_from(shard.stats(), self._clock.wall_ms())
        if is_whole:
            try:
                with self._manifest.lock:
                    close_verified(shard.database, shard.shard_id, self._manifest)
            finally:
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
        """Look at the file once a second. ShardDamaged as `_look_at_file` does; apsw.Error: it cannot be written."""
        now = time.monotonic()
        if now - self._checked.get(shard.shard_id, 0.0) < FILE_CHECK_SECONDS:
            return
        self._checked[shard.shard_id] = now
        self._look_at_file(shard)
        if now - self._noted[shard.shard_id] >= NOTE_SECONDS:
            self._noted[shard.shard_id] = now
            self._note_numbers(shard)

    def _look_at_file(self, shard: Shard) -> None:
        """ShardDamaged: somebody removed, replaced or cut the file under us."""
        fault = self._watches[shard.shard_id].find_fault(shard.database.wal_pages)
        if fault is not None:
            saved = rescue(shard.database, self._directory, shard.shard_id) if fault.is_reachable else None
            raise ShardDamaged(
                f"{fault.what} while it was open; {shard.depth} unfinished events and {shard.dead_count} dead letters "
                "were in it" + (f"; it is saved whole as {saved.name}: put that in its place" if saved else "")
            )

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
