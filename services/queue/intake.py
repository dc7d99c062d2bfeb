"""Enqueue: bounds, dedup and the insert of many batches in one transaction.

Dedup is exact and nearly free. A minted id is time-ordered, so an id above the highest one seen was never here; only
the others are looked up among delayed events, dead letters and outcomes. Rows of the events table are caught by its
unique index.
"""

from typing import TYPE_CHECKING, Any

from services.queue import counts
from services.queue.database import Bulk
from services.queue.domain import EnqueueBatch, EnqueueResult, Entry
from services.queue.lane_counts import LaneChanges
from services.queue.lanes import Lane, zone_of
from services.queue.states import State
from services.queue.transitions import Input, transition
from services.shared import ids
from services.shared.errors import EvenflowError, Reason

if TYPE_CHECKING:
    from services.queue.shard import Shard

FULL_RETRY_MS = 1_000
_MINTED_VERSION = 7
_INSERT = Bulk(
    "INSERT INTO events (sequence, request_id, expires_at_ms, enqueued_at_ms, body_hash, event) VALUES {rows} "
    "ON CONFLICT (request_id) DO NOTHING",
    6,
)
_FIND_LIVE = Bulk("SELECT request_id, sequence, body_hash FROM events WHERE request_id IN ({rows})", 1)
_FIND_DELAYED = Bulk("SELECT request_id, body_hash FROM delayed WHERE request_id IN ({rows})", 1)
_FIND_DEAD = Bulk("SELECT request_id, body_hash FROM dead_letters WHERE request_id IN ({rows})", 1)
SET_ZONE = (
    "INSERT INTO expiry_zones (zone, expires_at_ms) VALUES (?, ?) "
    "ON CONFLICT (zone) DO UPDATE SET expires_at_ms = min(expires_at_ms, excluded.expires_at_ms)"
)


_ENQUEUED = transition(State.GONE, Input.ENQUEUE)


class Intake:
    """Writes the batches of one drain; `committed` makes them visible in memory."""

    def __init__(self, shard: "Shard", changes: LaneChanges) -> None:
        self._shard = shard
        self._changes = changes
        self._results: list[tuple[EnqueueBatch, EnqueueResult]] = []
        self._inserted: list[tuple[Entry, Lane]] = []
        self._new_lanes: list[Lane] = []
        self._planned: dict[str, int] = {}
        self._zones: list[tuple[Lane, int, int]] = []
        self._highest = shard.highest_minted_id

    def write(self, batches: list[EnqueueBatch]) -> None:
        """Insert what may be inserted, inside the running transaction. apsw.Error."""
        taken: list[tuple[EnqueueBatch, EnqueueResult]] = []
        for batch in batches:
            result = EnqueueResult(refusal=self._shard.refusal(), event_refusals=batch.event_refusals)
            self._results.append((batch, result))
            if result.refusal is None:
                taken.append((batch, result))
        known = self._find_known(taken)
        rows: list[Any] = []
        owners: dict[bytes, tuple[Entry, EnqueueResult]] = {}
        repeats: list[tuple[Entry, EnqueueResult]] = []
        inserted, now_ms = self._inserted, self._shard.now_ms
        for batch, result in taken:
            for entry in batch.entries:
                request_id = entry.request_id
                if request_id in known:
                    _judge(entry, known[request_id], result)
                    continue
                if request_id in owners:
                    repeats.append((entry, result))
                    continue
                lane = self._place(entry, result)
                if lane is None:
                    continue
                owners[request_id] = (entry, result)
                entry.sequence = sequence = lane.next_sequence()
                entry.enqueued_at_ms = now_ms
                rows += (sequence, request_id, entry.expires_at_ms, now_ms, entry.body_hash, entry.event)
                inserted.append((entry, lane))
        if not rows:
            return
        connection = self._shard.database.connection
        stored: dict[bytes, bytes] = {}
        if _INSERT.run(connection, rows) != len(self._inserted):
            stored = self._drop_conflicts(owners)
        for entry, result in repeats:
            first = owners[entry.request_id][0]
            _judge(entry, stored.get(entry.request_id, first.body_hash), result)
        self._changes.events.update(lane for _, lane in self._inserted)
        self._write_zones()

    def committed(self) -> list[EnqueueBatch]:
        """Everything is durable: show it to the lanes."""
        shard = self._shard
        appended, now_ns, state = shard.lanes.appended, shard.wall_ns(), _ENQUEUED.after
        for entry, lane in self._inserted:
            entry.state = state
            entry.available_ns = now_ns
            appended(lane, entry)
        for tenant_id, count in self._planned.items():
            shard.lanes.count_tenant(tenant_id, count)
        for lane, zone, expires_at_ms in self._zones:
            lane.zone, lane.zone_expires_at_ms = zone, expires_at_ms
            shard.next_expiry_ms = min(shard.next_expiry_ms, expires_at_ms)
        counts.moved(shard, _ENQUEUED, len(self._inserted))
        shard.accepted_total += len(self._inserted)
        shard.highest_minted_id = self._highest
        return [batch for batch, _ in self._results]

    def rolled_back(self) -> None:
        """Nothing was stored."""
        for lane in self._new_lanes:
            self._shard.lanes.forget(lane)

    def replies(self) -> list[tuple[EnqueueBatch, EnqueueResult]]:
        """The answers, with the depth after the commit."""
        depth = self._shard.depth
        for _, result in self._results:
            result.depth = depth
        return self._results

    def _find_known(self, taken: list[tuple[EnqueueBatch, EnqueueResult]]) -> dict[bytes, bytes]:
        highest = self._shard.highest_minted_id
        minted: list[bytes] = []
        derived: list[bytes] = []
        for batch, _ in taken:
            for entry in batch.entries:
                request_id = entry.request_id
                if request_id[6] >> 4 != _MINTED_VERSION:
                    derived.append(request_id)
                elif request_id <= highest:
                    minted.append(request_id)
                elif request_id > self._highest:
                    self._highest = request_id
        known: dict[bytes, bytes] = {}
        suspects = minted + derived
        if not suspects:
            return known
        connection = self._shard.database.connection
        if self._shard.delayed_count:
            known.update(_FIND_DELAYED.query(connection, suspects))
        if self._shard.dead_count:
            known.update(_FIND_DEAD.query(connection, suspects))
        if derived:
            known.update(self._shard.outcomes.find(derived, 0))
        if minted:
            known.update(self._shard.outcomes.find(minted, int.from_bytes(min(minted)[:6], "big")))
        return known

    def _place(self, entry: Entry, result: EnqueueResult) -> Lane | None:
        lanes, tenant_id = self._shard.lanes, entry.tenant_id
        planned = self._planned.get(tenant_id, 0)
        if lanes.tenant_events.get(tenant_id, 0) + planned >= self._shard.settings.tenant_max_events:
            if not self._is_there(entry, result):
                result.event_refusals.append((entry.index, self._tenant_full(tenant_id)))
            return None
        key = (tenant_id, entry.function_name)
        lane = lanes.by_key.get(key) or lanes.get(*key)
        if lane is None:
            lane = lanes.create(*key)
            if lane is None:
                message = "this shard has events of too many different functions"
                refusal = EvenflowError(Reason.ERROR_REASON_TENANT_QUEUE_FULL, message, FULL_RETRY_MS)
                result.event_refusals.append((entry.index, refusal))
                return None
            self._new_lanes.append(lane)
        self._planned[tenant_id] = planned + 1
        # One object for all: an entry in a window would keep its own copies.
        entry.tenant_id, entry.function_name = lane.key
        return lane

    def _is_there(self, entry: Entry, result: EnqueueResult) -> bool:
        """Whether a live row has this id already: a repeat needs no room."""
        request_id = entry.request_id
        if not ids.is_derived(request_id) and request_id > self._shard.highest_minted_id:
            return False
        for _, _, body_hash in _FIND_LIVE.query(self._shard.database.connection, [request_id]):
            _judge(entry, body_hash, result)
            return True
        return False

    def _tenant_full(self, tenant_id: str) -> EvenflowError:
        message = (
            f"tenant {tenant_id} has {self._shard.settings.tenant_max_events} events in this shard; try again later"
        )
        metadata = {"limit": "queue.tenant_max_events"}
        return EvenflowError(Reason.ERROR_REASON_TENANT_QUEUE_FULL, message, FULL_RETRY_MS, metadata)

    def _drop_conflicts(self, owners: dict[bytes, tuple[Entry, EnqueueResult]]) -> dict[bytes, bytes]:
        """Take out what the unique index kept out; returns the body hashes of the rows that were there."""
        connection = self._shard.database.connection
        dropped: dict[bytes, bytes] = {}
        for request_id, sequence, body_hash in _FIND_LIVE.query(connection, list(owners)):
            entry, result = owners[request_id]
            if entry.sequence != sequence:
                _judge(entry, body_hash, result)
                dropped[request_id] = body_hash
                self._planned[entry.tenant_id] -= 1
                # Not stored by this batch: no span, no second sight of it.
                entry.sequence = 0
        self._inserted = [(entry, lane) for entry, lane in self._inserted if entry.request_id not in dropped]
        return dropped

    def _write_zones(self) -> None:
        lowest: dict[tuple[Lane, int], int] = {}
        for entry, lane in self._inserted:
            zone, expires_at_ms = zone_of(entry.sequence), entry.expires_at_ms
            if zone != lane.zone or expires_at_ms < lane.zone_expires_at_ms:
                key = (lane, zone)
                lowest[key] = min(expires_at_ms, lowest.get(key, expires_at_ms))
        if lowest:
            self._shard.database.connection.executemany(SET_ZONE, [(key[1], at_ms) for key, at_ms in lowest.items()])
            self._zones = [(lane, zone, at_ms) for (lane, zone), at_ms in lowest.items()]


def _judge(entry: Entry, body_hash: bytes, result: EnqueueResult) -> None:
    """A repeat of the same body is a duplicate; another body under the same token is refused."""
    if ids.is_derived(entry.request_id) and body_hash != entry.body_hash:
        result.event_refusals.append(
            (
                entry.index,
                EvenflowError(
                    Reason.ERROR_REASON_TOKEN_REUSED,
                    "the client token was used before with another body: use a new one",
                ),
            )
        )
    else:
        result.duplicate_indexes.append(entry.index)
