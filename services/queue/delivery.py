"""Leases: which poller gets which events, in fair order, within its credits and limits."""

from typing import TYPE_CHECKING

from services.queue import lease_wire
from services.queue.database import Bulk
from services.queue.domain import Entry
from services.queue.lanes import Lane, resident_size
from services.queue.lease_wire import LeaseBatch
from services.queue.sessions import PollerSession

if TYPE_CHECKING:
    from services.queue.shard import Shard

# A drain delivers at most so many leases before commands are looked at again.
MAX_DELIVERY_EVENTS = 2_000
LEASE_OVERHEAD_BYTES = 64
_READ = Bulk("SELECT sequence, event FROM events WHERE sequence IN ({rows})", 1)


def deliver(shard: "Shard") -> tuple[list[tuple[PollerSession, list[Entry]]], bool]:
    """Lease what may be leased to the pollers that want it; also whether there is more to give at once."""
    sessions = shard.sessions.active
    if not sessions or (not len(shard.lanes.order) and not shard.expired):
        for session in sessions:
            shard.wake_others(session.pass_on(shard.shard_id), None)
        return [], False
    shard.turn += 1
    first = shard.turn % len(sessions)
    leased: list[tuple[PollerSession, list[Entry]]] = []
    again = False
    share = max(1, MAX_DELIVERY_EVENTS // len(sessions))
    for session in (*sessions[first:], *sessions[:first]):
        waiting = shard.event_count - len(shard.leases)
        if waiting <= 0:
            shard.wake_others(session.pass_on(shard.shard_id), None)
            continue
        part = min(share, max(1, waiting // len(sessions)))
        events, payload_bytes = session.take_credit(shard.shard_id, part)
        if not events:
            continue
        taker = _Taker(shard, session, events, payload_bytes)
        try:
            taker.run()
        except BaseException:
            # The shard is opened anew; the poller's room must not be lost with it.
            session.return_credit(shard.shard_id, events, payload_bytes)
            raise
        unused = events - len(taker.taken)
        shard.wake_others(session.return_credit(shard.shard_id, unused, taker.bytes_left), None)
        if taker.taken:
            leased.append((session, taker.taken))
            again = again or unused == 0 or len(sessions) > 1
    # A lane that no poller may have leaves the order until a limit or a lease changes.
    for lane, blocked_for in shard.blocked.items():
        if len(blocked_for) >= len(sessions):
            shard.lanes.park(lane)
    shard.blocked.clear()
    return leased, again


class _Taker:
    def __init__(self, shard: "Shard", session: PollerSession, events: int, payload_bytes: int) -> None:
        self._shard = shard
        self._session = session
        self._events = events
        self.bytes_left = payload_bytes
        self.taken: list[Entry] = []

    def run(self) -> None:
        shard = self._shard
        while shard.expired and len(self.taken) < self._events and self.bytes_left > 0:
            # Events past their age are handed out whatever the limits: nothing will run.
            entry = shard.expired.popleft()
            shard.claimed.discard(entry.sequence)
            self._session.force_acquire(entry.lane.key)
            self._lease(entry)
        if len(self.taken) < self._events and self.bytes_left > 0:
            shard.lanes.order.take(self._events - len(self.taken), self._take_from)

    def _take_from(self, lane: Lane, offer: int) -> int:
        shard, session = self._shard, self._session
        ready = lane.ready
        if not ready and not shard.lanes.refill(lane, shard.leases, shard.claimed):
            shard.lanes.order.discard(lane.tenant_id, lane)
            return 0
        if self.bytes_left <= 0:
            return 0
        wanted = min(offer, len(ready))
        granted = session.acquire(lane.key, wanted, shard.shard_id)
        count = 0
        while count < granted and self.bytes_left > 0:
            entry = ready.popleft()
            shard.lanes.resident_bytes -= resident_size(entry)
            self._lease(entry)
            count += 1
        if count < granted:
            # Its bytes are used up, not its limit: whoever that held up may have what was too much.
            shard.wake_others(session.release(lane.key, granted - count), lane.key)
        elif granted < wanted:
            # A lane comes round more than once while others give: it counts each poller once.
            shard.blocked.setdefault(lane, set()).add(session)
        elif not ready and not lane.has_more:
            shard.lanes.order.discard(lane.tenant_id, lane)
        return count

    def _lease(self, entry: Entry) -> None:
        self.bytes_left -= entry.event_bytes + LEASE_OVERHEAD_BYTES
        self._shard.leases.grant(entry, self._session)
        self.taken.append(entry)


def batches(shard: "Shard", entries: list[Entry]) -> list[LeaseBatch]:
    """The leases as they are sent; the events' bytes leave memory with them."""
    missing = [entry.sequence for entry in entries if entry.event is None]
    stored = dict(_READ.query(shard.database.connection, missing)) if missing else {}
    with_events = [(entry, entry.event if entry.event is not None else stored[entry.sequence]) for entry in entries]
    for entry in entries:
        entry.event = None
    return lease_wire.batches(shard.shard_id, shard.settings.visibility_timeout_ms, shard.now_ms, with_events)
