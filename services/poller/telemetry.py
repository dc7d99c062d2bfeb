"""The poller's metrics, spans and log lines."""

import logging
from collections.abc import Callable

from evenflow.common.v1 import event_pb2
from opentelemetry.trace import SpanKind

from services.poller.held import Held
from services.shared import ids
from services.shared.clock import Clock
from services.shared.metrics import Metrics
from services.shared.tracing import Tracer, force_sampled, is_sampled, trace_id_of

# Failures are logged one by one up to this rate; beyond it only their number is.
MAX_LOGGED_FAILURES_A_SECOND = 20
log = logging.getLogger(__name__)


class Telemetry:
    """Counts and records what the poller does. Spans are made for sampled events, and for every failed run."""

    def __init__(
        self,
        metrics: Metrics,
        tracer: Tracer,
        clock: Clock,
        *,
        leases_held: Callable[[], int],
        in_flight: Callable[[], int],
    ) -> None:
        self._tracer = tracer
        self._clock = clock
        self._event_age = metrics.histogram("AsyncEventAge", "ms", "Accept to the start of the first attempt.")
        self._dropped = metrics.counter("AsyncEventsDropped", "Events that ended without success.")
        self._dead_letter_errors = metrics.counter("DeadLetterErrors", "Events that the dead letters did not take.")
        self._delivery_failures = metrics.counter(
            "DestinationDeliveryFailures", "Records that a destination did not take."
        )
        self._recursive = metrics.counter("RecursiveInvocationsDropped", "Events of a chain that was stopped.")
        self._throttles = metrics.counter("Throttles", "Events that waited because their function was full.")
        self._retries = metrics.counter("evenflow_retries", "Events that went back to their shard, by cause.")
        self._stale_receipts = metrics.counter("evenflow_stale_receipts", "Settlements refused: the lease moved on.")
        metrics.gauge("evenflow_leases_held", "Leases held by this poller.", lambda: [(leases_held(), {})])
        metrics.gauge("evenflow_poller_in_flight", "Invocations at runtime hosts.", lambda: [(in_flight(), {})])
        self._second = 0
        self._logged = 0
        self._passed_over = 0

    # --- spans

    def attempt_begins(self, held: Held) -> None:
        """Before the invocation is placed: the run becomes a child of the attempt."""
        if held.span is None and is_sampled(held.event.trace):
            held.span = self._tracer.start(
                "poller.attempt",
                held.event.trace,
                kind=SpanKind.CONSUMER,
                attributes=_attributes(held),
                links=(held.event.trace,),
                start_ns=held.received_ns,
            )
            held.trace = self._tracer.context_of(held.span, held.event.trace)

    def attempt_ends(self, held: Held, error: str | None = None) -> None:
        """The settlement goes out."""
        span, held.span = held.span, None
        self._tracer.end(span, error)

    def attempt_failed(self, held: Held, outcome: event_pb2.Outcome) -> None:
        """A run failed: an unsampled one is recorded after the fact. The host records what happened inside."""
        error = outcome.error_message or outcome.error_type or "failed"
        if held.span is not None:
            self.attempt_ends(held, error)
        elif held.event.trace.traceparent and not is_sampled(held.event.trace):
            parent = force_sampled(held.event.trace)
            held.trace = self._tracer.record(
                "poller.attempt",
                parent,
                held.received_ns,
                self._clock.wall_ns(),
                kind=SpanKind.CONSUMER,
                attributes=_attributes(held),
                links=(parent,),
                error=error,
            )

    def delivery_begins(self, held: Held, destination_arn: str) -> None:
        """The record is about to leave; what it starts is in the same trace."""
        if held.span is None and is_sampled(held.trace):
            held.span = self._tracer.start(
                "poller.deliver",
                held.trace,
                kind=SpanKind.PRODUCER,
                attributes={
                    **_attributes(held),
                    "evenflow.attempt": held.runs_so_far,
                    "evenflow.destination_arn": destination_arn,
                },
            )
            held.delivery_trace = self._tracer.context_of(held.span, held.trace)

    def delivery_ends(self, held: Held, error: str | None = None) -> None:
        """The destination has the record, or refused it."""
        span, held.span = held.span, None
        self._tracer.end(span, error)

    # --- numbers

    def first_start(self, held: Held, outcome: event_pb2.Outcome) -> None:
        """The handler was entered for the first time."""
        age_ms = max(0, outcome.started_at_unix_nano // 1_000_000 - held.event.accepted_at_ms)
        self._event_age.record(age_ms, function=held.key[1], tenant=held.key[0])

    def retried(self, held: Held, cause: str) -> None:
        """An event goes back."""
        self._retries.add(1, function=held.key[1], tenant=held.key[0], cause=cause)

    def dropped(self, held: Held) -> None:
        """An event ended without success."""
        self._dropped.add(1, function=held.key[1], tenant=held.key[0])

    def dead_letter_failed(self, held: Held) -> None:
        """The shard did not take a dead letter."""
        self._dead_letter_errors.add(1, function=held.key[1], tenant=held.key[0])

    def delivery_failed(self, held: Held) -> None:
        """A destination did not take a record."""
        self._delivery_failures.add(1, function=held.key[1], tenant=held.key[0])

    def passed_over(self, held: Held) -> None:
        """An event was kept in its shard because its function was known to be full: once, at its first lease."""
        if held.attempt == 1 and not held.throttles:
            self._throttles.add(1, function=held.key[1], tenant=held.key[0])

    def recursion_stopped(self, held: Held) -> None:
        """A chain was too long."""
        self._recursive.add(1, function=held.key[1], tenant=held.key[0])

    def stale_receipt(self, held: Held) -> None:
        """A settlement came too late."""
        self._stale_receipts.add(1, function=held.key[1], tenant=held.key[0])

    # --- log

    def log_failure(self, held: Held, text: str, *parts: object) -> None:
        """A line with the event's ids, unless there are too many."""
        second = int(self._clock.monotonic_ms()) // 1_000
        if second != self._second:
            if self._passed_over:
                log.info("%d more failures were not logged", self._passed_over)
            self._second, self._logged, self._passed_over = second, 0, 0
        if self._logged >= MAX_LOGGED_FAILURES_A_SECOND:
            self._passed_over += 1
            return
        self._logged += 1
        log.info(
            text,
            *parts,
            extra={
                "request_id": ids.to_text(held.event.request_id),
                "trace_id": trace_id_of(held.event.trace) or None,
                "tenant_id": held.key[0],
                "function_name": held.key[1],
                "shard_id": held.receipt.shard_id,
            },
        )


def _attributes(held: Held) -> dict[str, str | bool | int | float]:
    return {
        "faas.invocation_id": ids.to_text(held.event.request_id),
        "faas.name": held.key[1],
        "evenflow.attempt": held.attempt,
        "evenflow.tenant_id": held.key[0],
        "evenflow.shard_id": held.receipt.shard_id,
    }
