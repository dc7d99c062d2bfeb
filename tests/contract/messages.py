"""Messages of the queue's contract, as its suites send them."""

import time
from typing import Any

from evenflow.common.v1 import errors_pb2, event_pb2
from evenflow.common.v1.event_pb2 import Event
from evenflow.queue.v1 import queue_pb2
from evenflow.queue.v1.queue_pb2 import Lease, Settlement

from services.shared import ids

SHARD = 0
AGE_MS = 21_600_000
SUCCESS = event_pb2.CONDITION_SUCCESS
EXHAUSTED = event_pb2.CONDITION_RETRIES_EXHAUSTED
RUN = queue_pb2.AttemptRecord(
    started_at_ms=5,
    duration_us=7,
    status=event_pb2.OUTCOME_STATUS_SUCCEEDED,
    executed_version="3",
    sandbox_id="runtime-0/1",
)
FAILED_RUN = queue_pb2.AttemptRecord(
    started_at_ms=9,
    duration_us=8,
    status=event_pb2.OUTCOME_STATUS_FUNCTION_ERROR,
    executed_version="3",
    sandbox_id="runtime-0/2",
)


def now_ms() -> int:
    """The machine's wall clock."""
    return time.time_ns() // 1_000_000


def reasons(refusals: Any) -> list[tuple[int, str]]:
    """Index and reason of each refused part of a batch."""
    return [(r.index, errors_pb2.ErrorReason.Name(r.error.reason).removeprefix("ERROR_REASON_")) for r in refusals]


def reason(detail: errors_pb2.ErrorDetail) -> str:
    """The reason's name."""
    return errors_pb2.ErrorReason.Name(detail.reason).removeprefix("ERROR_REASON_")


def settlement(lease: Lease, **action: Any) -> Settlement:
    """One settlement of a lease: `ack=Ack(...)` and so on."""
    return Settlement(receipt=lease.receipt, **action)


def ack(lease: Lease, condition: "event_pb2.Condition.ValueType" = SUCCESS, **more: Any) -> Settlement:
    """The event is done."""
    return settlement(lease, ack=queue_pb2.Ack(condition=condition, **more), attempt=RUN)


def release(lease: Lease, cause: str, delay_ms: int = 0, **more: Any) -> Settlement:
    """The event comes back; a function error has its run."""
    what = queue_pb2.Release(cause=queue_pb2.ReleaseCause.Value(f"RELEASE_CAUSE_{cause}"), delay_ms=delay_ms, **more)
    return settlement(lease, release=what, attempt=FAILED_RUN if cause == "FUNCTION_ERROR" else None)


def hand_over(lease: Lease, condition: "event_pb2.Condition.ValueType" = SUCCESS, **more: Any) -> Settlement:
    """The run is done, the record is to be delivered."""
    return settlement(lease, handover=queue_pb2.Handover(condition=condition, **more), attempt=RUN)


def bury(lease: Lease, error_type: str = "ValueError", response: bytes = b"{}") -> Settlement:
    """The event dies."""
    dead = queue_pb2.DeadLetter(
        condition=EXHAUSTED, error_type=error_type, error_message="no", response_payload=response
    )
    return settlement(lease, dead_letter=dead, attempt=FAILED_RUN)


def confirm(lease: Lease, part: str = "DESTINATION") -> Settlement:
    """One of the two has it."""
    return settlement(lease, confirm=queue_pb2.Confirm(part=queue_pb2.HandoverPart.Value(f"HANDOVER_PART_{part}")))


def extend(lease: Lease) -> Settlement:
    """The lease starts anew."""
    return settlement(lease, extend=queue_pb2.Extend())


def event_of(
    now_ms: int, number: int, function: str = "f", tenant: str = "t", token: str = "", age_ms: int = AGE_MS, **more: Any
) -> Event:
    """A fresh event; with a token its id is derived."""
    request_id = (
        ids.derive(tenant, "token", token.encode(), 1)
        if token
        else ids.mint(now_ms, SHARD, lambda n: number.to_bytes(n, "big"))
    )
    fields = {"payload": b'"%d"' % number, "qualifier": "$LATEST", **more}
    return Event(
        tenant_id=tenant,
        function_name=function,
        request_id=request_id,
        accepted_at_ms=now_ms,
        expires_at_ms=now_ms + age_ms,
        **fields,
    )
