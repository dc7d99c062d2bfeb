"""The dead letters of a shard: list, show, redrive and purge, each call bounded."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evenflow.common.v1.event_pb2 import Event
from evenflow.queue.v1 import queue_pb2

from services.queue import counts, status
from services.queue.database import Bulk
from services.queue.domain import FRESH
from services.queue.intake import SET_ZONE
from services.queue.lanes import ENTRY_COLUMNS, Lane, entry_from, zone_of
from services.queue.states import State
from services.queue.transitions import Input, transition

if TYPE_CHECKING:
    from services.queue.shard import Shard

# Of one transaction: others' events go in between.
REDRIVE_BATCH = 200
_PURGED = transition(State.DEAD, Input.PURGE)
_REDRIVEN = transition(State.DEAD, Input.REDRIVE)
_INSERT = Bulk(f"INSERT INTO events (sequence, {ENTRY_COLUMNS}) VALUES {{rows}}", 17)
_DELETE = Bulk("DELETE FROM dead_letters WHERE dead_id IN ({rows})", 1)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters; an empty field means any."""

    tenant_id: str
    request_id: bytes = b""
    function_name: str = ""
    error_type: str = ""

    def clause(self, shard: "Shard") -> tuple[str, list[Any]]:
        """The WHERE clause and its values."""
        clause, values = "tenant_id = ?", [self.tenant_id]
        bindings: list[Any] = list(values)
        if self.request_id:
            clause += " AND request_id = ?"
            bindings.append(self.request_id)
        if self.function_name:
            lane = shard.lanes.get(self.tenant_id, self.function_name)
            clause += " AND lane_id = ?"
            bindings.append(lane.lane_id if lane is not None else -1)
        if self.error_type:
            clause += " AND error_type = ?"
            bindings.append(self.error_type)
        return clause, bindings


def page(shard: "Shard", which: Filter, after_id: int, limit: int) -> tuple[list[queue_pb2.DeadLetterEntry], int]:
    """Dead letters after this id, oldest first, and the id to go on from; 0: that was the last page."""
    clause, values = which.clause(shard)
    sql = f"{status.SELECT_DEAD} WHERE {clause} AND dead_id > ? ORDER BY dead_id LIMIT ?"
    rows = shard.database.rows(sql, (*values, after_id, limit + 1))
    more = len(rows) > limit
    rows = rows[:limit]
    return [status.dead_entry(shard, row, whole=False) for row in rows], rows[-1][0] if more else 0


def show(shard: "Shard", tenant_id: str, request_id: bytes) -> queue_pb2.DeadLetterEntry | None:
    """One dead letter with its payload."""
    sql = f"{status.SELECT_DEAD} WHERE tenant_id = ? AND request_id = ?"
    for row in shard.database.rows(sql, (tenant_id, request_id)):
        return status.dead_entry(shard, row, whole=True)
    return None


def purge(shard: "Shard", which: Filter, limit: int) -> Callable[[], int]:
    """Delete up to `limit`, inside the running transaction; returns what is to run after it, which tells how many."""
    clause, values = which.clause(shard)
    shard.database.connection.execute(
        f"DELETE FROM dead_letters WHERE dead_id IN "
        f"(SELECT dead_id FROM dead_letters WHERE {clause} ORDER BY dead_id LIMIT ?)",
        (*values, limit),
    )
    count = shard.database.connection.changes()

    def purged() -> int:
        counts.moved(shard, _PURGED, count)
        return count

    return purged


def redrive(shard: "Shard", which: Filter, limit: int) -> Callable[[], int]:
    """Make up to `limit` available again as fresh events with their ids, inside the running transaction."""
    clause, values = which.clause(shard)
    sql = f"SELECT dead_id, lane_id, event, body_hash FROM dead_letters WHERE {clause} ORDER BY dead_id LIMIT ?"
    found = shard.database.rows(sql, (*values, limit))
    inserted: list[tuple[tuple[Any, ...], Lane]] = []
    zones: dict[int, int] = {}
    for _, lane_id, stored, body_hash in found:
        event = Event.FromString(stored)
        # A fresh life: the same age from now on, no counters.
        event.expires_at_ms = shard.now_ms + max(1, event.expires_at_ms - event.accepted_at_ms)
        event.accepted_at_ms = shard.now_ms
        lane = shard.lanes.get_by_id(lane_id)
        sequence = lane.next_sequence()
        ids = (event.request_id, event.expires_at_ms, shard.now_ms, body_hash)
        row = (sequence, *ids, *FRESH, None, event.SerializeToString())
        inserted.append((row, lane))
        zones[zone_of(sequence)] = min(event.expires_at_ms, zones.get(zone_of(sequence), event.expires_at_ms))
    if found:
        connection = shard.database.connection
        _INSERT.run(connection, [value for row, _ in inserted for value in row])
        _DELETE.run(connection, [row[0] for row in found])
        connection.executemany(SET_ZONE, list(zones.items()))

    def redriven() -> int:
        for row, lane in inserted:
            shard.lanes.appended(lane, entry_from(row, lane))
            shard.lanes.count_tenant(lane.tenant_id, 1)
        counts.moved(shard, _REDRIVEN, len(inserted))
        shard.next_expiry_ms = min(shard.next_expiry_ms, *zones.values()) if zones else shard.next_expiry_ms
        return len(inserted)

    return redriven
