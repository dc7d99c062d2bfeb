"""Lanes in memory: a bounded window of each lane's next events; the backlog behind it stays on disk."""

from collections import deque
from typing import Any

from evenflow.common.v1.event_pb2 import Event

from services.policy.fair import FairOrder
from services.queue.database import Database
from services.queue.domain import LANE_SHIFT, MAX_LANES, PLACE_MASK, PROGRESS_COLUMNS, ZONE_SHIFT, Entry, Progress
from services.queue.states import Place, stored_state

ENTRY_COLUMNS = f"request_id, expires_at_ms, enqueued_at_ms, body_hash, {PROGRESS_COLUMNS}, handover, event"
# What an event in memory takes beside its bytes: the entry and its fields.
ENTRY_OVERHEAD_BYTES = 700
# A lane without room in the shard's bytes may still load so many, so that nobody is starved by others' windows.
MIN_REFILL_EVENTS = 4
# Lanes in memory beyond which empty ones are dropped.
MAX_IDLE_LANES = 4_096
_REFILL = f"SELECT sequence, {ENTRY_COLUMNS} FROM events WHERE sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?"


class Lane:
    """One function of one tenant. The window holds its available events up to `window_end`; the rest is on disk."""

    __slots__ = (
        "delayed",
        "depth",
        "function_name",
        "is_parked",
        "key",
        "lane_id",
        "last_sequence",
        "leased",
        "ready",
        "tenant_id",
        "window_end",
        "zone",
        "zone_expires_at_ms",
    )

    def __init__(
        self, lane_id: int, tenant_id: str, function_name: str, last_sequence: int, depth: int, delayed: int
    ) -> None:
        self.lane_id = lane_id
        self.tenant_id = tenant_id
        self.function_name = function_name
        self.key = (tenant_id, function_name)
        # Rows in the events table, leased ones included.
        self.depth = depth
        # Rows in the delayed table.
        self.delayed = delayed
        self.leased = 0
        self.ready: deque[Entry] = deque()
        self.last_sequence = last_sequence
        self.window_end = last_sequence if depth == 0 else lane_id << LANE_SHIFT
        self.zone = -1
        self.zone_expires_at_ms = 0
        # No poller may lease from it now; it is out of the fair order until that changes.
        self.is_parked = False

    @property
    def has_more(self) -> bool:
        """Whether rows above the window may be on disk."""
        return self.last_sequence > self.window_end

    def next_sequence(self) -> int:
        """The place of a new event."""
        self.last_sequence += 1
        return self.last_sequence


class Lanes:
    """The lanes of one shard, their windows and their fair order."""

    def __init__(self, database: Database, *, window_events: int, window_bytes: int) -> None:
        self._database = database
        self._window_events = window_events
        self._window_bytes = window_bytes
        self.resident_bytes = 0
        self.by_key: dict[tuple[str, str], Lane] = {}
        self._by_id: dict[int, Lane] = {}
        self.order: FairOrder[Lane] = FairOrder()
        self.parked: dict[tuple[str, str], Lane] = {}
        self.tenant_events: dict[str, int] = {}

    def load(self) -> int:
        """Take stock of the file; returns the rows in the events table."""
        # The others have none.
        counts = self._database.rows("SELECT lane_id, events, delayed FROM lane_counts WHERE events > 0 OR delayed > 0")
        for lane_id, depth, delayed in counts:
            self._load_lane(lane_id, depth, delayed)
        return sum(depth for _, depth, _ in counts)

    def get(self, tenant_id: str, function_name: str) -> Lane | None:
        """The lane if the shard ever had it."""
        lane = self.by_key.get((tenant_id, function_name))
        if lane is None:
            lane_id = self._database.value(
                "SELECT lane_id FROM lanes WHERE tenant_id = ? AND function_name = ?", (tenant_id, function_name)
            )
            if lane_id is not None:
                lane = self._load_lane(lane_id, 0, 0)
        return lane

    def create(self, tenant_id: str, function_name: str) -> Lane | None:
        """A new lane, inside the running transaction; None when the shard has all lanes that it may have."""
        if int(self._database.value("SELECT coalesce(max(lane_id), 0) FROM lanes")) >= MAX_LANES:
            return None
        self._database.connection.execute(
            "INSERT INTO lanes (tenant_id, function_name) VALUES (?, ?)", (tenant_id, function_name)
        )
        lane_id = self._database.connection.last_insert_rowid()
        return self._keep(Lane(lane_id, tenant_id, function_name, lane_id << LANE_SHIFT, 0, 0))

    def get_by_id(self, lane_id: int) -> Lane:
        """The lane of a row."""
        return self._by_id.get(lane_id) or self._load_lane(lane_id, 0, 0)

    def forget(self, lane: Lane) -> None:
        """Drop a lane from memory: it is empty, or its creation was rolled back."""
        self.order.discard(lane.tenant_id, lane)
        self.parked.pop(lane.key, None)
        self.by_key.pop(lane.key, None)
        self._by_id.pop(lane.lane_id, None)

    def drop_idle(self) -> None:
        """Forget empty lanes when there are many."""
        if len(self.by_key) > MAX_IDLE_LANES:
            for lane in [lane for lane in self.by_key.values() if not (lane.depth or lane.delayed or lane.leased)]:
                self.forget(lane)

    def count_tenant(self, tenant_id: str, change: int) -> None:
        """Keep the tenant's number of unfinished events."""
        left = self.tenant_events.get(tenant_id, 0) + change
        if left > 0:
            self.tenant_events[tenant_id] = left
        else:
            self.tenant_events.pop(tenant_id, None)

    def appended(self, lane: Lane, entry: Entry) -> None:
        """A new row is durable: into the window when nothing waits on disk before it and there is room."""
        sequence = entry.sequence
        if lane.depth == 0:
            lane.window_end = sequence - 1
        lane.depth += 1
        entry.lane = lane
        size = entry.event_bytes + ENTRY_OVERHEAD_BYTES
        if (
            lane.window_end == sequence - 1
            and len(lane.ready) < self._window_events
            and not lane.is_parked
            and self.resident_bytes + size <= self._window_bytes
        ):
            lane.window_end = sequence
            lane.ready.append(entry)
            self.resident_bytes += size
        if not lane.is_parked:
            self.order.add(lane.tenant_id, lane)

    def give_back(self, entry: Entry) -> None:
        """A leased entry is available again: first in its lane."""
        lane = entry.lane
        lane.ready.appendleft(entry)
        self.resident_bytes += resident_size(entry)
        self.offer(lane)

    def offer(self, lane: Lane) -> None:
        """The lane may have something to give."""
        if not lane.is_parked:
            self.order.add(lane.tenant_id, lane)

    def park(self, lane: Lane) -> None:
        """No poller may lease from it: out of the order; its window is given up when memory is short."""
        lane.is_parked = True
        self.order.discard(lane.tenant_id, lane)
        self.parked[lane.key] = lane
        if self.resident_bytes * 2 > self._window_bytes:
            self.evict(lane)

    def unpark(self, key: tuple[str, str]) -> None:
        """A poller may lease from it again."""
        lane = self.parked.pop(key, None)
        if lane is not None:
            lane.is_parked = False
            self.offer(lane)

    def evict(self, lane: Lane) -> None:
        """Give up the window; leased rows are passed over when it is loaded again."""
        self.resident_bytes -= sum(map(resident_size, lane.ready))
        lane.ready.clear()
        lane.window_end = lane.lane_id << LANE_SHIFT

    def remove_claimed(self, lane: Lane, claimed: set[int]) -> None:
        """Take events that were set aside out of the window."""
        kept: deque[Entry] = deque()
        for entry in lane.ready:
            if entry.sequence not in claimed:
                kept.append(entry)
            else:
                self.resident_bytes -= resident_size(entry)
        lane.ready = kept

    def refill(self, lane: Lane, taken: "dict[int, Entry]", claimed: set[int]) -> bool:
        """Load the next events of the lane; False when it has none but those in `taken` and `claimed`."""
        while lane.has_more:
            room = self._window_bytes - self.resident_bytes
            limit = self._window_events if room > 0 else min(MIN_REFILL_EVENTS, self._window_events)
            rows = self._database.connection.execute(_REFILL, (lane.window_end, lane.last_sequence, limit))
            loaded, last = False, lane.last_sequence
            count = 0
            for row in rows:
                count += 1
                last = row[0]
                if last in taken or last in claimed:
                    continue
                entry = entry_from(row, lane)
                loaded = True
                lane.ready.append(entry)
                self.resident_bytes += entry.event_bytes + ENTRY_OVERHEAD_BYTES
                if self.resident_bytes > self._window_bytes and len(lane.ready) >= MIN_REFILL_EVENTS:
                    break
            else:
                if count < limit:
                    last = lane.last_sequence
            lane.window_end = last
            if loaded:
                return True
        return False

    def _load_lane(self, lane_id: int, depth: int, delayed: int) -> Lane:
        tenant_id, function_name = self._database.rows(
            "SELECT tenant_id, function_name FROM lanes WHERE lane_id = ?", (lane_id,)
        )[0]
        first = lane_id << LANE_SHIFT
        last = self._database.value("SELECT max(sequence) FROM events WHERE sequence <= ?", (first | PLACE_MASK,))
        lane = Lane(lane_id, tenant_id, function_name, max(first, last or 0), depth, delayed)
        self._keep(lane)
        if depth or delayed:
            self.count_tenant(tenant_id, depth + delayed)
        if depth:
            self.offer(lane)
        return lane

    def _keep(self, lane: Lane) -> Lane:
        self.by_key[lane.key] = lane
        self._by_id[lane.lane_id] = lane
        return lane


def resident_size(entry: Entry) -> int:
    """Bytes that an entry takes in memory, about."""
    return ENTRY_OVERHEAD_BYTES + (entry.event_bytes if entry.event is not None else 0)


def entry_from(row: tuple[Any, ...], lane: Lane) -> Entry:
    """The entry of a row of (sequence, ENTRY_COLUMNS...)."""
    sequence, request_id, expires_at_ms, enqueued_at_ms, body_hash = row[:5]
    event = Event.FromString(row[16])
    trace = event.trace
    entry = Entry(
        0,
        request_id,
        lane.tenant_id,
        lane.function_name,
        event.qualifier,
        row[16],
        event.accepted_at_ms,
        expires_at_ms,
        trace.traceparent,
        trace.tracestate,
        body_hash,
    )
    entry.sequence = sequence
    entry.enqueued_at_ms = enqueued_at_ms
    progress = Progress(*row[5:15])
    entry.progress = progress if progress.attempts or progress.deliveries or progress.throttles else None
    if entry.progress is None and (progress.function_errors or progress.error_type or progress.first_started_at_ms):
        entry.progress = progress
    entry.handover = row[15]
    entry.state = stored_state(Place.EVENTS, has_handover=row[15] is not None)
    entry.lane = lane
    return entry


def zone_of(sequence: int) -> int:
    """The expiry zone of a row."""
    return sequence >> ZONE_SHIFT
