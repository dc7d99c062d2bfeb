"""Traces: OpenTelemetry spans for what is sampled, no cost for what is not.

Sampling is decided once, by the frontend, head first: so many traces a second whole, beyond that one in N; the
decision travels in the traceparent's flags. A failure is kept in any case: its spans are recorded afterwards with
`force_sampled`. Exported over OTLP when OTEL_EXPORTER_OTLP_ENDPOINT is set, else into the local span store.
"""

import os
import random
from collections.abc import Iterable, Mapping
from pathlib import Path

from evenflow.common.v1.event_pb2 import TraceContext
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from services.shared.clock import Clock, SystemClock
from services.shared.settings import NodeSettings
from services.shared.span_store import SpanStoreExporter

Attributes = Mapping[str, str | bool | int | float]
MAX_QUEUED_SPANS = 16_384
EXPORT_BATCH_SPANS = 512
EXPORT_DELAY_MS = 250
MAX_TRACESTATE_BYTES = 512
_TRACEPARENT_LENGTH = 55
# A trace id and a span id, 16 and 8 bytes.
_IDS_BYTES = 24
_NO_SPAN = "0" * 16


def is_sampled(trace: TraceContext) -> bool:
    """Whether spans under this context are recorded."""
    return trace.traceparent.endswith("01")


def force_sampled(trace: TraceContext) -> TraceContext:
    """The same context with the sampled flag set: what happens from here on is kept."""
    return TraceContext(traceparent=trace.traceparent[:-2] + "01", tracestate=trace.tracestate)


def trace_id_of(trace: TraceContext) -> str:
    """32 hexadecimal digits; empty when there is no context."""
    return trace.traceparent[3:35]


def is_valid_traceparent(text: str) -> bool:
    """Whether this is a W3C traceparent of version 00 with non-zero ids."""
    if len(text) != _TRACEPARENT_LENGTH or not text.startswith("00-") or text[35] != "-" or text[52] != "-":
        return False
    try:
        return int(text[3:35], 16) != 0 and int(text[36:52], 16) != 0 and int(text[53:], 16) >= 0
    except ValueError:
        return False


def _span_context(trace: TraceContext) -> SpanContext | None:
    text = trace.traceparent
    if not is_valid_traceparent(text):
        return None
    return SpanContext(int(text[3:35], 16), int(text[36:52], 16), is_remote=True, trace_flags=TraceFlags(1))


class RootSampler:
    """Decides for a new trace: a token bucket of `per_second` whole traces, beyond it one in `one_in`."""

    def __init__(self, per_second: float, one_in: int, clock: Clock) -> None:
        self._per_second = per_second
        self._one_in = one_in
        self._clock = clock
        self._most_tokens = max(1.0, per_second)
        self._tokens = self._most_tokens if per_second > 0 else 0.0
        self._last_ms = clock.monotonic_ms()
        self._passed_over = 0

    def keep(self) -> bool:
        """Whether this trace is kept."""
        if self._per_second > 0:
            now_ms = self._clock.monotonic_ms()
            self._tokens += (now_ms - self._last_ms) * self._per_second / 1_000
            if self._tokens > self._most_tokens:
                self._tokens = self._most_tokens
            self._last_ms = now_ms
            if self._tokens >= 1:
                self._tokens -= 1
                return True
        self._passed_over += 1
        if self._passed_over >= self._one_in:
            self._passed_over = 0
            return True
        return False


class Tracer:
    """Makes the spans of one process."""

    def __init__(
        self,
        service_name: str,
        settings: NodeSettings,
        clock: Clock | None = None,
        exporter: SpanExporter | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._sampler = RootSampler(settings.trace_per_second, settings.trace_one_in, self._clock)
        resource = Resource.create(
            {
                "service.name": f"evenflow-{service_name}",
                "service.instance.id": settings.node_id,
                "service.namespace": "evenflow",
            }
        )
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                exporter or _exporter(settings),
                max_queue_size=MAX_QUEUED_SPANS,
                schedule_delay_millis=EXPORT_DELAY_MS,
                max_export_batch_size=EXPORT_BATCH_SPANS,
            )
        )
        self._tracer = self._provider.get_tracer("evenflow")

    def new_root(self, parent_traceparent: str = "", tracestate: str = "") -> TraceContext:
        """Where a new piece of work starts: under the caller's own span when it sent one, else a fresh trace.

        A caller's sampled flag is honoured; else the sampler decides. The span id of a fresh, sampled trace is 0: its
        first span becomes the root.
        """
        if is_valid_traceparent(parent_traceparent):
            flag = "01" if int(parent_traceparent[53:], 16) & 1 or self._sampler.keep() else "00"
            return TraceContext(
                traceparent=parent_traceparent[:53] + flag, tracestate=tracestate[:MAX_TRACESTATE_BYTES]
            )
        # One draw for both ids. W3C forbids 0, which does not come up: the shorter one has 64 bits.
        digits = random.randbytes(_IDS_BYTES).hex()
        if self._sampler.keep():
            return TraceContext(traceparent=f"00-{digits[:32]}-{_NO_SPAN}-01")
        return TraceContext(traceparent=f"00-{digits[:32]}-{digits[32:]}-00")

    def start(
        self,
        name: str,
        parent: TraceContext,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes | None = None,
        links: Iterable[TraceContext] = (),
        start_ns: int | None = None,
    ) -> Span | None:
        """A running span under this parent, or None when the parent is not sampled."""
        if not is_sampled(parent):
            return None
        context = _span_context(parent)
        linked = [Link(c) for c in map(_span_context, links) if c is not None]
        # A fresh root has span id 0, which no remote parent may have: then the SDK draws both ids.
        return self._tracer.start_span(
            name,
            context=None if context is None else set_span_in_context(NonRecordingSpan(context)),
            kind=kind,
            attributes=dict(attributes) if attributes else None,
            links=linked,
            start_time=start_ns if start_ns is not None else self._clock.wall_ns(),
        )

    def context_of(self, span: Span | None, fallback: TraceContext) -> TraceContext:
        """The context that children of this span get; the fallback when the span is not recorded."""
        if span is None:
            return fallback
        c = span.get_span_context()
        return TraceContext(traceparent=f"00-{c.trace_id:032x}-{c.span_id:016x}-01", tracestate=fallback.tracestate)

    def end(self, span: Span | None, error: str | None = None, end_ns: int | None = None) -> None:
        """End a span from `start`; with `error` its status says so."""
        if span is None:
            return
        if error is not None:
            span.set_status(Status(StatusCode.ERROR, error))
        span.end(end_ns if end_ns is not None else self._clock.wall_ns())

    def record(
        self,
        name: str,
        parent: TraceContext,
        start_ns: int,
        end_ns: int,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes | None = None,
        links: Iterable[TraceContext] = (),
        error: str | None = None,
    ) -> TraceContext:
        """A span that is over already; returns its context, or the parent's when that is not sampled."""
        span = self.start(name, parent, kind=kind, attributes=attributes, links=links, start_ns=start_ns)
        self.end(span, error, end_ns)
        return self.context_of(span, parent)

    def shutdown(self) -> None:
        """Export what is left and stop."""
        self._provider.shutdown()


def _exporter(settings: NodeSettings) -> SpanExporter:
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()
    return SpanStoreExporter(Path(settings.data_dir) / "traces", settings.node_id, settings.trace_store_bytes)
