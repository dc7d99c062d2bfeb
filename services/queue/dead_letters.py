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
from services.queue.lane_counts import LaneChanges
from services.queue.lanes import ENTRY_COLUMNS, Lane, entry_from, zone_of
from services.queue.states import State
from services.queue.transitions import Input, transition

if TYPE_CHECKING:
    from services.queue.shard import Shard

# Bounds of one turn on the shard's thread: others' events go in between.
PAGE_BATCH = 200
REDRIVE_BATCH = 100
PURGE_BATCH = 250
BATCH_BYTES = 1 << 20
# Index entries looked at in one turn where two filters meet.
SCAN_ROWS = 20_000
_PURGED = transition(State.DEAD, Input.PURGE)
_REDRIVEN = transition(State.DEAD, Input.REDRIVE)
_FORGOTTEN = transition(State.DEAD, Input.FORGET)
_INSERT = Bulk(f"INSERT INTO events (sequence, {ENTRY_COLUMNS}) VALUES {{rows}}", 17)
_DELETE = Bulk("DELETE FROM dead_letters WHERE dead_id IN ({rows})", 1)
_READ = Bulk("SELECT dead_id, lane_id, event, body_hash FROM dead_letters WHERE dead_id IN ({rows})", 1)
_SIZE = "dead_id, length(event) + length(response_payload)"
_ANY = "dead_letters INDEXED BY dead_letters_by_tenant WHERE tenant_id = ?"
_OF_LANE = "dead_letters INDEXED BY dead_letters_by_lane WHERE lane_id = ?"
_OF_ERROR = "dead_letters INDEXED BY dead_letters_by_error WHERE tenant_id = ? AND error_type = ?"
_AFTER = "dead_id > ? ORDER BY dead_id LIMIT ?"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters; an empty field means any."""

    tenant_id: str
    request_id: bytes = b""
    function_name: str = ""
    error_type: str = ""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Dead letters of one turn, oldest first, and the id to go on behind; 0: there are no more."""

    dead_ids: list[int]
    next_id: int


class Moved(int):
    """How many dead letters one turn moved, and behind which id the next turn goes on (0: there are no more)."""

    next_id: int

    def __new__(cls, count: int, next_id: int) -> "Moved":
        """The count with its id."""
        made = super().__new__(cls, count)
        made.next_id = next_id
        return made


def choose(shard: "Shard", which: Filter, after_id: int, limit: int) -> Chosen:
    """Up to `limit` behind this id, at most BATCH_BYTES (or one larger); fewer where the looking itself is bounded."""
    connection = shard.database.connection
    lane_id = -1
    if which.function_name:
        lane = shard.lanes.get(which.tenant_id, which.function_name)
        if lane is None:
            return Chosen([], 0)
        lane_id = lane.lane_id
    if which.request_id:
        return _choose_one(shard, which, lane_id, after_id)
    end_id = 0
    if which.function_name and which.error_type:
        # The lane stands in the index of errors: rows of others are passed over without a look at the table.
        source = f"SELECT dead_id, lane_id FROM {_OF_ERROR} AND {_AFTER}"
        bindings: tuple[Any, ...] = (which.tenant_id, which.error_type, after_id, SCAN_ROWS, lane_id, limit + 1)
        ids_only = f"SELECT dead_id FROM ({source}) WHERE lane_id = ? LIMIT ?"
        sql = f"SELECT {_SIZE} FROM dead_letters WHERE dead_id IN ({ids_only}) ORDER BY dead_id"
        last = f"SELECT dead_id FROM {_OF_ERROR} AND dead_id > ? ORDER BY dead_id LIMIT 1 OFFSET ?"
        end_id = int(shard.database.value(last, (which.tenant_id, which.error_type, after_id, SCAN_ROWS - 1)) or 0)
    elif which.error_type:
        sql, bindings = (
            f"SELECT {_SIZE} FROM {_OF_ERROR} AND {_AFTER}",
            (which.tenant_id, which.error_type, after_id, limit + 1),
        )
    elif which.function_name:
        sql, bindings = f"SELECT {_SIZE} FROM {_OF_LANE} AND {_AFTER}", (lane_id, after_id, limit + 1)
    else:
        sql, bindings = f"SELECT {_SIZE} FROM {_ANY} AND {_AFTER}", (which.tenant_id, after_id, limit + 1)
    chosen: list[int] = []
    size = 0
    for dead_id, row_bytes in connection.execute(sql, bindings):
        size += row_bytes
        if len(chosen) == limit or (chosen and size > BATCH_BYTES):
            return Chosen(chosen, chosen[-1])
        chosen.append(dead_id)
    return Chosen(chosen, end_id)


def _choose_one(shard: "Shard", which: Filter, lane_id: int, after_id: int) -> Chosen:
    sql = "SELECT dead_id, lane_id, error_type FROM dead_letters WHERE request_id = ? AND tenant_id = ? AND dead_id > ?"
    for dead_id, its_lane, error_type in shard.database.rows(sql, (which.request_id, which.tenant_id, after_id)):
        if lane_id in (-1, its_lane) and which.error_type in ("", error_type):
            return Chosen([dead_id], 0)
    return Chosen([], 0)


def page(shard: "Shard", which: Filter, after_id: int, limit: int) -> tuple[list[queue_pb2.DeadLetterEntry], int]:
    """Some dead letters behind this id, oldest first, and the id to go on behind; 0: there are no more."""
    chosen = choose(shard, which, after_id, min(limit, PAGE_BATCH))
    sql = f"{status.SELECT_DEAD} WHERE dead_id = ?"
    rows = [row for dead_id in chosen.dead_ids for row in shard.database.rows(sql, (dead_id,))]
    return [status.dead_entry(shard, row, whole=False) for row in rows], chosen.next_id


def show(shard: "Shard", tenant_id: str, request_id: bytes) -> queue_pb2.DeadLetterEntry | None:
    """One dead letter with its payload."""
    sql = f"{status.SELECT_DEAD} WHERE tenant_id = ? AND request_id = ?"
    for row in shard.database.rows(sql, (tenant_id, request_id)):
        return status.dead_entry(shard, row, whole=True)
    return None


def purge(shard: "Shard", which: Filter, limit: int, after_id: int = 0) -> Callable[[], Moved]:
    """Delete some behind this id, inside the running transaction; returns what is to run after it."""
    chosen = choose(shard, which, after_id, min(limit, PURGE_BATCH))
    count = _DELETE.run(shard.database.connection, chosen.dead_ids)

    def purged() -> Moved:
        counts.moved(shard, _PURGED, count)
        return Moved(count, chosen.next_id)

    return purged


def redrive(shard: "Shard", which: Filter, limit: int, after_id: int = 0) -> Callable[[], Moved]:
    """Make some behind this id available again as fresh events with their ids, inside the running transaction.

    Returns what is to run after it.
    """
    chosen = choose(shard, which, after_id, min(limit, REDRIVE_BATCH))
    found = sorted(_READ.query(shard.database.connection, chosen.dead_ids))
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
        changes = LaneChanges()
        changes.events.update(lane for _, lane in inserted)
        changes.write(connection)

    def redriven() -> Moved:
        for row, lane in inserted:
            shard.lanes.appended(lane, entry_from(row, lane))
            shard.lanes.count_tenant(lane.tenant_id, 1)
        counts.moved(shard, _REDRIVEN, len(inserted))
        shard.next_expiry_ms = min(shard.next_expiry_ms, *zones.values()) if zones else shard.next_expiry_ms
        return Moved(len(inserted), chosen.next_id)

    return redriven


def any_before(shard: "Shard", before_ms: int) -> bool:
    """Whether the oldest one died before."""
    oldest = shard.database.value("SELECT dead_at_ms FROM dead_letters ORDER BY dead_id LIMIT 1")
    return oldest is not None and int(oldest) < before_ms


def expire(shard: "Shard", before_ms: int) -> Callable[[], bool]:
    """Delete some that died before, inside the running transaction; what is to run after it tells whether more did."""
    overdue: list[int] = []
    size = 0
    is_more = False
    # The ids follow the times of death.
    sql = f"SELECT {_SIZE}, dead_at_ms FROM dead_letters ORDER BY dead_id LIMIT ?"
    for dead_id, row_bytes, dead_at_ms in shard.database.connection.execute(sql, (PURGE_BATCH + 1,)):
        if dead_at_ms >= before_ms:
            break
        size += row_bytes
        if len(overdue) == PURGE_BATCH or (overdue and size > BATCH_BYTES):
            is_more = True
            break
        overdue.append(dead_id)
    count = _DELETE.run(shard.database.connection, overdue)

    def expired() -> bool:
        counts.moved(shard, _FORGOTTEN, count)
        return is_more

    return expired
