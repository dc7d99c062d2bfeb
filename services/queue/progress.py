"""The counters and facts of an event: what each input makes of them. Pure."""

from evenflow.common.v1 import event_pb2
from evenflow.queue.v1 import queue_pb2

from services.queue.domain import FRESH, Action, Cause, Progress, Settle

MAX_ERROR_TYPE = 256
MAX_ERROR_MESSAGE = 1_024


def progress_after(progress: Progress | None, settle: Settle) -> Progress | None:
    """The counters and facts after this settlement; None stays None when nothing is to be stored."""
    action, attempt = settle.action, settle.attempt
    if action == _RELEASE:
        progress = _counted(progress, settle.cause)
    if settle.error_type or settle.error_message:
        progress = (progress or FRESH)._replace(
            error_type=settle.error_type[:MAX_ERROR_TYPE], error_message=settle.error_message[:MAX_ERROR_MESSAGE]
        )
    if attempt is None:
        return progress
    before = progress or FRESH
    function_errors = before.function_errors
    if attempt.is_function_error and action in _ENDS_BY_ERROR:
        # The last error ends the event; those before it were counted by their releases.
        function_errors += 1
    is_success = action == _ACK and settle.condition == _SUCCESS
    return Progress(
        function_errors,
        before.throttles,
        before.deliveries,
        before.attempts + attempt.counts,
        before.first_started_at_ms or attempt.started_at_ms,
        "" if is_success else before.error_type,
        "" if is_success else before.error_message,
        attempt.duration_us,
        attempt.executed_version,
        attempt.sandbox_id,
    )


def progress_after_loss(progress: Progress | None) -> Progress:
    """A lease ended without a settle: one delivery more."""
    before = progress or FRESH
    return before._replace(deliveries=before.deliveries + 1)


def handover_after(handover: bytes | None, settle: Settle) -> bytes | None:
    """The stored handover after this settlement: set by one, counted up by a delivery that failed, or one part done."""
    if settle.action == _HANDOVER:
        return settle.payload
    if handover is not None and settle.action == _CONFIRM:
        message = queue_pb2.Handover.FromString(handover)
        if settle.part in message.confirmed:
            return handover
        message.confirmed.append(queue_pb2.HandoverPart.ValueType(settle.part))
        return message.SerializeToString()
    if handover is not None and settle.action == _RELEASE and settle.cause in _FAILED_DELIVERIES:
        message = queue_pb2.Handover.FromString(handover)
        message.delivery_failures += 1
        message.delivery_refusals += settle.cause is Cause.DELIVERY_REFUSED
        return message.SerializeToString()
    return handover


def _counted(progress: Progress | None, cause: Cause) -> Progress | None:
    before = progress or FRESH
    if cause is Cause.FUNCTION_ERROR:
        # Throttles count in a row, for the back-off: a run that happened ends the row.
        return before._replace(function_errors=before.function_errors + 1, throttles=0)
    if cause is Cause.THROTTLE:
        return before._replace(throttles=before.throttles + 1)
    return progress


# Plain numbers: these are compared for every settlement.
_ACK, _RELEASE, _HANDOVER, _DEAD_LETTER = map(int, (Action.ACK, Action.RELEASE, Action.HANDOVER, Action.DEAD_LETTER))
_FAILED_DELIVERIES = (Cause.DELIVERY_FAILED, Cause.DELIVERY_REFUSED)
_CONFIRM = int(Action.CONFIRM)
_ENDS_BY_ERROR = (_HANDOVER, _DEAD_LETTER)
_SUCCESS = int(event_pb2.CONDITION_SUCCESS)
