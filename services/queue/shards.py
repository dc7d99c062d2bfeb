"""The shards of one node: which are ours by the shard map, opened, closed and looked up."""

import logging
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from services.queue.database import require_safe_sqlite
from services.queue.domain import FreeLeases, Wake
from services.queue.identity import (
    Manifest,
    ShardDamaged,
    close_verified,
    lock,
    make_directory,
    open_verified,
    shard_path,
)
from services.queue.sessions import PollerSession, Sessions
from services.queue.settings import QueueSettings
from services.queue.shard import DrainReport, Shard, ShardStats
from services.queue.turns import Turns
from services.queue.writer import ShardWriter
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason

FILE_CHECK_SECONDS = 1.0
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
        self._writers: dict[int, ShardWriter] = {}
        self._locks: dict[int, int] = {}
        self._inodes: dict[int, int] = {}
        self._checked: dict[int, float] = {}
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

    def _open(self, shard_id: int) -> ShardWriter:
        writer = ShardWriter(
            shard_id,
            open_shard=lambda: self._open_shard(shard_id),
            close_shard=self._close_shard,
            check_file=self._check_file,
            on_drained=self._note_drained,
            turns=self._turns,
        )
        self._writers[shard_id] = writer
        writer.start()
        return writer

    def _note_drained(self, shard_id: int, report: DrainReport) -> None:
        self.on_drained(shard_id, report)

    def _open_shard(self, shard_id: int) -> Shard:
        path = shard_path(self._directory, shard_id)
        if shard_id not in self._locks:
            self._locks[shard_id] = lock(path.with_suffix(".lock"))
        with self._manifest.lock:
            database = open_verified(self._directory, shard_id, self._manifest, self._settings.cache_bytes)
        self._inodes[shard_id] = path.stat().st_ino
        boot_number = self._random.getrandbits(31)
        return Shard(
            shard_id, database, self._settings, self._clock, self.sessions, boot_number, self.wake, self._turns
        )

    def _close_shard(self, shard: Shard, is_whole: bool) -> None:
        if is_whole:
            with self._manifest.lock:
                close_verified(shard.database, shard.shard_id, self._manifest)
            os.close(self._locks.pop(shard.shard_id))
        else:
            shard.database.close()

    def _check_file(self, shard: Shard) -> None:
        """ShardDamaged: somebody removed or replaced the file under us."""
        now = time.monotonic()
        if now - self._checked.get(shard.shard_id, 0.0) < FILE_CHECK_SECONDS:
            return
        self._checked[shard.shard_id] = now
        path = shard_path(self._directory, shard.shard_id)
        try:
            found = path.stat().st_ino
        except FileNotFoundError:
            found = 0
        if found != self._inodes[shard.shard_id]:
            raise ShardDamaged(
                f"{path.name} was removed or replaced while it was open; {shard.depth} events were in it"
            )
