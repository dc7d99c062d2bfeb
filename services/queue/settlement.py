"""Settle: fencing, and the writes of many settlements in one transaction."""

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from services.queue.database import Bulk
from services.queue.domain import (
    DUE_SHIFT,
    FRESH,
    PROGRESS_COLUMNS,
    Entry,
    Progress,
    Settle,
    SettleBatch,
    SettleResult,
)
from services.queue.outcomes import outcome_row
from services.queue.sessions import FunctionKey, PollerSession
from services.queue.transitions import Next, handover_after, next_state, progress_after, terminal_state
from services.shared.errors import EvenflowError, Reason

if TYPE_CHECKING:
    from services.queue.shard import Shard

_SET = ", ".join(f"{name} = v.{name}" for name in PROGRESS_COLUMNS.split(", "))
_V = ", ".join(f"v.{name}" for name in PROGRESS_COLUMNS.split(", "))
_KEPT = "request_id, expires_at_ms, enqueued_at_ms, body_hash"
_E = ", ".join(f"e.{name}" for name in _KEPT.split(", "))
_DELETE = Bulk("DELETE FROM events WHERE sequence IN ({rows})", 1)
_UPDATE = Bulk(
    f"WITH v (sequence, {PROGRESS_COLUMNS}, handover) AS (VALUES {{rows}}) "
    f"UPDATE events SET {_SET}, handover = v.handover FROM v WHERE events.sequence = v.sequence",
    12,
)
_DELAY_COLUMNS = 14
_DELAY = Bulk(
    f"WITH v (sequence, delayed_id, lane_id, {PROGRESS_COLUMNS}, handover) AS (VALUES {{rows}}) "
    f"INSERT INTO delayed (delayed_id, lane_id, {_KEPT}, {PROGRESS_COLUMNS}, handover, event) "
    f"SELECT v.delayed_id, v.lane_id, {_E}, {_V}, v.handover, e.event "
    "FROM v CROSS JOIN events e ON e.sequence = v.sequence",
    _DELAY_COLUMNS,
)
_FIND_DELAYED = Bulk("SELECT delayed_id FROM delayed WHERE delayed_id IN ({rows})", 1)
_BURY = Bulk(
    f"WITH v (sequence, lane_id, tenant_id, dead_at_ms, condition, response, {PROGRESS_COLUMNS}) AS (VALUES {{rows}}) "
    f"INSERT INTO dead_letters (lane_id, tenant_id, dead_at_ms, condition, response_payload, {_KEPT}, "
    f"{PROGRESS_COLUMNS}, event) "
    f"SELECT v.lane_id, v.tenant_id, v.dead_at_ms, v.condition, v.response, {_E}, {_V}, e.event "
    "FROM v CROSS JOIN events e ON e.sequence = v.sequence",
    16,
)
MAX_DEAD_RESPONSE_BYTES = 65_536


class Settlement:
    """Applies the settlements of one drain: the writes first, memory once they are durable."""

    def __init__(self, shard: "Shard") -> None:
        self._shard = shard
        self._results: list[tuple[SettleBatch, SettleResult]] = []
        self._taken: dict[int, Entry] = {}
        # (entry, progress after, handover after, where to)
        self._moves: list[tuple[Entry, Progress | None, bytes | None, Next]] = []
        self._deleted: list[int] = []
        self._updates: list[Any] = []
        self._delays: list[Any] = []
        self._deaths: list[Any] = []
        self._outcomes: list[Any] = []
        self._next_due_ms = shard.next_due_ms
        self.settled: list[tuple[SettleBatch, Entry, Settle]] = []

    def add(self, batches: list[SettleBatch]) -> None:
        """Check the receipts and work out the writes; memory changes only in that the leases are taken."""
        shard = self._shard
        for batch in batches:
            result = SettleResult()
            self._results.append((batch, result))
            for settle in batch.settles:
                entry = shard.leases.get(settle.sequence)
                if entry is None or entry.fence != settle.fence:
                    result.refusals.append((settle.index, _stale(settle)))
                    continue
                self._plan(entry, settle)
                if entry.traceparent.endswith("01"):
                    self.settled.append((batch, entry, settle))

    def add_expired(self, entries: list[Entry], *, counts: bool) -> None:
        """Leases that ended without a settle: available again with one delivery more, or dead after too many."""
        limit = self._shard.settings.max_deliveries
        for entry in entries:
            self._take(entry)
            if not counts:
                self._moves.append((entry, entry.progress, entry.handover, Next.AVAILABLE))
                continue
            progress = Progress(*(entry.progress or FRESH).values())
            progress.deliveries += 1
            if progress.deliveries > limit:
                self._bury(entry, progress, _DELIVERIES_EXHAUSTED, b"")
            else:
                self._updates += (entry.sequence, *progress.values(), entry.handover)
                self._moves.append((entry, progress, entry.handover, Next.AVAILABLE))

    @property
    def has_writes(self) -> bool:
        """Whether a transaction is needed."""
        return bool(self._updates or self._deleted)

    def write(self) -> None:
        """Do the writes, inside the running transaction. apsw.Error."""
        connection = self._shard.database.connection
        if self._updates:
            _UPDATE.run(connection, self._updates)
        if self._delays:
            self._avoid_taken_ids()
            _DELAY.run(connection, self._delays)
        if self._deaths:
            _BURY.run(connection, self._deaths)
        if self._deleted:
            _DELETE.run(connection, self._deleted)
        if self._outcomes:
            self._shard.outcomes.write(self._outcomes, self._shard.now_ms)

    def committed(self) -> None:
        """Everything is durable: change memory."""
        shard = self._shard
        if self._outcomes:
            shard.outcomes.wrote(self._outcomes)
        ended: dict[tuple[PollerSession, FunctionKey], int] = defaultdict(int)
        now_ns = shard.wall_ns()
        for entry, progress, handover, following in self._moves:
            lane = entry.lane
            if following is Next.HANDOVER:
                shard.handover_count += entry.handover is None
                entry.progress, entry.handover = progress, handover
                shard.leases.keep(entry)
                continue
            ended[entry.session, lane.key] += 1
            lane.leased -= 1
            entry.progress, entry.handover = progress, handover
            if following is Next.AVAILABLE:
                entry.available_ns = now_ns
                shard.lanes.give_back(entry)
                continue
            lane.depth -= 1
            shard.event_count -= 1
            if following is Next.DELAYED:
                shard.delayed_count += 1
                continue
            shard.lanes.count_tenant(lane.tenant_id, -1)
            shard.handover_count -= entry.handover is not None
            shard.finished_total += 1
            shard.dead_count += following is Next.DEAD
        shard.next_due_ms = self._next_due_ms
        for (session, key), count in ended.items():
            shard.wake_others(session.release(key, count), key)

    def rolled_back(self) -> None:
        """Nothing was stored: the leases go on."""
        self._shard.leases.update(self._taken)
        if self._outcomes:
            self._shard.outcomes.rolled_back()

    def replies(self) -> list[tuple[SettleBatch, SettleResult]]:
        """The answers."""
        return self._results

    def _take(self, entry: Entry) -> None:
        del self._shard.leases[entry.sequence]
        self._taken[entry.sequence] = entry

    def _plan(self, entry: Entry, settle: Settle) -> None:
        following = next_state(settle)
        is_repeat = following is Next.HANDOVER and entry.handover is not None
        if following is Next.LEASED or is_repeat:
            # A handover that is stored already was sent again after a broken stream: its run counts once.
            self._shard.leases.renew(entry)
            return
        self._take(entry)
        shard = self._shard
        progress = progress_after(entry.progress, settle)
        if following is Next.FINISHED:
            self._deleted.append(entry.sequence)
            before, entry.progress = entry.progress, progress
            state = terminal_state(settle.condition)
            self._outcomes += outcome_row(entry, state, settle.condition, shard.now_ms, settle.destination_arn)
            entry.progress = before
            self._moves.append((entry, progress, entry.handover, following))
            return
        if following is Next.DEAD:
            self._bury(entry, progress or FRESH, settle.condition, settle.payload[:MAX_DEAD_RESPONSE_BYTES])
            return
        handover = handover_after(entry.handover, settle)
        if following is Next.DELAYED:
            # Never past its age: then it is handed out to be ended.
            due_ms = max(shard.now_ms, min(shard.now_ms + settle.delay_ms, entry.expires_at_ms))
            delayed_id = shard.new_delayed_id(due_ms)
            values = (progress or FRESH).values()
            self._delays += (entry.sequence, delayed_id, entry.lane.lane_id, *values, handover)
            self._deleted.append(entry.sequence)
            self._next_due_ms = min(self._next_due_ms, due_ms)
        elif progress is not entry.progress or handover is not entry.handover:
            self._updates += (entry.sequence, *(progress or FRESH).values(), handover)
        self._moves.append((entry, progress, handover, following))

    def _avoid_taken_ids(self) -> None:
        """The counter in a delayed id starts anew with each opening: step past rows of earlier ones."""
        connection = self._shard.database.connection
        while taken := {row[0] for row in _FIND_DELAYED.query(connection, self._delays[1::_DELAY_COLUMNS])}:
            for at in range(1, len(self._delays), _DELAY_COLUMNS):
                if self._delays[at] in taken:
                    self._delays[at] = self._shard.new_delayed_id(self._delays[at] >> DUE_SHIFT)

    def _bury(self, entry: Entry, progress: Progress, condition: int, response: bytes) -> None:
        lane = entry.lane
        self._deaths += (
            entry.sequence,
            lane.lane_id,
            lane.tenant_id,
            self._shard.now_ms,
            condition,
            response,
            *progress.values(),
        )
        self._deleted.append(entry.sequence)
        self._moves.append((entry, progress, entry.handover, Next.DEAD))


def _stale(settle: Settle) -> EvenflowError:
    return EvenflowError(
        Reason.ERROR_REASON_RECEIPT_EXPIRED,
        "the lease has moved on: its time ran out, or it was settled before",
        metadata={"sequence": str(settle.sequence)},
    )


_DELIVERIES_EXHAUSTED = 5
