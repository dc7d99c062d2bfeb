"""One shard: its file, its memory, and `drain`, which applies whatever waits in one transaction.

It has no thread of its own: the writer's thread calls it, or a test. Only one thread may use it at a time.
"""

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import apsw

from services.queue import ageing, counts, delivery
from services.queue.counts import DrainReport, ShardStats
from services.queue.database import Database, DiskFull
from services.queue.domain import (
    DUE_MASK,
    DUE_SHIFT,
    Call,
    Command,
    Completion,
    EnqueueBatch,
    EnqueueResult,
    Entry,
    FreeLeases,
    SettleBatch,
    SettleResult,
    Wake,
)
from services.queue.intake import FULL_RETRY_MS, Intake
from services.queue.lane_counts import LaneChanges
from services.queue.lanes import Lane, Lanes
from services.queue.lease_wire import LeaseBatch
from services.queue.leases import Leases
from services.queue.minted_ids import highest_at_start
from services.queue.outcomes import Outcomes
from services.queue.reserve import Reserve
from services.queue.sessions import FunctionKey, PollerSession, Sessions
from services.queue.settings import QueueSettings
from services.queue.settlement import Settlement
from services.queue.steady_clock import SteadyClock
from services.queue.telemetry import enqueue_spans, settle_spans, wait_spans
from services.queue.transitions import Input
from services.queue.turns import Turns
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason

HOUSEKEEPING_MS = 1_000
# While more was kept too long than one turn drops.
DROP_AGAIN_MS = 50
log = logging.getLogger(__name__)


class Shard:
    """The state of one shard; see docs/state_machine.md."""

    def __init__(
        self,
        shard_id: int,
        database: Database,
        settings: QueueSettings,
        clock: Clock,
        sessions: Sessions,
        boot_number: int,
        wake_shards: Callable[[Iterable[int], Wake], None] = lambda _shards, _wake: None,
        turns: Turns | None = None,
    ) -> None:
        """Take stock of the file. `boot_number`: 32 random bits of the node's start, for its fences."""
        self.shard_id = shard_id
        self.database = database
        self.settings = settings
        self.sessions = sessions
        self._clock = clock
        self._steady = SteadyClock(clock)
        self._wake_shards = wake_shards
        self._turns = turns or Turns()
        self.now_ms = self._steady.now_ms()
        self.leases = Leases(clock, visibility_timeout_ms=settings.visibility_timeout_ms, boot_number=boot_number)
        self.expired: deque[Entry] = deque()
        self.claimed: set[int] = set()
        self.blocked: dict[Lane, set[PollerSession]] = {}
        self.turn = 0
        # Raises ShardDamaged when somebody cut the file.
        self.before_checkpoint: Callable[[], None] = lambda: None
        self._delay_counter = 0
        self.is_draining = False
        # It moves to another node: no lease is handed out; events that must come here are taken until it is closed.
        self.is_leaving = False
        self.is_disk_full = False
        self.accepted_total = 0
        self.finished_total = 0
        self.reserve = Reserve(database.path, settings.reserve_bytes)
        self.reserve.keep()
        self.lanes = Lanes(database, window_events=settings.window_events, window_bytes=settings.window_bytes)
        self.outcomes = Outcomes(
            database, keep_ms=settings.outcome_keep_seconds * 1_000, max_rows=settings.outcome_max_rows
        )
        self.event_count = self.lanes.load()
        self.outcomes.load()
        count = database.value
        self.delayed_count = int(count("SELECT coalesce(sum(delayed), 0) FROM lane_counts"))
        self.dead_count = int(count("SELECT count(*) FROM dead_letters"))
        self.handover_count = int(count("SELECT count(*) FROM events WHERE handover IS NOT NULL")) + int(
            count("SELECT count(*) FROM delayed WHERE handover IS NOT NULL")
        )
        self.highest_minted_id = highest_at_start(database, self.outcomes.bucket_ids, self.now_ms)
        self.next_due_ms = ageing.next_due_ms(self)
        self.next_expiry_ms = ageing.next_expiry_ms(self)
        self._next_housekeeping_ms = 0.0
        # On a full volume what time brings is tried again no sooner.
        self._next_write_ms = 0.0
        self._used_bytes = database.used_bytes()
        self.file_bytes = database.file_bytes()
        self.has_more = True

    @property
    def depth(self) -> int:
        """Events not settled yet."""
        return self.event_count + self.delayed_count

    @property
    def delivers(self) -> bool:
        """Whether leases are handed out."""
        return not (self.is_draining or self.is_leaving)

    def leave(self) -> int:
        """Hand out no lease any more, for a move; the leases that have to end first."""
        self.is_leaving = True
        return len(self.leases)

    def stay(self) -> None:
        """The move was cancelled."""
        self.is_leaving = False
        self.leases.renews = True
        self.has_more = True

    def drain(self, commands: list[Command]) -> tuple[list[Completion], DrainReport]:
        """Apply these commands and whatever time brought; the completions are due once this returns.

        apsw.Error: the file failed; nothing of this drain may be relied on, and the shard must be opened anew.
        """
        self.now_ms = self._steady.now_ms()
        completions: list[Completion] = []
        report = DrainReport()
        enqueues = [c for c in commands if isinstance(c, EnqueueBatch)]
        settles = [c for c in commands if isinstance(c, SettleBatch)]
        if enqueues or settles:
            self._write(enqueues, settles, completions, report)
        for command in commands:
            if isinstance(command, Call):
                self._call(command, completions)
            elif isinstance(command, Wake):
                self._look_again(command)
            elif isinstance(command, FreeLeases):
                self._free(command)
        self._tick()
        self._deliver(completions, report)
        return completions, report

    def seconds_until_due(self) -> float:
        """How long the writer may wait for commands before it must drain again; 0 when there is more at once."""
        if self.has_more:
            return 0.0
        steady_ms, monotonic_ms = self._steady.now_ms(), self._clock.monotonic_ms()
        due_ms = min(self._next_housekeeping_ms, self.leases.next_check_ms()) - monotonic_ms
        if self.delivers:
            next_ms = self.next_due_ms
            if len(self.expired) < ageing.EXPIRY_BATCH:
                # Otherwise a poller has to come first, and that is a command.
                next_ms = min(next_ms, self.next_expiry_ms)
            due_ms = min(due_ms, max(next_ms - steady_ms, self._next_write_ms - monotonic_ms))
        return max(0.0, due_ms / 1_000)

    def refusal(self) -> EvenflowError | None:
        """Why no event is taken now, or None."""
        if self.is_draining:
            return EvenflowError(Reason.ERROR_REASON_DRAINING, "the queue node is draining: send to another shard")
        metadata = {"shard_id": str(self.shard_id)}
        if self.is_disk_full:
            message = "the data volume is full: free some space; the shard goes on by itself"
            return EvenflowError(Reason.ERROR_REASON_DISK_FULL, message, FULL_RETRY_MS, metadata)
        if self.depth >= self.settings.shard_max_events or self._used_bytes >= self.settings.shard_max_bytes:
            message = "the shard has as many events or bytes as it may: try again later"
            return EvenflowError(Reason.ERROR_REASON_SHARD_FULL, message, FULL_RETRY_MS, metadata)
        return None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """One transaction of its own. DiskFull or apsw.Error: it was rolled back, or nobody knows."""
        self.database.begin()
        try:
            yield
        except BaseException:
            self.database.rollback()
            raise
        with self._turns.given_away():
            self.database.commit()

    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch, for spans."""
        return self._clock.wall_ns()

    def new_delayed_id(self, due_ms: int) -> int:
        """A key of the delayed table for this due time, different from all others of this opening."""
        self._delay_counter = (self._delay_counter + 1) & DUE_MASK
        return due_ms << DUE_SHIFT | self._delay_counter

    def wake_others(self, shard_ids: set[int], key: FunctionKey | None) -> None:
        """Have these shards look again at a function's lane, or at their credits (None)."""
        if not shard_ids:
            return
        if self.shard_id in shard_ids:
            if key is not None:
                self.lanes.unpark(key)
            self.has_more = self.has_more or key is None
            shard_ids = shard_ids - {self.shard_id}
        if shard_ids:
            self._wake_shards(shard_ids, Wake(() if key is None else (key,)))

    def stats(self) -> ShardStats:
        """The numbers now."""
        return counts.stats(self)

    def checkpoint_if_due(self) -> None:
        """Copy the WAL into the file when it is long; after the answers went out.

        On a full volume housekeeping makes room first. ShardDamaged: as `before_checkpoint` found.
        """
        if self.database.wal_pages >= self.settings.checkpoint_pages and not self.is_disk_full:
            self._checkpoint()

    def _checkpoint(self, *, truncate: bool = False) -> None:
        # It writes into the file itself, and would make one that was cut as long as it was.
        self.before_checkpoint()
        try:
            self.database.checkpoint(truncate=truncate)
        except apsw.FullError:
            # The file could not grow: nothing is lost, what did not fit stays in the WAL.
            self.is_disk_full = True

    def _write(
        self,
        enqueues: list[EnqueueBatch],
        settles: list[SettleBatch],
        completions: list[Completion],
        report: DrainReport,
    ) -> None:
        changes = LaneChanges()
        intake, settlement = Intake(self, changes), Settlement(self, changes)
        settlement.add(settles)
        try:
            if enqueues or settlement.has_writes:
                self.database.begin()
                intake.write(enqueues)
                settlement.write()
                changes.write(self.database.connection)
                started_ms = self._clock.monotonic_ms()
                with self._turns.given_away():
                    self.database.commit()
                    report.commit_ms = self._clock.monotonic_ms() - started_ms
        except (apsw.FullError, DiskFull):
            self.database.rollback()
            intake.rolled_back()
            settlement.rolled_back()
            self._on_disk_full(enqueues, settles, completions, report)
            return
        stored = intake.committed()
        settlement.committed()
        changes.committed()
        for batch, result in intake.replies():
            completions.append((batch.reply, (result,)))
        for settle_batch, settle_result in settlement.replies():
            completions.append((settle_batch.reply, (settle_result,)))
        report.enqueued = sum(len(batch.entries) for batch in enqueues)
        report.settled = sum(len(batch.settles) for batch in settles)
        end_ns = self.wall_ns()
        report.spans += enqueue_spans(self.shard_id, stored, end_ns)
        report.spans += settle_spans(self.shard_id, settlement.settled, end_ns)

    def _on_disk_full(
        self,
        enqueues: list[EnqueueBatch],
        settles: list[SettleBatch],
        completions: list[Completion],
        report: DrainReport,
    ) -> None:
        if not self.is_disk_full:
            log.error("the data volume is full: settles go on from reserved space", extra={"shard_id": self.shard_id})
        first_time, self.is_disk_full = not self.is_disk_full, True
        self.reserve.give_up()
        # The WAL begins anew in the space that it has.
        self._checkpoint()
        for batch in enqueues:
            completions.append((batch.reply, (EnqueueResult(refusal=self.refusal(), depth=self.depth),)))
        if not settles:
            return
        if enqueues or first_time:
            # Alone, from the space that was just freed.
            self._write([], settles, completions, report)
            return
        refusal = EvenflowError(
            Reason.ERROR_REASON_DISK_FULL, "the data volume is full and so is the reserve: settle again", FULL_RETRY_MS
        )
        for settle_batch in settles:
            completions.append((settle_batch.reply, (SettleResult(refusal=refusal),)))

    def _call(self, command: Call, completions: list[Completion]) -> None:
        try:
            if command.writes:
                with self.transaction():
                    result = command.run(self)
                if callable(result):
                    # What memory has to learn once the writes are durable.
                    result = result()
            else:
                result = command.run(self)
        except EvenflowError as e:
            completions.append((command.reply, (None, e)))
        except (DiskFull, apsw.FullError):
            refusal = EvenflowError(Reason.ERROR_REASON_DISK_FULL, "the data volume is full", FULL_RETRY_MS)
            completions.append((command.reply, (None, refusal)))
        else:
            completions.append((command.reply, (result, None)))

    def _look_again(self, command: Wake) -> None:
        for key in tuple(self.lanes.parked) if command.keys is None else command.keys:
            self.lanes.unpark(key)

    def _free(self, command: FreeLeases) -> None:
        if command.undelivered is None:
            self._end_leases(self.leases.of_session(command.session)[::-1], Input.SESSION_GONE)
            return
        self._end_leases(self.leases.current(command.undelivered)[::-1], Input.UNDELIVERED)

    def _end_leases(self, entries: list[Entry], given: Input) -> None:
        if not entries:
            return
        changes = LaneChanges()
        settlement = Settlement(self, changes)
        settlement.add_ended(entries, given)
        try:
            if settlement.has_writes:
                with self.transaction():
                    settlement.write()
                    changes.write(self.database.connection)
        except (DiskFull, apsw.FullError):
            # The deliveries could not be counted; the events are available again all the same.
            settlement.rolled_back()
            self.is_disk_full = True
            settlement = Settlement(self, LaneChanges())
            settlement.add_ended(entries, Input.UNCOUNTED)
        settlement.committed()

    def _tick(self) -> None:
        monotonic_ms = self._clock.monotonic_ms()
        may_write = monotonic_ms >= self._next_write_ms and self.delivers
        self.has_more = False
        # The oldest one goes first in its lane again.
        self._end_leases(self.leases.run_out()[::-1], Input.LEASE_EXPIRED)
        try:
            if self.next_due_ms <= self.now_ms and may_write:
                self.has_more = ageing.move_due(self)
            if self.next_expiry_ms <= self.now_ms and may_write and len(self.expired) < ageing.EXPIRY_BATCH:
                self.has_more = ageing.claim_expired(self) or self.has_more
            if monotonic_ms >= self._next_housekeeping_ms:
                self._next_housekeeping_ms = monotonic_ms + HOUSEKEEPING_MS
                self._keep_house()
        except (DiskFull, apsw.FullError):
            self.database.rollback()
            self.is_disk_full = True
            self._next_write_ms = monotonic_ms + HOUSEKEEPING_MS
            self.has_more = False

    def _keep_house(self) -> None:
        if ageing.drop_old(self):
            self._next_housekeeping_ms -= HOUSEKEEPING_MS - DROP_AGAIN_MS
        self.lanes.drop_idle()
        self._used_bytes = self.database.used_bytes()
        self.file_bytes = self.database.file_bytes()
        if self.reserve.is_scarce() and self.database.wal_bytes() > self.settings.reserve_bytes:
            # Together the shards' logs may be most of what is on the volume.
            self._checkpoint(truncate=True)
        if self.is_disk_full and self.reserve.keep():
            self.is_disk_full = False
            log.info("there is room on the data volume again", extra={"shard_id": self.shard_id})

    def _deliver(self, completions: list[Completion], report: DrainReport) -> None:
        if not self.delivers:
            for session in self.sessions.active:
                self.wake_others(session.leave(self.shard_id), None)
            return
        leased, again = delivery.deliver(self)
        self.has_more = self.has_more or again
        for session, entries in leased:
            report.spans += wait_spans(self, entries)
            for batch in delivery.batches(self, entries):
                completions.append((_hand_over, (session, batch)))


def _hand_over(session: PollerSession, batch: LeaseBatch) -> None:
    # On the loop. A stream that ended meanwhile: the leases run out by themselves.
    if session.deliver is not None:
        session.deliver(batch)
