"""Builds what the poller tells a shard: one function an action."""

from evenflow.common.v1 import event_pb2
from evenflow.queue.v1 import queue_pb2

from services.policy.retry import Cause, Why

MAX_ERROR_TYPE_BYTES = 256
MAX_ERROR_MESSAGE_BYTES = 1_024
MAX_DEAD_RESPONSE_BYTES = 65_536
Settlement = queue_pb2.Settlement
CONDITIONS: dict[Why, "event_pb2.Condition.ValueType"] = {
    Why.SUCCESS: event_pb2.CONDITION_SUCCESS,
    Why.RETRIES_EXHAUSTED: event_pb2.CONDITION_RETRIES_EXHAUSTED,
    Why.EVENT_AGE_EXCEEDED: event_pb2.CONDITION_EVENT_AGE_EXCEEDED,
    Why.ZERO_RESERVED_CONCURRENCY: event_pb2.CONDITION_ZERO_RESERVED_CONCURRENCY,
    Why.RECURSION_STOPPED: event_pb2.CONDITION_RECURSION_STOPPED,
    Why.FUNCTION_NOT_FOUND: event_pb2.CONDITION_FUNCTION_NOT_FOUND,
}
CONDITION_NAMES: dict[int, str] = {
    **{int(number): why.value for why, number in CONDITIONS.items()},
    int(event_pb2.CONDITION_DELIVERIES_EXHAUSTED): "DeliveriesExhausted",
}
CAUSES: dict[Cause, "queue_pb2.ReleaseCause.ValueType"] = {
    Cause.FUNCTION_ERROR: queue_pb2.RELEASE_CAUSE_FUNCTION_ERROR,
    Cause.THROTTLE: queue_pb2.RELEASE_CAUSE_THROTTLE,
    Cause.UNSTARTED: queue_pb2.RELEASE_CAUSE_UNSTARTED,
}
_COUNTED = (event_pb2.OUTCOME_STATUS_SUCCEEDED, event_pb2.OUTCOME_STATUS_FUNCTION_ERROR)


def attempt_of(outcome: event_pb2.Outcome | None) -> queue_pb2.AttemptRecord | None:
    """The facts of a run; None where nothing ran."""
    if outcome is None or outcome.status not in _COUNTED:
        return None
    return queue_pb2.AttemptRecord(
        started_at_ms=outcome.started_at_unix_nano // 1_000_000,
        duration_us=outcome.duration_us,
        status=outcome.status,
        executed_version=outcome.executed_version,
        sandbox_id=outcome.sandbox_id,
    )


def ack(
    receipt: queue_pb2.Receipt,
    condition: "event_pb2.Condition.ValueType",
    *,
    destination_arn: str = "",
    outcome: event_pb2.Outcome | None = None,
) -> Settlement:
    """The event is done."""
    return Settlement(
        receipt=receipt,
        ack=queue_pb2.Ack(condition=condition, destination_arn=destination_arn),
        attempt=attempt_of(outcome),
    )


def release(
    receipt: queue_pb2.Receipt,
    delay_ms: int,
    cause: "queue_pb2.ReleaseCause.ValueType",
    *,
    outcome: event_pb2.Outcome | None = None,
    error_type: str = "",
    error_message: str = "",
) -> Settlement:
    """The event comes back; the error is the outcome's unless one is given."""
    if outcome is not None and not error_type:
        error_type, error_message = outcome.error_type, outcome.error_message
    return Settlement(
        receipt=receipt,
        release=queue_pb2.Release(
            delay_ms=delay_ms,
            cause=cause,
            error_type=cut(error_type, MAX_ERROR_TYPE_BYTES),
            error_message=cut(error_message, MAX_ERROR_MESSAGE_BYTES),
        ),
        attempt=attempt_of(outcome),
    )


def handover(
    receipt: queue_pb2.Receipt,
    condition: "event_pb2.Condition.ValueType",
    destination_arn: str,
    dead_letter_arn: str,
    outcome: event_pb2.Outcome,
    ended_at_ms: int,
) -> Settlement:
    """Processing is over; the record, the event or both are to be delivered. `outcome`: also of what did not run."""
    return Settlement(
        receipt=receipt,
        handover=queue_pb2.Handover(
            condition=condition,
            outcome=outcome,
            destination_arn=destination_arn,
            dead_letter_arn=dead_letter_arn,
            ended_at_ms=ended_at_ms,
        ),
        attempt=attempt_of(outcome),
    )


def confirm(receipt: queue_pb2.Receipt, part: "queue_pb2.HandoverPart.ValueType") -> Settlement:
    """One of the two that the handover goes to has it."""
    return Settlement(receipt=receipt, confirm=queue_pb2.Confirm(part=part))


def not_run(why: Why, last: event_pb2.Outcome | None, throttles: int, text: str) -> event_pb2.Outcome:
    """What a dead-letter queue is told of an event that nothing ran for. `last`: what the last try was refused with."""
    status = last.status if last is not None else event_pb2.OUTCOME_STATUS_SYSTEM_ERROR
    if why is Why.ZERO_RESERVED_CONCURRENCY or (last is None and throttles):
        status = event_pb2.OUTCOME_STATUS_THROTTLED
    message = (last.error_message if last is not None else "") or text
    return event_pb2.Outcome(status=status, error_type=why.value, error_message=cut(message, MAX_ERROR_MESSAGE_BYTES))


def dead_letter(
    receipt: queue_pb2.Receipt,
    condition: "event_pb2.Condition.ValueType",
    error_type: str,
    error_message: str,
    *,
    outcome: event_pb2.Outcome | None = None,
    counts_run: bool = True,
) -> Settlement:
    """The event goes to the dead letters. `counts_run` False: the outcome's run was settled before."""
    return Settlement(
        receipt=receipt,
        dead_letter=queue_pb2.DeadLetter(
            condition=condition,
            error_type=cut(error_type, MAX_ERROR_TYPE_BYTES),
            error_message=cut(error_message, MAX_ERROR_MESSAGE_BYTES),
            response_payload=outcome.response_payload[:MAX_DEAD_RESPONSE_BYTES] if outcome is not None else b"",
        ),
        attempt=attempt_of(outcome) if counts_run else None,
    )


def extend(receipt: queue_pb2.Receipt) -> Settlement:
    """The lease starts anew."""
    return Settlement(receipt=receipt, extend=queue_pb2.Extend())


def cut(text: str, limit_bytes: int) -> str:
    """The text within so many bytes of UTF-8."""
    return text if len(text) * 4 <= limit_bytes else text.encode()[:limit_bytes].decode(errors="ignore")
