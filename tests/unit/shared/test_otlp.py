"""OTLP: spans go to the collector that OTEL_EXPORTER_OTLP_ENDPOINT names, over real gRPC, and not into the store."""

from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from services.shared.settings import NodeSettings
from services.shared.span_store import read_spans
from services.shared.tracing import Tracer, trace_id_of


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    def Export(self, request: Any, context: Any) -> Any:
        """See the contract."""
        self.requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()


def test_spans_go_to_the_collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    try:
        folder = str(tmp_path)
        settings = NodeSettings(node_id="queue-0", data_dir=folder, run_dir=folder, token_file="")
        tracer = Tracer("queue", settings)
        root = tracer.new_root()
        context = tracer.record("queue.enqueue", root, 1_000, 2_000, attributes={"evenflow.shard_id": 3})
        tracer.shutdown()
    finally:
        server.stop(0)
    (request,) = collector.requests
    (resource_spans,) = request.resource_spans
    names = {a.key: a.value.string_value for a in resource_spans.resource.attributes}
    assert (names["service.name"], names["service.instance.id"]) == ("evenflow-queue", "queue-0")
    (span,) = resource_spans.scope_spans[0].spans
    assert span.name == "queue.enqueue"
    assert span.trace_id.hex() == trace_id_of(context)
    assert {a.key: a.value.int_value for a in span.attributes} == {"evenflow.shard_id": 3}
    assert list(read_spans(tmp_path / "traces", trace_id_of(context))) == []
