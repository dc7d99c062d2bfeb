"""Spans and metrics of a queue node. Spans are made after the fact, on the loop, and only of sampled events."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evenflow.common.v1.event_pb2 import TraceContext

from services.queue.domain import EnqueueBatch, Entry, Settle, SettleBatch
from services.shared import ids
from services.shared.metrics import Metrics, Value
from services.shared.tracing import Tracer

if TYPE_CHECKING:
    from services.queue.counts import DrainReport
    from services.queue.shard import Shard

SAMPLED = "01"


@dataclass(slots=True)
class SpanFacts:
    """A span that is over."""

    name: str
    trace: TraceContext
    start_ns: int
    end_ns: int
    attributes: dict[str, str | bool | int | float]


def enqueue_spans(shard_id: int, batches: Iterable[EnqueueBatch], end_ns: int) -> list[SpanFacts]:
    """Arrival to commit of each sampled event that was stored."""
    return [
        _facts("queue.enqueue", shard_id, entry, batch.arrived_ns, end_ns)
        for batch in batches
        for entry in batch.entries
        if entry.sequence and entry.traceparent.endswith(SAMPLED)
    ]


def wait_spans(shard: "Shard", entries: Iterable[Entry]) -> list[SpanFacts]:
    """Available to lease of each sampled event."""
    found: list[SpanFacts] = []
    for entry in entries:
        if entry.traceparent.endswith(SAMPLED):
            end_ns = shard.wall_ns()
            start_ns = entry.available_ns or (end_ns if entry.progress else entry.enqueued_at_ms * 1_000_000)
            found.append(_facts("queue.wait", shard.shard_id, entry, start_ns, max(start_ns, end_ns)))
    return found


def settle_spans(shard_id: int, settled: Iterable[tuple[SettleBatch, Entry, Settle]], end_ns: int) -> list[SpanFacts]:
    """Arrival to commit of each settlement of a sampled event."""
    found: list[SpanFacts] = []
    for batch, entry, settle in settled:
        facts = _facts("queue.settle", shard_id, entry, batch.arrived_ns, end_ns)
        facts.attributes["action"] = settle.action.name.lower()
        found.append(facts)
    return found


def _facts(name: str, shard_id: int, entry: Entry, start_ns: int, end_ns: int) -> SpanFacts:
    trace = TraceContext(traceparent=entry.traceparent, tracestate=entry.tracestate)
    attributes: dict[str, str | bool | int | float] = {
        "faas.invocation_id": ids.to_text(entry.request_id),
        "evenflow.shard_id": shard_id,
        "evenflow.tenant_id": entry.tenant_id,
        "faas.invoked_name": entry.function_name,
    }
    return SpanFacts(name, trace, start_ns, end_ns, attributes)


class QueueTelemetry:
    """What a node counts; called on the loop after each drain."""

    def __init__(
        self, tracer: Tracer | None, metrics: Metrics | None, numbers: Callable[[], Iterable[tuple[int, Any]]]
    ) -> None:
        """`numbers` gives (shard id, ShardStats) of each open shard."""
        self._tracer = tracer
        self._numbers = numbers
        self._metrics = metrics
        if metrics is None:
            return
        metrics.gauge("evenflow_queue_depth", "Events not settled yet", self._gauge("depth"))
        metrics.gauge("evenflow_queue_leased", "Events leased now", self._gauge("leased"))
        metrics.gauge("evenflow_queue_dead_letters", "Dead letters kept", self._gauge("dead_letters"))
        metrics.gauge("evenflow_queue_outcomes", "Finished events still known", self._gauge("outcomes"))
        metrics.gauge("evenflow_queue_oldest_age_ms", "Age of the oldest available event", self._gauge("oldest_age_ms"))
        self._accepted = metrics.counter("evenflow_queue_enqueued", "Events in committed batches, repeats included")
        self._settled = metrics.counter("evenflow_queue_settled", "Settlements committed")
        self._batch = metrics.histogram(
            "evenflow_queue_commit_events", "1", "Events and settlements of one transaction"
        )
        self._commit = metrics.histogram("evenflow_queue_commit_ms", "ms", "Time of one commit")

    def note(self, shard_id: int, report: "DrainReport") -> None:
        """Take in what a drain did."""
        if self._tracer is not None:
            for facts in report.spans or ():
                self._tracer.record(facts.name, facts.trace, facts.start_ns, facts.end_ns, attributes=facts.attributes)
        changed = report.enqueued + report.settled
        if self._metrics is None or not changed:
            return
        label = str(shard_id)
        self._accepted.add(report.enqueued, shard=label)
        self._settled.add(report.settled, shard=label)
        self._batch.record(changed)
        self._commit.record(report.commit_ms)

    def _gauge(self, name: str) -> Callable[[], Iterable[tuple[Value, Mapping[str, str]]]]:
        def read() -> Iterable[tuple[Value, Mapping[str, str]]]:
            return [(getattr(stats, name), {"shard": str(shard_id)}) for shard_id, stats in self._numbers()]

        return read
