"""What a shard knows of an event: live, delayed, dead or finished. Read on the shard's thread, bounded."""

from typing import TYPE_CHECKING, Any

from evenflow.common.v1 import event_pb2
from evenflow.queue.v1 import queue_pb2

from services.queue.domain import DUE_SHIFT, LANE_SHIFT, PLACE_MASK, Progress
from services.queue.lanes import ENTRY_COLUMNS, Lane, entry_from
from services.queue.outcomes import COLUMNS, facts_from
from services.queue.states import Place, State, stored_state

if TYPE_CHECKING:
    from services.queue.shard import Shard

# Bounds of one listing.
MAX_LISTED_LANES = 1_000
MAX_SCANNED_OUTCOMES = 20_000
_LIVE = f"SELECT sequence, {ENTRY_COLUMNS} FROM events"
_DELAYED = f"SELECT delayed_id, {ENTRY_COLUMNS}, lane_id FROM delayed"
SELECT_DEAD = (
    "SELECT dead_id, request_id, expires_at_ms, enqueued_at_ms, body_hash, function_errors, throttles, deliveries, "
    "attempts, first_started_at_ms, error_type, error_message, duration_us, executed_version, sandbox_id, NULL, event, "
    "lane_id, dead_at_ms, condition, response_payload FROM dead_letters"
)


def find(shard: "Shard", tenant_id: str, request_id: bytes) -> queue_pb2.EventStatus | None:
    """The event's status; None: unknown, of another tenant, or no longer kept."""
    database = shard.database
    for row in database.rows(f"{_LIVE} WHERE request_id = ?", (request_id,)):
        lane = shard.lanes.get_by_id(row[0] >> LANE_SHIFT)
        return live_status(shard, row, lane) if lane.tenant_id == tenant_id else None
    for row in database.rows(f"{_DELAYED} WHERE request_id = ?", (request_id,)):
        lane = shard.lanes.get_by_id(row[-1])
        return delayed_status(shard, row, lane) if lane.tenant_id == tenant_id else None
    for row in database.rows(f"{SELECT_DEAD} WHERE request_id = ? AND tenant_id = ?", (request_id, tenant_id)):
        return dead_status(shard, row)
    for bucket_id in shard.outcomes.bucket_ids:
        for row in database.rows(f"SELECT {COLUMNS} FROM outcomes_{bucket_id} WHERE request_id = ?", (request_id,)):
            lane = shard.lanes.get_by_id(row[1])
            return outcome_status(shard, row, lane) if lane.tenant_id == tenant_id else None
    return None


def list_events(shard: "Shard", tenant_id: str, function_name: str, limit: int) -> list[queue_pb2.EventStatus]:
    """The newest events of a tenant or of one function: live ones and kept outcomes, newest first."""
    database = shard.database
    if function_name:
        one = shard.lanes.get(tenant_id, function_name)
        lanes = {} if one is None else {one.lane_id: one}
    else:
        rows = database.rows("SELECT lane_id FROM lanes WHERE tenant_id = ? LIMIT ?", (tenant_id, MAX_LISTED_LANES))
        lanes = {row[0]: shard.lanes.get_by_id(row[0]) for row in rows}
    found: list[queue_pb2.EventStatus] = []
    for lane_id, lane in lanes.items():
        first = lane_id << LANE_SHIFT
        if lane.depth:
            sql = f"{_LIVE} WHERE sequence BETWEEN ? AND ? ORDER BY sequence DESC LIMIT ?"
            found += [live_status(shard, row, lane) for row in database.rows(sql, (first, first | PLACE_MASK, limit))]
    scan = (MAX_SCANNED_OUTCOMES, limit)
    if shard.delayed_count:
        sql = f"SELECT * FROM ({_DELAYED} ORDER BY delayed_id DESC LIMIT ?) WHERE lane_id IN ({_ids(lanes)}) LIMIT ?"
        found += [delayed_status(shard, row, lanes[row[-1]]) for row in database.rows(sql, scan)]
    if shard.dead_count:
        sql = f"{SELECT_DEAD} WHERE tenant_id = ? AND lane_id IN ({_ids(lanes)}) ORDER BY dead_id DESC LIMIT ?"
        found += [dead_status(shard, row) for row in database.rows(sql, (tenant_id, limit))]
    finished = 0
    for bucket_id in shard.outcomes.bucket_ids:
        if finished >= limit:
            break
        source = f"SELECT {COLUMNS} FROM outcomes_{bucket_id} ORDER BY request_id DESC LIMIT ?"
        rows = database.rows(f"SELECT * FROM ({source}) WHERE lane_id IN ({_ids(lanes)}) LIMIT ?", scan)
        found += [outcome_status(shard, row, lanes[row[1]]) for row in rows]
        finished += len(rows)
    found.sort(key=lambda status: -status.accepted_at_ms)
    return found[:limit]


def live_status(shard: "Shard", row: tuple[Any, ...], lane: Lane) -> queue_pb2.EventStatus:
    """Of a row of the events table."""
    status = _status_of(shard, row, lane)
    leased = shard.leases.get(row[0])
    state = leased.state if leased is not None else stored_state(Place.EVENTS, has_handover=row[15] is not None)
    status.state = state.reported
    return status


def delayed_status(shard: "Shard", row: tuple[Any, ...], lane: Lane) -> queue_pb2.EventStatus:
    """Of a row of the delayed table."""
    status = _status_of(shard, row, lane)
    status.state = stored_state(Place.DELAYED, has_handover=row[15] is not None).reported
    status.available_at_ms = row[0] >> DUE_SHIFT
    return status


def dead_status(shard: "Shard", row: tuple[Any, ...]) -> queue_pb2.EventStatus:
    """Of a row of the dead letters."""
    status = _status_of(shard, row, shard.lanes.get_by_id(row[17]))
    status.state = State.DEAD.reported
    status.finished_at_ms = row[18]
    status.condition = row[19]
    return status


def dead_entry(shard: "Shard", row: tuple[Any, ...], *, whole: bool) -> queue_pb2.DeadLetterEntry:
    """A dead letter; with its payload and response when `whole`."""
    entry = queue_pb2.DeadLetterEntry(status=dead_status(shard, row), dead_at_ms=row[18])
    if whole:
        entry.event.MergeFromString(row[16])
        entry.response_payload = row[20]
    return entry


def outcome_status(shard: "Shard", row: tuple[Any, ...], lane: Lane) -> queue_pb2.EventStatus:
    """Of a kept outcome."""
    facts = facts_from(row[3])
    status = queue_pb2.EventStatus(
        request_id=row[0],
        tenant_id=lane.tenant_id,
        function_name=lane.function_name,
        shard_id=shard.shard_id,
        state=facts.state,
        condition=facts.condition,
        accepted_at_ms=facts.accepted_at_ms,
        finished_at_ms=facts.finished_at_ms,
        expires_at_ms=facts.expires_at_ms,
        destination_arn=facts.destination_arn,
        qualifier=facts.qualifier,
        trace=event_pb2.TraceContext(traceparent=facts.traceparent, tracestate=facts.tracestate),
    )
    _set_progress(status, facts.progress)
    return status


def _status_of(shard: "Shard", row: tuple[Any, ...], lane: Lane) -> queue_pb2.EventStatus:
    entry = entry_from(row[:17], lane)
    status = queue_pb2.EventStatus(
        request_id=entry.request_id,
        tenant_id=lane.tenant_id,
        function_name=lane.function_name,
        qualifier=entry.qualifier,
        shard_id=shard.shard_id,
        accepted_at_ms=entry.accepted_at_ms,
        expires_at_ms=entry.expires_at_ms,
        trace=event_pb2.TraceContext(traceparent=entry.traceparent, tracestate=entry.tracestate),
    )
    if entry.progress is not None:
        _set_progress(status, entry.progress)
    if entry.handover is not None:
        handover = queue_pb2.Handover.FromString(entry.handover)
        status.condition = handover.condition
        status.destination_arn = handover.destination_arn or handover.dead_letter_arn
    return status


def _set_progress(status: queue_pb2.EventStatus, progress: Progress) -> None:
    for name in Progress._fields:
        setattr(status, name, getattr(progress, name))


def _ids(lanes: dict[int, Lane]) -> str:
    # Numbers of our own, not text of a caller's.
    return ", ".join(str(lane_id) for lane_id in lanes) or "NULL"
