"""Metrics and spans of a host."""

from collections.abc import Callable, Iterable, Mapping

from evenflow.common.v1 import event_pb2
from opentelemetry.trace import SpanKind

from services.runtime.runs import Run
from services.shared.clock import Clock
from services.shared.metrics import MAX_SERIES, Metrics, SeriesKey
from services.shared.tracing import Tracer, force_sampled, is_sampled


class Telemetry:
    """Counts outcomes and records the spans of what is sampled, and of every failure, after the fact."""

    def __init__(
        self,
        metrics: Metrics,
        tracer: Tracer,
        clock: Clock,
        busy: Callable[[], Iterable[tuple[int, Mapping[str, str]]]],
        sandboxes: Callable[[], Mapping[str, int]],
    ) -> None:
        self._keys: dict[tuple[str, str], SeriesKey] = {}
        self._tracer = tracer
        self._clock = clock
        self._invocations = metrics.counter("Invocations", "Runs of a handler, failed ones included.")
        self._errors = metrics.counter("Errors", "Runs that ended in a function error.")
        self._throttles = metrics.counter("Throttles", "Invocations refused for concurrency.")
        self._duration = metrics.histogram("Duration", "ms", "Time in the handler.")
        self._cold_starts = metrics.counter("evenflow_cold_starts", "Sandboxes that were started.")
        self._evictions = metrics.counter("evenflow_sandbox_evictions", "Sandboxes that were ended, by cause.")
        metrics.gauge("ConcurrentExecutions", "Runs under way.", busy)
        metrics.gauge(
            "evenflow_sandboxes",
            "Sandboxes by state.",
            lambda: [(count, {"state": state}) for state, count in sandboxes().items()],
        )

    def started(self, tenant_id: str, function_name: str) -> None:
        """A cold start."""
        self._cold_starts.add(1, function=function_name, tenant=tenant_id)

    def ended(self, cause: str) -> None:
        """A sandbox was ended: idle, evicted, replaced (a new revision), crashed, timeout."""
        self._evictions.add(1, cause=cause)

    def settled(self, run: Run, outcome: event_pb2.Outcome, init_span: tuple[int, int] | None) -> None:
        """An invocation has its outcome; `init_span`: begin and end of its cold start, nanoseconds since the epoch."""
        invocation = run.invocation
        status = outcome.status
        key = self._key_of(invocation.tenant_id, invocation.function_name)
        if status == event_pb2.OUTCOME_STATUS_THROTTLED:
            self._throttles.add_at(key, 1)
        elif status != event_pb2.OUTCOME_STATUS_SYSTEM_ERROR:
            self._invocations.add_at(key, 1)
            self._duration.record_at(key, outcome.duration_us / 1_000)
            if status == event_pb2.OUTCOME_STATUS_FUNCTION_ERROR:
                self._errors.add_at(key, 1)
        trace = invocation.trace
        if is_sampled(trace):
            self._record(run, outcome, trace, init_span)
        elif status != event_pb2.OUTCOME_STATUS_SUCCEEDED and trace.traceparent:
            self._record(run, outcome, force_sampled(trace), init_span)

    def _key_of(self, tenant_id: str, function_name: str) -> SeriesKey:
        key = self._keys.get((tenant_id, function_name))
        if key is None:
            if len(self._keys) >= MAX_SERIES:
                self._keys.clear()
            key = self._keys[tenant_id, function_name] = (("function", function_name), ("tenant", tenant_id))
        return key

    def _record(
        self, run: Run, outcome: event_pb2.Outcome, trace: event_pb2.TraceContext, init_span: tuple[int, int] | None
    ) -> None:
        invocation = run.invocation
        error = outcome.error_message or outcome.error_type or None
        context = self._tracer.record(
            "runtime.invoke",
            trace,
            run.received_ns,
            self._clock.wall_ns(),
            kind=SpanKind.SERVER,
            attributes={
                "faas.invocation_id": run.request_id,
                "faas.name": invocation.function_name,
                "faas.version": invocation.version,
                "faas.coldstart": init_span is not None,
                "evenflow.tenant_id": invocation.tenant_id,
                "evenflow.sandbox_id": outcome.sandbox_id,
                "evenflow.attempt": invocation.attempt,
            },
            error=error if outcome.status != event_pb2.OUTCOME_STATUS_SUCCEEDED else None,
        )
        if init_span is not None:
            self._tracer.record("sandbox.init", context, *init_span)
        if outcome.started_at_unix_nano:
            self._tracer.record(
                "sandbox.handler",
                context,
                outcome.started_at_unix_nano,
                outcome.started_at_unix_nano + outcome.duration_us * 1_000,
                error=error if outcome.status != event_pb2.OUTCOME_STATUS_SUCCEEDED else None,
            )
