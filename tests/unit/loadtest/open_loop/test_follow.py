"""What became of accepted events is asked of a real gRPC server: ended, under way, forgotten, and by another clock."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from evenflow.frontend.v1 import frontend_pb2

from loadtest.arrivals.shapes import Shape
from loadtest.open_loop import status_sample
from loadtest.open_loop.follow import follow
from loadtest.open_loop.merge import Merged, conclude, merge
from loadtest.open_loop.outcomes import Outcomes
from loadtest.open_loop.spec import LoadSpec, Traffic
from loadtest.workloads.handler import RECORD
from loadtest.workloads.record_reader import RecordReader
from services.shared import ids

MS = 1_000_000
HOUR_MS = 3_600_000
# What the server tells of each event by its number: accept, first start and end, ms from the schedule's begin.
ENDED, STARTED, FORGOTTEN = range(3)


@asynccontextmanager
async def server_of(begin_ms: int) -> AsyncIterator[LoadSpec]:
    async def get_event(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        number = frontend_pb2.GetEventRequest.FromString(request).request_id[-1]
        if number == FORGOTTEN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such event")
        told = frontend_pb2.GetEventResponse(accepted_at_ms=begin_ms + 5, first_started_at_ms=begin_ms + 25)
        if number == ENDED:
            told.finished_at_ms = begin_ms + 65
        return bytes(told.SerializeToString())

    server = grpc.aio.server()
    handlers: dict[str, Any] = {"GetEvent": grpc.unary_unary_rpc_method_handler(get_event)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("evenflow.frontend.v1.FrontendService", handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    traffic = Traffic(Shape("constant", 3.0), 1.0)
    try:
        yield LoadSpec("127.0.0.1", port, port, traffic=traffic, drain_seconds=0.1)
    finally:
        await server.stop(None)


def accepted(count: int, sampled: int) -> Merged:
    """So many events, due at the begin and answered 10 ms later; the first `sampled` are the sample."""
    now_ns = 0
    one = Outcomes(clock=lambda: now_ns)
    one.plan(range(count), [0] * count, [0] * count, range(sampled))
    for place in range(count):
        one.sent(place)
    now_ns = 10 * MS
    for place in range(count):
        if one.accepted(place):
            one.remember(place, ids.to_text(bytes(6) + b"\x70" + bytes(8) + bytes([place])))
    return merge([one.part(0.0)])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.open_loop.follow._LEAST_ASK_SECONDS", 0.2)
    monkeypatch.setattr(status_sample, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(status_sample, "TELL_SECONDS", 0.05)
    monkeypatch.setattr("loadtest.open_loop.follow.TELL_SECONDS", 0.05)


async def test_sampled_events_that_did_not_end_count_until_they_were_given_up() -> None:
    """Two of three: under way, and not known to the door."""
    begin_ns, wall_ns = time.monotonic_ns(), time.time_ns()
    merged = accepted(3, 3)
    said: list[str] = []
    async with server_of(wall_ns // MS) as spec:
        found = conclude(spec, merged, await follow(spec, merged, None, begin_ns, wall_ns, said.append))
    assert said[-1] == "2 events of the sample to end"
    assert found.settled is not None and found.settled.count == 3 and found.not_settled == 2
    assert found.settled.p50_ms >= 200.0
    # Without records their starts are the sample's as well.
    assert found.start is not None and found.start.count == 3 and found.not_started == 1


async def test_two_clocks_are_never_subtracted() -> None:
    """The fleet's is an hour ahead: 10 ms to the answer, then by its own clock 20 to the start and 60 to the end."""
    begin_ns, wall_ns = time.monotonic_ns(), time.time_ns()
    merged = accepted(1, 1)
    async with server_of(wall_ns // MS + HOUR_MS) as spec:
        apart = replace(spec, shares_clock=False)
        found = conclude(apart, merged, await follow(apart, merged, None, begin_ns, wall_ns))
    assert found.start is not None and found.start.max_ms == 30.0
    assert found.settled is not None and found.settled.max_ms == 70.0


async def test_accepted_events_without_a_record_count_until_they_were_given_up(tmp_path: Path) -> None:
    begin_ns, wall_ns = time.monotonic_ns(), time.time_ns()
    merged = accepted(4, 0)
    spec = LoadSpec("127.0.0.1", 1, 1, traffic=Traffic(Shape("constant", 3.0), 1.0), records=str(tmp_path))
    spec = replace(spec, drain_seconds=0.2)
    records = RecordReader(tmp_path, spec.run)
    ends_ns = [wall_ns + 50 * MS, wall_ns + 999 * MS, wall_ns + 1_001 * MS]
    told = [RECORD.pack(spec.run, number, wall_ns + 20 * MS, end_ns) for number, end_ns in enumerate(ends_ns)]
    (tmp_path / "a.runs").write_bytes(b"".join(told))
    said: list[str] = []
    found = conclude(spec, merged, await follow(spec, merged, records, begin_ns, wall_ns, said.append))
    assert set(said) == {"1 events to start"}
    assert found.start is not None and found.start.count == 4 and found.not_started == 1
    assert found.start.p50_ms == 20.0 and found.start.max_ms >= 200.0
    assert found.completed == 2, "the third ended behind the schedule"
    assert found.drained_seconds == spec.drain_seconds and found.settled is None
