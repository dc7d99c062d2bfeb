"""What is told of a finished event: the record for a destination, and what a dead-letter queue has beside an event."""

import hashlib
import uuid

from evenflow.common.v1 import event_pb2
from evenflow.queue.v1 import queue_pb2

from services.policy import lineage, records
from services.policy.destinations import SMALL_MESSAGE_BYTES
from services.poller import settlements
from services.poller.held import Held
from services.shared import ids

# The year 9999: beyond it a time cannot be written down.
MAX_RECORD_TIME_MS = 253_370_764_800_000
RAN = (event_pb2.OUTCOME_STATUS_SUCCEEDED, event_pb2.OUTCOME_STATUS_FUNCTION_ERROR)
# The HTTP status that each ending would have had, as dead-letter queues are told it: a function error is a 200.
_CODES = {
    event_pb2.OUTCOME_STATUS_SUCCEEDED: 200,
    event_pb2.OUTCOME_STATUS_FUNCTION_ERROR: 200,
    event_pb2.OUTCOME_STATUS_THROTTLED: 429,
}
_SYSTEM_ERROR = 500
_RECURSION = 400
_THROTTLED_TEXT = "Rate Exceeded."


def condition_of(handover: queue_pb2.Handover) -> str:
    """The condition under the name that records have for it."""
    return settlements.CONDITION_NAMES.get(handover.condition, "Unknown")


def ended_at_ms(handover: queue_pb2.Handover, now_ms: int) -> int:
    """When the run ended, so that a repeated record is the same to the byte; where none ran, when it was given up."""
    outcome = handover.outcome
    ended_ms = handover.ended_at_ms
    if outcome.started_at_unix_nano:
        ended_ms = (outcome.started_at_unix_nano + outcome.duration_us * 1_000) // 1_000_000
    return ended_ms if 0 < ended_ms < MAX_RECORD_TIME_MS else now_ms


def record_of(held: Held, handover: queue_pb2.Handover, function_arn: str, ended_ms: int) -> bytes:
    """The record, whole."""
    return _record(held, handover, function_arn, ended_ms, held.event.payload, handover.outcome.response_payload)


def short_record_of(held: Held, handover: queue_pb2.Handover, function_arn: str, ended_ms: int) -> bytes:
    """The record without the event's payload, and without the response where that alone is too large."""
    response = handover.outcome.response_payload
    kept = response if len(response) < SMALL_MESSAGE_BYTES // 2 else None
    return _record(held, handover, function_arn, ended_ms, None, kept)


def object_key_of(held: Held, handover: queue_pb2.Handover, ended_ms: int) -> str:
    """Where a bucket gets the record: a repeat replaces the same object."""
    seed = held.event.request_id + handover.destination_arn.encode()
    unique = uuid.UUID(bytes=hashlib.sha256(seed).digest()[:16], version=4)
    return records.object_key(held.event.function_name, ended_ms, str(unique))


def error_attributes_of(held: Held, handover: queue_pb2.Handover) -> dict[str, dict[str, str]]:
    """RequestID, ErrorCode and ErrorMessage of a dead letter."""
    outcome = handover.outcome
    if handover.condition == event_pb2.CONDITION_RECURSION_STOPPED:
        code = _RECURSION
    else:
        code = _CODES.get(outcome.status, _SYSTEM_ERROR)
    message = _THROTTLED_TEXT if code == _CODES[event_pb2.OUTCOME_STATUS_THROTTLED] else outcome.error_message
    message = message or outcome.error_type
    return records.error_attributes(ids.to_text(held.event.request_id), code, records.message_text(message))


def trace_header_of(held: Held) -> str:
    """The X-Ray header of what the event's end causes: one step further in its chain."""
    trace = held.delivery_trace or held.trace
    return lineage.trace_header(trace.traceparent, held.event.request_id, held.event.lineage.chain_depth)


def _record(
    held: Held,
    handover: queue_pb2.Handover,
    function_arn: str,
    ended_ms: int,
    request_payload: bytes | None,
    response_payload: bytes | None,
) -> bytes:
    outcome = handover.outcome
    response = None
    if outcome.status in RAN:
        is_error = outcome.status == event_pb2.OUTCOME_STATUS_FUNCTION_ERROR
        response = records.Response(response_payload, outcome.executed_version, is_error)
    return records.destination_record(
        timestamp_ms=ended_ms,
        request_id=ids.to_text(held.event.request_id),
        function_arn=function_arn,
        condition=condition_of(handover),
        invoke_count=held.runs_so_far,
        request_payload=request_payload,
        response=response,
    )
