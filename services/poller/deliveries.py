"""Takes finished events to their destinations and dead-letter queues: durable as a handover before, settled after."""

import logging
import random
from collections.abc import Callable

from evenflow.common.v1 import event_pb2
from evenflow.frontend.v1 import frontend_pb2
from evenflow.queue.v1 import queue_pb2

from services.policy import retry
from services.policy.destinations import Destination, Kind, parse_dead_letter_queue, parse_destination
from services.poller import record_forms, settlements
from services.poller.delivery_round import DeliveryRound, Part
from services.poller.door import Door
from services.poller.functions import FunctionBook
from services.poller.held import Held, Stage
from services.poller.neighbours import Letter, Neighbours, Taken
from services.poller.record_forms import RAN
from services.poller.telemetry import Telemetry
from services.shared import ids
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason, invalid

log = logging.getLogger(__name__)
SOURCE = "destination"
DESTINATION_FAILED = "DestinationDeliveryFailure"
DEAD_LETTER_FAILED = "DeadLetterError"
RECORD_SHORTENED = "DestinationRecordTooLarge"


class Deliveries:
    """Delivers handed-over results. What is under way is bounded by the leases that this poller holds."""

    def __init__(
        self,
        *,
        door: Door,
        neighbours: Neighbours,
        functions: FunctionBook,
        arn_of: Callable[[str, str, str], str],
        clock: Clock,
        telemetry: Telemetry,
        within_ms: float,
        max_tries: int,
        keep_ms: float,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`arn_of`: tenant, function name, qualifier -> ARN. `within_ms`: how long a record waits for a door.

        `max_tries`: at one that refuses for good. `keep_ms`: how long after its end an event is told one that is down.
        """
        self._door = door
        self._neighbours = neighbours
        self._functions = functions
        self._arn_of = arn_of
        self._clock = clock
        self._telemetry = telemetry
        self._within_ms = within_ms
        self._max_tries = max_tries
        self._keep_ms = keep_ms
        self._draw = draw
        self.in_flight = 0

    def start(self, held: Held) -> None:
        """Deliver what the lease's handover goes to, one after the other, or go on with it once a part is stored.

        Then settle: acknowledge, try again later, or the shard's dead letters.
        """
        handover = held.handover
        assert handover is not None
        held.node.change_stage(held, Stage.DELIVERING)
        if not handover.destination_arn and not handover.dead_letter_arn:
            self._bury(held, handover, handover.outcome.error_type, handover.outcome.error_message)
            return
        if held.round is None:
            held.round = DeliveryRound(handover)
        self._go_on(held, held.round)

    def _go_on(self, held: Held, round: DeliveryRound) -> None:
        part = round.next_part()
        if part is None:
            held.round = None
            self._round_over(held, round)
            return
        self.in_flight += 1
        self._telemetry.delivery_begins(held, round.arn_of(part))
        try:
            self._send(held, round, part)
        except EvenflowError as e:
            self._told(held, round, part, e)
        except Exception as e:
            # One result that no record can be made of must not stop the others.
            log.exception("no record can be made", extra={"request_id": ids.to_text(held.event.request_id)})
            what = f"no record can be made of this result: {type(e).__name__}: {e}"
            self._told(held, round, part, invalid(what))

    def _send(self, held: Held, round: DeliveryRound, part: "queue_pb2.HandoverPart.ValueType") -> None:
        handover = round.handover
        arn = round.arn_of(part)

        def told(answer: Taken | EvenflowError | None) -> None:
            self._told(held, round, part, answer)

        try:
            if part == Part.HANDOVER_PART_DEAD_LETTER_QUEUE:
                queue = parse_dead_letter_queue(arn)
                attributes = record_forms.error_attributes_of(held, handover)
                header = record_forms.trace_header_of(held)
                self._neighbours.send_event(queue, held.event.payload, attributes, header, told)
                return
            is_success = handover.condition == event_pb2.CONDITION_SUCCESS
            destination = parse_destination(arn, is_success=is_success)
        except ValueError as e:
            raise invalid(str(e)) from None
        if destination.kind is Kind.FUNCTION:
            self._door.submit(self._submission(held, handover), self._within_ms, told)
        else:
            self._neighbours.send_record(self._letter(held, handover, destination), told)

    def _submission(self, held: Held, handover: queue_pb2.Handover) -> frontend_pb2.EventSubmission:
        event = held.event
        return frontend_pb2.EventSubmission(
            function_name=handover.destination_arn,
            payload=record_forms.record_of(held, handover, self._arn(held), self._ended_ms(handover)),
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

    def _letter(self, held: Held, handover: queue_pb2.Handover, destination: Destination) -> Letter:
        function_arn, ended_ms = self._arn(held), self._ended_ms(handover)
        return Letter(
            destination=destination,
            body=record_forms.record_of(held, handover, function_arn, ended_ms),
            short_body=record_forms.short_record_of(held, handover, function_arn, ended_ms),
            trace_header=record_forms.trace_header_of(held),
            condition=record_forms.condition_of(handover),
            ended_ms=ended_ms,
            function_arn=function_arn,
            key=record_forms.object_key_of(held, handover, ended_ms),
        )

    def _arn(self, held: Held) -> str:
        return self._arn_of(held.event.tenant_id, held.event.function_name, held.qualifier)

    def _ended_ms(self, handover: queue_pb2.Handover) -> int:
        return record_forms.ended_at_ms(handover, self._clock.wall_ms())

    def _told(
        self,
        held: Held,
        round: DeliveryRound,
        part: "queue_pb2.HandoverPart.ValueType",
        answer: Taken | EvenflowError | None,
    ) -> None:
        self.in_flight -= 1
        error = answer if isinstance(answer, EvenflowError) else None
        self._telemetry.delivery_ends(held, None if error is None else error.message)
        if held.stage is not Stage.DELIVERING:
            # The lease was lost meanwhile; whoever has it now delivers again.
            return
        # A record of an earlier delivery may carry another time and so be another body: the destination has it.
        if error is not None and error.reason != Reason.ERROR_REASON_TOKEN_REUSED:
            round.refusals[part] = error
            if part == Part.HANDOVER_PART_DESTINATION:
                self._telemetry.delivery_failed(held)
            else:
                self._telemetry.dead_letter_failed(held)
            self._telemetry.log_failure(held, "delivery to %s failed: %s", round.arn_of(part), error.message)
            self._go_on(held, round)
            return
        round.is_shortened = round.is_shortened or (isinstance(answer, Taken) and answer.is_shortened)
        if round.taken(part):
            # Before anybody else is told: a crash repeats only what is not stored.
            held.node.settle(held, settlements.confirm(held.receipt, part), settles=False)
        else:
            self._go_on(held, round)

    def _round_over(self, held: Held, round: DeliveryRound) -> None:
        handover = round.handover
        if not round.refusals:
            is_kept = round.is_shortened and not handover.dead_letter_arn
            if is_kept and handover.condition != event_pb2.CONDITION_SUCCESS:
                # Its payload is nowhere else.
                text = f"{handover.destination_arn} has the record without the payload, which was too large for it"
                self._bury(held, handover, RECORD_SHORTENED, text)
                return
            arn = handover.destination_arn or handover.dead_letter_arn
            held.node.settle(held, settlements.ack(held.receipt, handover.condition, destination_arn=arn))
            return
        held.failures += 1
        last = round.gives_up(self._max_tries, self._clock.wall_ms(), self._keep_ms)
        part = next(part for part, error in round.refusals.items() if last in (None, error))
        error = round.refusals[part]
        error_type = DESTINATION_FAILED if part == Part.HANDOVER_PART_DESTINATION else DEAD_LETTER_FAILED
        error_message = f"{round.arn_of(part)}: {error.message}"
        if last is not None:
            self._bury(held, handover, error_type, error_message)
            return
        plan = self._functions.peek(held.key, held.qualifier)
        rules = plan.rules if plan is not None else retry.Rules()
        held.node.settle(
            held,
            settlements.release(
                held.receipt,
                retry.delivery_delay_ms(held.failures, rules, self._draw()),
                queue_pb2.RELEASE_CAUSE_DELIVERY_REFUSED
                if round.is_refused
                else queue_pb2.RELEASE_CAUSE_DELIVERY_FAILED,
                error_type=error_type,
                error_message=error_message,
            ),
        )

    def _bury(self, held: Held, handover: queue_pb2.Handover, error_type: str, error_message: str) -> None:
        held.node.settle(
            held,
            settlements.dead_letter(
                held.receipt,
                handover.condition,
                error_type,
                error_message,
                outcome=handover.outcome if handover.outcome.status in RAN else None,
                # Its run was counted by the settle that made the handover.
                counts_run=False,
            ),
        )
