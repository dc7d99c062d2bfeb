"""Takes the records of finished events to their destinations: durable as a handover before, acknowledged after."""

import logging
import random
from collections.abc import Callable

from evenflow.common.v1 import event_pb2
from evenflow.frontend.v1 import frontend_pb2
from evenflow.queue.v1 import queue_pb2

from services.policy import retry
from services.policy.arns import parse_reference
from services.policy.records import Response, destination_record
from services.poller import settlements
from services.poller.door import Door
from services.poller.functions import FunctionBook
from services.poller.held import Held, Stage
from services.poller.telemetry import Telemetry
from services.shared import ids
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason, invalid

log = logging.getLogger(__name__)
SOURCE = "destination"
# The year 9999: beyond it a time cannot be written down.
MAX_RECORD_TIME_MS = 253_370_764_800_000
DELIVERY_FAILED = "DestinationDeliveryFailure"
_RAN = (event_pb2.OUTCOME_STATUS_SUCCEEDED, event_pb2.OUTCOME_STATUS_FUNCTION_ERROR)


class Deliveries:
    """Delivers handed-over results. What is under way is bounded by the leases that this poller holds."""

    def __init__(
        self,
        *,
        door: Door,
        functions: FunctionBook,
        arn_of: Callable[[str], str],
        clock: Clock,
        telemetry: Telemetry,
        within_ms: float,
        max_tries: int,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`arn_of`: function name -> qualified ARN. `within_ms`: how long a record waits for a door."""
        self._door = door
        self._functions = functions
        self._arn_of = arn_of
        self._clock = clock
        self._telemetry = telemetry
        self._within_ms = within_ms
        self._max_tries = max_tries
        self._draw = draw
        self.in_flight = 0

    def start(self, held: Held) -> None:
        """Deliver the lease's handover, then settle: acknowledge, try again later, or the dead letters."""
        handover = held.handover
        assert handover is not None
        held.node.change_stage(held, Stage.DELIVERING)
        if not handover.destination_arn:
            self._dead(held, handover, handover.outcome.error_type, handover.outcome.error_message)
            return
        self.in_flight += 1
        self._telemetry.delivery_begins(held, handover.destination_arn)
        try:
            submission = self._submission(held, handover)
        except EvenflowError as e:
            self._ended(held, handover, e)
            return
        except Exception as e:
            # One result that no record can be made of must not stop the others.
            log.exception("no record can be made", extra={"request_id": ids.to_text(held.event.request_id)})
            held.failures = self._max_tries
            self._ended(held, handover, invalid(f"no record can be made of this result: {type(e).__name__}: {e}"))
            return
        self._door.submit(submission, self._within_ms, lambda error: self._ended(held, handover, error))

    def _submission(self, held: Held, handover: queue_pb2.Handover) -> frontend_pb2.EventSubmission:
        event = held.event
        try:
            parse_reference(handover.destination_arn)
        except ValueError:
            raise invalid(f"the destination {handover.destination_arn} is no function") from None
        outcome = handover.outcome
        response = None
        if outcome.status in _RAN:
            is_error = outcome.status == event_pb2.OUTCOME_STATUS_FUNCTION_ERROR
            response = Response(outcome.response_payload, outcome.executed_version, is_error)
        record = destination_record(
            timestamp_ms=_ended_at_ms(outcome) or self._clock.wall_ms(),
            request_id=ids.to_text(event.request_id),
            function_arn=self._arn_of(event.function_name),
            condition=settlements.CONDITION_NAMES.get(handover.condition, "Unknown"),
            invoke_count=held.runs_so_far,
            request_payload=event.payload,
            response=response,
        )
        return frontend_pb2.EventSubmission(
            function_name=handover.destination_arn,
            payload=record,
            # The same parent and destination give the same event, however often this is repeated.
            client_token=f"{event.request_id.hex()}:{handover.destination_arn}",
            trace=held.delivery_trace or held.trace,
            tenant_id=event.tenant_id,
            lineage=event_pb2.Lineage(
                parent_request_id=event.request_id,
                chain_depth=min(event.lineage.chain_depth + 1, retry.MAX_CHAIN_DEPTH),
            ),
            source=SOURCE,
        )

    def _ended(self, held: Held, handover: queue_pb2.Handover, error: EvenflowError | None) -> None:
        self.in_flight -= 1
        self._telemetry.delivery_ends(held, None if error is None else error.message)
        if held.stage is not Stage.DELIVERING:
            # The lease was lost meanwhile; whoever has it now delivers again, under the same token.
            return
        # A record of an earlier delivery may carry another time and so be another body: the destination has it.
        if error is None or error.reason == Reason.ERROR_REASON_TOKEN_REUSED:
            held.node.settle(
                held,
                settlements.ack(held.receipt, handover.condition, destination_arn=handover.destination_arn),
            )
            return
        held.failures += 1
        self._telemetry.delivery_failed(held)
        self._telemetry.log_failure(
            held, "delivery %d to %s failed: %s", held.failures, handover.destination_arn, error.message
        )
        if not error.kind.retryable and held.failures >= self._max_tries:
            self._dead(held, handover, DELIVERY_FAILED, f"{handover.destination_arn}: {error.message}")
            return
        plan = self._functions.peek(held.key)
        rules = plan.rules if plan is not None else retry.Rules()
        held.node.settle(
            held,
            settlements.release(
                held.receipt,
                retry.delivery_delay_ms(held.failures, rules, self._draw()),
                queue_pb2.RELEASE_CAUSE_DELIVERY_FAILED,
                error_type=DELIVERY_FAILED,
                error_message=error.message,
            ),
        )

    def _dead(self, held: Held, handover: queue_pb2.Handover, error_type: str, error_message: str) -> None:
        held.node.settle(
            held,
            settlements.dead_letter(
                held.receipt,
                handover.condition,
                error_type,
                error_message,
                outcome=handover.outcome if handover.outcome.status in _RAN else None,
                # Its run was counted by the settle that made the handover.
                counts_run=False,
            ),
        )


def _ended_at_ms(outcome: event_pb2.Outcome) -> int:
    """When the run ended, so that a repeated record is the same to the byte; 0: nothing ran."""
    if not outcome.started_at_unix_nano:
        return 0
    ended_ms = (outcome.started_at_unix_nano + outcome.duration_us * 1_000) // 1_000_000
    return ended_ms if 0 < ended_ms < MAX_RECORD_TIME_MS else 0
