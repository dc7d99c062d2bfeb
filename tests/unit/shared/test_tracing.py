"""Traces: who decides sampling, what a span says, what the store keeps."""

import json
from pathlib import Path

import pytest
from evenflow.common.v1.event_pb2 import TraceContext
from opentelemetry.trace import SpanKind

from services.shared.clock import FakeClock
from services.shared.settings import NodeSettings
from services.shared.span_store import read_spans
from services.shared.tracing import (
    RootSampler,
    Tracer,
    force_sampled,
    is_sampled,
    is_valid_traceparent,
    trace_id_of,
)

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"


def make_tracer(
    folder: Path, per_second: float = 1_000.0, one_in: int = 1_000_000, store_bytes: int = 1 << 20
) -> Tracer:
    settings = NodeSettings(
        node_id="frontend-0",
        data_dir=str(folder),
        run_dir=str(folder),
        token_file="",
        trace_per_second=per_second,
        trace_one_in=one_in,
        trace_store_bytes=store_bytes,
    )
    return Tracer("frontend", settings)


def test_a_fresh_trace_is_a_root_whose_children_name_it(tmp_path: Path) -> None:
    tracer = make_tracer(tmp_path)
    fresh = tracer.new_root()
    root = tracer.start("frontend.invoke_async", fresh, kind=SpanKind.PRODUCER, attributes={"faas.name": "clean"})
    context = tracer.context_of(root, fresh)
    tracer.record("queue.enqueue", context, 1_000, 2_000, links=[context], error="disk full")
    tracer.end(root)
    tracer.shutdown()

    spans = {s["name"]: s for s in read_spans(tmp_path / "traces", trace_id_of(context))}

    parent, child = spans["frontend.invoke_async"], spans["queue.enqueue"]
    assert parent["parent_id"] == "" and parent["kind"] == "producer" and parent["attributes"] == {"faas.name": "clean"}
    assert child["parent_id"] == parent["span_id"] and child["error"] == "disk full"
    assert child["links"] == [{"trace_id": parent["trace_id"], "span_id": parent["span_id"]}]
    assert (child["start_unix_nano"], child["end_unix_nano"]) == (1_000, 2_000)


def test_a_callers_trace_goes_on(tmp_path: Path) -> None:
    tracer = make_tracer(tmp_path)
    context = tracer.record("frontend.invoke", tracer.new_root(CALLER + "01"), 1, 2)
    tracer.shutdown()
    (span,) = read_spans(tmp_path / "traces", trace_id_of(context))
    assert span["trace_id"] == CALLER[3:35] and span["parent_id"] == "b7ad6b7169203331"


def test_what_is_not_sampled_costs_no_span_but_keeps_its_ids(tmp_path: Path) -> None:
    tracer = make_tracer(tmp_path, per_second=0)
    context = tracer.new_root()
    assert not is_sampled(context) and is_valid_traceparent(context.traceparent)
    assert tracer.start("x", context) is None
    assert tracer.record("x", context, 1, 2) == context
    tracer.shutdown()
    assert list(read_spans(tmp_path / "traces", "x")) == []


def test_a_failure_is_kept_under_the_trace_it_would_have_had(tmp_path: Path) -> None:
    tracer = make_tracer(tmp_path, per_second=0)
    context = tracer.new_root()
    tracer.record("poller.attempt", force_sampled(context), 1, 2, error="boom")
    tracer.shutdown()
    (span,) = read_spans(tmp_path / "traces", trace_id_of(context))
    assert span["error"] == "boom" and span["trace_id"] == trace_id_of(context)


def test_the_sampler_keeps_so_many_a_second_and_one_in_n_beyond() -> None:
    clock = FakeClock()
    sampler = RootSampler(per_second=10, one_in=100, clock=clock)
    assert sum(sampler.keep() for _ in range(1_010)) == 10 + 10
    clock.advance(500)
    assert sum(sampler.keep() for _ in range(50)) == 5


@pytest.mark.parametrize(
    "text",
    ["", "00-", CALLER + "0", CALLER + "zz", "01" + CALLER[2:] + "01", "00-" + "0" * 32 + CALLER[35:] + "01"],
)
def test_a_malformed_traceparent_is_not_taken_over(text: str, tmp_path: Path) -> None:
    tracer = make_tracer(tmp_path)
    assert not is_valid_traceparent(text)
    assert tracer.new_root(text).traceparent[3:35] != CALLER[3:35]
    assert tracer.start("x", TraceContext(traceparent=text)) is None or text.endswith("01")
    tracer.shutdown()


def test_the_store_is_bounded_and_survives_a_torn_line(tmp_path: Path) -> None:
    tracer = make_tracer(tmp_path, store_bytes=65_536)
    context = tracer.new_root()
    for n in range(2_000):
        context = tracer.record("queue.wait", context, n, n + 1)
    tracer.shutdown()
    files = list((tmp_path / "traces").iterdir())
    # A batch of spans is written whole, so a file may pass its half by one batch.
    assert len(files) <= 2 and sum(f.stat().st_size for f in files) < 65_536 + 2 * 512 * 400
    with open(tmp_path / "traces" / "frontend-0.jsonl", "a") as file:
        file.write('{"trace_id":"' + trace_id_of(context) + '", "torn')
    assert all(isinstance(json.dumps(s), str) for s in read_spans(tmp_path / "traces", trace_id_of(context)))
