"""Settle: fencing, and the writes of many settlements in one transaction."""

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from evenflow.common.v1 import event_pb2

from services.queue import counts
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
from services.queue.lane_counts import LaneChanges
from services.queue.lanes import Lane
from services.queue.outcomes import outcome_row
from services.queue.progress import handover_after, progress_after, progress_after_loss
from services.queue.sessions import PollerSession
from services.queue.states import Place, State
from services.queue.transitions import COUNTS_DELIVERY, Input, Transition, settled, transition
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


class _Kept(NamedTuple):
    """How a leased event is once this drain is durable."""

    entry: Entry
    state: State
    progress: Progress | None
    handover: bytes | None


class Settlement:
    """Applies the settlements of one drain: the writes first, memory once they are durable."""

    def __init__(self, shard: "Shard", changes: LaneChanges) -> None:
        self._shard = shard
        self._changes = changes
        self._results: list[tuple[SettleBatch, SettleResult]] = []
        # (entry, progress after, handover after, the transition)
        self._moves: list[tuple[Entry, Progress | None, bytes | None, Transition]] = []
        self._deleted: list[int] = []
        # By sequence: one that is settled twice is written once.
        self._updates: dict[int, tuple[Any, ...]] = {}
        # What a settlement of this drain writes and leaves leased: another one of this drain goes on from there.
        self._kept: dict[int, _Kept] = {}
        self._again: list[Entry] = []
        self._delays: list[Any] = []
        self._deaths: list[Any] = []
        self._outcomes: list[Any] = []
        self._next_due_ms = shard.next_due_ms
        self.settled: list[tuple[SettleBatch, Entry, Settle]] = []

    def add(self, batches: list[SettleBatch]) -> None:
        """Check the receipts and work out the writes; memory changes only in that the leases are taken."""
        leases, now_ms = self._shard.leases, self._shard.now_ms
        moves, deleted, outcomes = self._moves, self._deleted, self._outcomes
        for batch in batches:
            result = SettleResult()
            self._results.append((batch, result))
            for settle in batch.settles:
                sequence = settle.sequence
                now: Entry | _Kept
                entry = leases.get(sequence)
                if entry is not None and entry.fence == settle.fence:
                    now = entry
                else:
                    kept = self._kept.get(sequence)
                    if kept is None or kept.entry.fence != settle.fence:
                        result.refusals.append((settle.position, _stale(settle)))
                        continue
                    now, entry = kept, kept.entry
                row = settled(now.state, settle)
                if row.after is now.state and (settle.action != _CONFIRM or now.handover is None):
                    if now is entry:
                        leases.renew(entry)
                else:
                    if now is entry:
                        del leases[sequence]
                    else:
                        del self._kept[sequence]
                        self._updates.pop(sequence, None)
                        self._again.append(entry)
                    progress = progress_after(now.progress, settle)
                    handover = handover_after(now.handover, settle)
                    if row.place is _OUTCOMES:
                        outcomes += outcome_row(
                            entry, progress, row.after.reported, settle.condition, now_ms, settle.destination_arn
                        )
                    else:
                        self._plan(entry, settle, row.place, progress, handover)
                    if row.moves_row:
                        deleted.append(sequence)
                    elif row.after.is_leased:
                        self._kept[sequence] = _Kept(entry, row.after, progress, handover)
                    moves.append((entry, progress, handover, row))
                if entry.traceparent.endswith("01"):
                    self.settled.append((batch, entry, settle))

    def add_ended(self, entries: list[Entry], given: Input) -> None:
        """Leases that ended without a settle, for this reason."""
        limit = self._shard.settings.max_deliveries
        for entry in entries:
            progress, exhausted = entry.progress, False
            if given in COUNTS_DELIVERY:
                progress = progress_after_loss(progress)
                exhausted = progress.deliveries > limit
            row = transition(entry.state, given, exhausted)
            del self._shard.leases[entry.sequence]
            if row.moves_row:
                self._bury(entry, progress or FRESH, _DELIVERIES_EXHAUSTED, b"")
                self._deleted.append(entry.sequence)
            elif progress is not None and progress is not entry.progress:
                self._updates[entry.sequence] = (*progress, entry.handover)
            self._moves.append((entry, progress, entry.handover, row))

    @property
    def has_writes(self) -> bool:
        """Whether a transaction is needed."""
        return bool(self._updates or self._deleted)

    def write(self) -> None:
        """Do the writes, inside the running transaction. apsw.Error."""
        connection = self._shard.database.connection
        if self._updates:
            _UPDATE.run(connection, [value for key, row in self._updates.items() for value in (key, *row)])
        if self._delays:
            self._avoid_taken_ids()
            _DELAY.run(connection, self._delays)
        if self._deaths:
            _BURY.run(connection, self._deaths)
        if self._deleted:
            _DELETE.run(connection, self._deleted)
            self._changes.events.subtract(entry.lane for entry, _, _, row in self._moves if row.moves_row)
            self._changes.delayed.update(entry.lane for entry, _, _, row in self._moves if row.delayed)
        if self._outcomes:
            self._shard.outcomes.write(self._outcomes, self._shard.now_ms)

    def committed(self) -> None:
        """Everything is durable: change memory."""
        shard = self._shard
        if self._outcomes:
            shard.outcomes.wrote(self._outcomes)
        ended: dict[tuple[PollerSession, Lane], int] = defaultdict(int)
        gone: dict[Lane, int] = defaultdict(int)
        over: dict[Lane, int] = defaultdict(int)
        made: dict[Transition, int] = defaultdict(int)
        now_ns = shard.wall_ns()
        for entry, progress, handover, row in self._moves:
            made[row] += 1
            entry.progress, entry.handover = progress, handover
            entry.state = state = row.after
            if state.is_leased:
                shard.leases.keep(entry)
                continue
            lane = entry.lane
            ended[entry.session, lane] += 1
            if not row.moves_row:
                entry.available_ns = now_ns
                shard.lanes.give_back(entry)
                continue
            gone[lane] += 1
            if row.live:
                over[lane] += 1
        for entry in self._again:
            if not entry.state.is_leased:
                # The first of its settlements kept it.
                shard.leases.pop(entry.sequence, None)
        for row, count in made.items():
            counts.moved(shard, row, count)
        for lane, count in gone.items():
            lane.depth -= count
        for lane, count in over.items():
            shard.lanes.count_tenant(lane.tenant_id, -count)
        shard.next_due_ms = self._next_due_ms
        for (session, lane), count in ended.items():
            lane.leased -= count
            shard.wake_others(session.release(lane.key, count), lane.key)

    def rolled_back(self) -> None:
        """Nothing was stored: the leases go on."""
        self._shard.leases.restore(entry for entry, *_ in self._moves)
        if self._outcomes:
            self._shard.outcomes.rolled_back()

    def replies(self) -> list[tuple[SettleBatch, SettleResult]]:
        """The answers."""
        return self._results

    def _plan(
        self, entry: Entry, settle: Settle, place: Place, progress: Progress | None, handover: bytes | None
    ) -> None:
        """The write of a settlement that does not end in an outcome."""
        shard = self._shard
        if place is Place.DEAD_LETTERS:
            self._bury(entry, progress or FRESH, settle.condition, settle.payload[:MAX_DEAD_RESPONSE_BYTES])
        elif place is Place.DELAYED:
            due_ms = shard.now_ms + settle.delay_ms
            if handover is None:
                # Never past its age: then it is handed out to be ended. A record has no age.
                due_ms = max(shard.now_ms, min(due_ms, entry.expires_at_ms))
            delayed_id = shard.new_delayed_id(due_ms)
            self._delays += (entry.sequence, delayed_id, entry.lane.lane_id, *(progress or FRESH), handover)
            self._next_due_ms = min(self._next_due_ms, due_ms)
        elif progress is not entry.progress or handover is not entry.handover:
            self._updates[entry.sequence] = (*(progress or FRESH), handover)

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
            *progress,
        )


def _stale(settle: Settle) -> EvenflowError:
    return EvenflowError(
        Reason.ERROR_REASON_RECEIPT_EXPIRED,
        "the lease has moved on: its time ran out, or it was settled before",
        metadata={"sequence": str(settle.sequence)},
    )


# Looked up once: these are compared for every settlement.
_OUTCOMES = Place.OUTCOMES
_CONFIRM = int(Input.CONFIRM)
_DELIVERIES_EXHAUSTED = event_pb2.CONDITION_DELIVERIES_EXHAUSTED
