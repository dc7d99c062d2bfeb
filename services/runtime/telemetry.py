"""Metrics and spans of a host."""

from collections.abc import Callable, Iterable, Mapping

from evenflow.common.v1 import event_pb2
from opentelemetry.trace import SpanKind

from services.runtime.functions import HostedFunction, VersionKey
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
        functions: Callable[[], Iterable[HostedFunction]],
        sandboxes: Callable[[], Mapping[str, int]],
        memory_mb: Callable[[], Mapping[str, int]],
    ) -> None:
        self._keys: dict[tuple[str, str], SeriesKey] = {}
        self._version_keys: dict[VersionKey, SeriesKey] = {}
        self._tracer = tracer
        self._clock = clock
        self._invocations = metrics.counter("Invocations", "Runs of a handler, failed ones included.")
        self._errors = metrics.counter("Errors", "Runs that ended in a function error.")
        self._throttles = metrics.counter("Throttles", "Invocations refused for concurrency.")
        self._duration = metrics.histogram("Duration", "ms", "Time in the handler.")
        self._cold_starts = metrics.counter("evenflow_cold_starts", "Sandboxes that were started.")
        self.evictions = metrics.counter("evenflow_sandbox_evictions", "Sandboxes that were ended, by cause.")
        self.on_provisioned = metrics.counter(
            "ProvisionedConcurrencyInvocations", "Runs on sandboxes that are kept ready."
        )
        self.spilled_over = metrics.counter(
            "ProvisionedConcurrencySpilloverInvocations", "Runs on demand of functions that have some kept ready."
        )

        def running() -> list[tuple[float, dict[str, str]]]:
            """One series for each function, its versions together; on the endpoint's thread."""
            busy: dict[tuple[str, str], int] = {}
            for f in functions():
                busy[f.key] = busy.get(f.key, 0) + f.busy
            return [(count, {"function": name, "tenant": tenant}) for (tenant, name), count in busy.items()]

        def each(value: Callable[[HostedFunction], float]) -> Callable[[], list[tuple[float, dict[str, str]]]]:
            """One series for each version of which some are to be kept ready; on the endpoint's thread."""

            def observe() -> list[tuple[float, dict[str, str]]]:
                kept = (f for f in functions() if f.provisioned.target)
                return [(value(f), dict(_version_labels(f.version_key))) for f in kept]

            return observe

        metrics.gauge("ConcurrentExecutions", "Runs under way.", running)
        metrics.gauge(
            "ProvisionedConcurrentExecutions",
            "Runs under way on sandboxes that are kept ready.",
            each(lambda f: f.provisioned.busy),
        )
        metrics.gauge(
            "ProvisionedConcurrencyUtilization",
            "Part of the sandboxes to be kept ready that runs something.",
            each(lambda f: f.provisioned.busy / max(1, f.provisioned.target)),
        )
        metrics.gauge(
            "evenflow_sandbox_memory_mb",
            "Memory sizes of all sandboxes: the budget, what is used of it, what of that is kept ready.",
            lambda: [(amount, {"kind": kind}) for kind, amount in memory_mb().items()],
        )
        metrics.gauge(
            "evenflow_sandboxes",
            "Sandboxes by state.",
            lambda: [(count, {"state": state}) for state, count in sandboxes().items()],
        )

    def started(self, tenant_id: str, function_name: str) -> None:
        """A cold start."""
        self._cold_starts.add(1, function=function_name, tenant=tenant_id)

    def ended(self, cause: str) -> None:
        """A sandbox was ended.

        idle; evicted, memory (for another function's start: a place, room); replaced (a new revision); lowered (fewer
        are kept ready); crashed, timeout.
        """
        self.evictions.add(1, cause=cause)

    def provisioned(self, version: VersionKey, *, is_spillover: bool) -> None:
        """A run of a version that has sandboxes kept ready was not, or was, on one of them."""
        key = self._version_keys.get(version)
        if key is None:
            if len(self._version_keys) >= MAX_SERIES:
                self._version_keys.clear()
            key = self._version_keys[version] = _version_labels(version)
        (self.spilled_over if is_spillover else self.on_provisioned).add_at(key, 1)

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


def _version_labels(version: VersionKey) -> SeriesKey:
    """Sorted by name, as a series wants them."""
    return ("function", version[1]), ("tenant", version[0]), ("version", version[2])
