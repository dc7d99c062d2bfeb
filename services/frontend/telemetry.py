"""The frontend's metrics and its rate-bounded log of refusals."""

import logging
from collections.abc import Callable

from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason
from services.shared.metrics import Metrics

# Refusals are logged one by one up to this rate; beyond it only their number is.
MAX_LOGGED_REFUSALS_A_SECOND = 20
log = logging.getLogger(__name__)


class Telemetry:
    """Counts what the doors do."""

    def __init__(self, metrics: Metrics, clock: Clock, pending_events: Callable[[], int]) -> None:
        self.received = metrics.counter("AsyncEventsReceived", "Events accepted for asynchronous invocation.")
        self.throttles = metrics.counter("Throttles", "Invocations refused for concurrency.")
        self._recursive = metrics.counter("RecursiveInvocationsDropped", "Invocations of a chain that was stopped.")
        self.refusals = metrics.counter("evenflow_frontend_refusals", "Requests refused, by reason.")
        self.accept_latency = metrics.histogram(
            "evenflow_accept_latency", "ms", "Arrival to durable, of the oldest event of each batch for a shard."
        )
        metrics.gauge(
            "evenflow_frontend_pending_events",
            "Events that have arrived and are not durable yet.",
            lambda: [(pending_events(), {})],
        )
        self._clock = clock
        self._second = 0
        self._logged = 0
        self._passed_over = 0

    def count_received(self, tenant_id: str, function_name: str, events: int = 1) -> None:
        """So many events of a function are durable."""
        self.received.add(events, function=function_name, tenant=tenant_id)

    def recursion_stopped(self, function_name: str, tenant_id: str) -> None:
        """One synchronous invocation did not run because of its chain."""
        self._recursive.add(1, function=function_name, tenant=tenant_id)

    def refused(self, error: EvenflowError, door: str, request_id: str = "", tenant_id: str = "") -> None:
        """Count a refusal, and log it unless there are too many."""
        reason = Reason.Name(error.reason).removeprefix("ERROR_REASON_").lower()
        self.refusals.add(1, reason=reason, door=door)
        second = int(self._clock.monotonic_ms()) // 1_000
        if second != self._second:
            if self._passed_over:
                log.info("%d more refusals were not logged", self._passed_over)
            self._second, self._logged, self._passed_over = second, 0, 0
        if self._logged >= MAX_LOGGED_REFUSALS_A_SECOND:
            self._passed_over += 1
            return
        self._logged += 1
        log.info(
            "refused at the %s door: %s",
            door,
            error.message,
            extra={"error_reason": reason, "request_id": request_id or None, "tenant_id": tenant_id or None},
        )
