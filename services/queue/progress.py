"""The counters and facts of an event: what each input makes of them. Pure."""

from dataclasses import replace

from evenflow.common.v1 import event_pb2
from evenflow.queue.v1 import queue_pb2

from services.queue.domain import FRESH, Action, Attempt, Cause, Progress, Settle

MAX_ERROR_TYPE = 256
MAX_ERROR_MESSAGE = 1_024


def progress_after(progress: Progress | None, settle: Settle) -> Progress | None:
    """The counters and facts after this settlement; None stays None when nothing is to be stored."""
    attempt = settle.attempt
    touched = attempt is not None or settle.error_type or settle.error_message
    counter = _COUNTERS.get(settle.cause) if settle.action is Action.RELEASE else None
    if not touched and counter is None:
        return progress
    after = replace(progress) if progress is not None else Progress()
    if counter is not None:
        setattr(after, counter, getattr(after, counter) + 1)
        if settle.cause is Cause.FUNCTION_ERROR:
            # Throttles count in a row, for the back-off: a run that happened ends the row.
            after.throttles = 0
    if settle.error_type or settle.error_message:
        after.error_type = settle.error_type[:MAX_ERROR_TYPE]
        after.error_message = settle.error_message[:MAX_ERROR_MESSAGE]
    if attempt is not None:
        _note_attempt(after, attempt)
        if attempt.is_function_error and settle.action in (Action.HANDOVER, Action.DEAD_LETTER):
            # The last error ends the event; those before it were counted by their releases.
            after.function_errors += 1
        if settle.action is Action.ACK and settle.condition == event_pb2.CONDITION_SUCCESS:
            after.error_type = after.error_message = ""
    return after


def progress_after_loss(progress: Progress | None) -> Progress:
    """A lease ended without a settle: one delivery more."""
    after = Progress(*(progress or FRESH).values())
    after.deliveries += 1
    return after


def handover_after(handover: bytes | None, settle: Settle) -> bytes | None:
    """The stored handover after this settlement: set by one, and counted up by a delivery that failed."""
    if settle.action is Action.HANDOVER:
        return settle.payload
    if handover is not None and settle.action is Action.RELEASE and settle.cause is Cause.DELIVERY_FAILED:
        message = queue_pb2.Handover.FromString(handover)
        message.delivery_failures += 1
        return message.SerializeToString()
    return handover


def _note_attempt(progress: Progress, attempt: Attempt) -> None:
    if attempt.counts:
        progress.attempts += 1
    if attempt.started_at_ms:
        progress.first_started_at_ms = progress.first_started_at_ms or attempt.started_at_ms
    progress.duration_us = attempt.duration_us
    progress.executed_version = attempt.executed_version
    progress.sandbox_id = attempt.sandbox_id


_COUNTERS = {Cause.FUNCTION_ERROR: "function_errors", Cause.THROTTLE: "throttles"}
