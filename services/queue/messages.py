"""Proto to domain: batches of events and settlements, checked against the contract's bounds."""

import hashlib
from collections.abc import Callable

from evenflow.common.v1 import event_pb2
from evenflow.queue.v1 import queue_pb2

from services.queue.domain import Action, Attempt, Cause, EnqueueBatch, EnqueueResult, Entry, Settle
from services.shared.errors import EvenflowError, Reason, invalid

MAX_BATCH_EVENTS = 1_000
MAX_BATCH_SETTLEMENTS = 1_000
# A payload of 1 MiB and room for the rest of the event.
MAX_EVENT_BYTES = (1 << 20) + (16 << 10)
MAX_NAME_LENGTH = 64
MAX_DELAY_MS = 6 * 3_600 * 1_000
HASH_BYTES = 16
# Versions of an id.
_MINTED, _DERIVED = 7, 8


def batch_from(
    request: queue_pb2.EnqueueRequest, arrived_ns: int, reply: Callable[[EnqueueResult], None]
) -> EnqueueBatch:
    """The batch as the shard takes it. EvenflowError INVALID_PARAMETER: as a whole it breaks the contract."""
    events = request.events
    if not 1 <= len(events) <= MAX_BATCH_EVENTS:
        raise invalid(f"a batch has 1 to {MAX_BATCH_EVENTS} events, not {len(events)}")
    shard_id = request.shard_id
    # The 16 bits of an id that name the shard, as they stand in bytes 6 to 8 (services/shared/ids.py).
    minted = bytes((_MINTED << 4 | (shard_id >> 12) & 0xF, (shard_id >> 4) & 0xFF))
    derived = bytes((_DERIVED << 4 | (shard_id >> 12) & 0xF, (shard_id >> 4) & 0xFF))
    eighth = (shard_id & 0xF) << 2
    entries: list[Entry] = []
    refusals: list[tuple[int, EvenflowError]] = []
    size = 0
    for index, event in enumerate(events):
        request_id = event.request_id
        head = request_id[6:8]
        if len(request_id) != 16 or (head != minted and head != derived) or (request_id[8] & 0x3C) != eighth:
            refusals.append((index, invalid(f"request_id is not one of shard {shard_id}")))
            continue
        tenant_id, function_name = event.tenant_id, event.function_name
        if not 0 < len(tenant_id) <= MAX_NAME_LENGTH or not 0 < len(function_name) <= MAX_NAME_LENGTH:
            refusals.append((index, invalid(f"tenant_id and function_name have 1 to {MAX_NAME_LENGTH} characters")))
            continue
        stored = event.SerializeToString()
        if len(stored) > MAX_EVENT_BYTES:
            message = f"the event has {len(stored)} bytes; at most {MAX_EVENT_BYTES} are allowed"
            refusals.append((index, EvenflowError(Reason.ERROR_REASON_REQUEST_TOO_LARGE, message)))
            continue
        size += len(stored)
        trace = event.trace
        qualifier = event.qualifier
        entries.append(
            Entry(
                index,
                request_id,
                tenant_id,
                function_name,
                qualifier,
                stored,
                event.accepted_at_ms,
                event.expires_at_ms,
                trace.traceparent,
                trace.tracestate,
                b"" if head == minted else body_hash(function_name, qualifier, event.payload),
            )
        )
    return EnqueueBatch(entries, size, arrived_ns, reply, refusals)


def body_hash(function_name: str, qualifier: str, payload: bytes) -> bytes:
    """What two submissions under one token must have in common."""
    head = f"{function_name}\x00{qualifier}\x00".encode()
    return hashlib.sha256(head + payload).digest()[:HASH_BYTES]


def response_from(batch_id: int, result: EnqueueResult) -> queue_pb2.EnqueueResponse:
    """The answer to a batch."""
    response = queue_pb2.EnqueueResponse(batch_id=batch_id, depth=result.depth)
    if result.refusal is not None:
        response.refusal.CopyFrom(result.refusal.to_detail())
        return response
    for index, error in sorted(result.event_refusals, key=lambda item: item[0]):
        response.event_refusals.add(index=index, error=error.to_detail())
    if result.duplicate_indexes:
        response.duplicate_indexes.extend(sorted(result.duplicate_indexes))
    return response


def settle_from(index: int, settlement: queue_pb2.Settlement) -> Settle:
    """One settlement as the shard takes it. EvenflowError INVALID_PARAMETER."""
    receipt = settlement.receipt
    attempt = _attempt_from(settlement.attempt) if settlement.HasField("attempt") else None
    sequence, fence = receipt.sequence, receipt.fence
    match settlement.WhichOneof("action"):
        case "ack":
            ack = settlement.ack
            return Settle(index, sequence, fence, _ACK, attempt, ack.condition, ack.destination_arn)
        case "release":
            release = settlement.release
            if release.cause not in _CAUSES:
                raise invalid(f"settlement {index}: a release says its cause")
            if not 0 <= release.delay_ms <= MAX_DELAY_MS:
                raise invalid(f"settlement {index}: delay_ms must be within 0 to {MAX_DELAY_MS}")
            return Settle(
                index,
                sequence,
                fence,
                Action.RELEASE,
                attempt,
                delay_ms=release.delay_ms,
                cause=Cause(release.cause),
                error_type=release.error_type,
                error_message=release.error_message,
            )
        case "handover":
            handover = settlement.handover
            outcome = handover.outcome
            return Settle(
                index,
                sequence,
                fence,
                Action.HANDOVER,
                attempt,
                handover.condition,
                error_type=outcome.error_type,
                error_message=outcome.error_message,
                payload=handover.SerializeToString(),
            )
        case "dead_letter":
            dead = settlement.dead_letter
            return Settle(
                index,
                sequence,
                fence,
                Action.DEAD_LETTER,
                attempt,
                dead.condition,
                error_type=dead.error_type,
                error_message=dead.error_message,
                payload=dead.response_payload,
            )
        case "extend":
            return Settle(index, sequence, fence, Action.EXTEND)
        case "confirm":
            if settlement.confirm.part not in _PARTS:
                raise invalid(f"settlement {index}: a confirmation says which part")
            return Settle(index, sequence, fence, Action.CONFIRM, part=settlement.confirm.part)
    raise invalid(f"settlement {index} has no action")


_ACK = Action.ACK
_FUNCTION_ERROR = int(event_pb2.OUTCOME_STATUS_FUNCTION_ERROR)
_CAUSES = frozenset(int(cause) for cause in Cause)
_PARTS = (queue_pb2.HANDOVER_PART_DESTINATION, queue_pb2.HANDOVER_PART_DEAD_LETTER_QUEUE)
_NOT_COUNTED = (
    event_pb2.OUTCOME_STATUS_UNSPECIFIED,
    event_pb2.OUTCOME_STATUS_THROTTLED,
    event_pb2.OUTCOME_STATUS_SYSTEM_ERROR,
)


def _attempt_from(record: queue_pb2.AttemptRecord) -> Attempt:
    status = record.status
    return Attempt(
        record.started_at_ms,
        record.duration_us,
        status not in _NOT_COUNTED,
        record.executed_version,
        record.sandbox_id,
        status == _FUNCTION_ERROR,
    )
