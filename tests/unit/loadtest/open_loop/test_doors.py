"""The driver's doors against servers that hang up, babble or say nothing: counted, never raised, tried again."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from evenflow.common.v1 import event_pb2
from evenflow.frontend.v1 import frontend_pb2

from loadtest.arrivals import arrivals
from loadtest.arrivals.shapes import Shape
from loadtest.open_loop import driver
from loadtest.open_loop.callers import Callers
from loadtest.open_loop.doors.door import Door, make_door
from loadtest.open_loop.driver import Requests
from loadtest.open_loop.merge import Merged, merge
from loadtest.open_loop.outcomes import ACCEPTED, CONNECTION, FAILED, FIRST_REASON, UNANSWERED, Outcomes
from loadtest.open_loop.pace import send_on_time
from loadtest.open_loop.spec import LoadSpec, Traffic
from tests.kit.waiting import eventually

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ACCEPT = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nx-amzn-RequestId: 0190a6f2-0000-7000-8000-000000000001\r\n\r\n"
REFUSE = b"HTTP/1.1 429 Too Many Requests\r\nx-amzn-ErrorType: TooManyRequestsException\r\nContent-Length: 2\r\n\r\n{}"


def answering(answer: bytes, times: int = 1_000) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(times):
            head = await reader.readuntil(b"\r\n\r\n")
            seen.append(head)
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            # In two pieces: answers are put together.
            writer.write(answer[:7])
            await writer.drain()
            writer.write(answer[7:])
        writer.close()

    return serve


seen: list[bytes] = []


@asynccontextmanager
async def door_to(serve: Serve, in_flight: int = 10, **more: object) -> AsyncIterator[tuple[Door, Outcomes]]:
    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    seen.clear()
    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    told = replace(LoadSpec("127.0.0.1", port, port, traffic=Traffic(Shape(), 1.0)), **more)  # type: ignore[arg-type]
    found = Outcomes()
    found.begin_ns = time.monotonic_ns()
    found.plan(range(100), [0] * 100, [0] * 100, range(100))
    door = make_door(told, in_flight, found)
    try:
        yield door, found
    finally:
        await door.close()
        server.close()


def code(found: Outcomes, place: int) -> int:
    return found.codes[place]


def reasons(found: Outcomes) -> Merged:
    return merge([found.part(0.0)])


async def test_answers_are_told_apart() -> None:
    async with door_to(answering(ACCEPT)) as (door, found):
        await door.open()
        for place in range(3):
            assert door.send(place, 0, door.request(0, b"{}"))
        await found.wait_answered(5.0)
        assert [code(found, place) for place in range(3)] == [ACCEPTED] * 3
        assert set(found.ids.values()) == {"0190a6f2-0000-7000-8000-000000000001"}
    async with door_to(answering(REFUSE)) as (door, found):
        door.send(0, 0, door.request(0, b"{}"))
        await found.wait_answered(5.0)
        assert reasons(found).reasons == ("TooManyRequestsException",)
        assert code(found, 0) == FIRST_REASON


@pytest.mark.parametrize(("error_type", "expected"), [("Asked", ACCEPTED), ("Sandbox.Timedout", FAILED)])
async def test_a_function_error_that_was_not_asked_for_is_a_failure(error_type: str, expected: int) -> None:
    body = b'{"errorType":"%s"}' % error_type.encode()
    head = b"HTTP/1.1 200 OK\r\nX-Amz-Function-Error: Unhandled\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with door_to(answering(head + body), synchronous=True) as (door, found):
        door.send(0, 0, door.request(0, b"{}"))
        await found.wait_answered(5.0)
        assert code(found, 0) == expected


async def test_grpc_outcomes_are_told_apart_as_well() -> None:
    error = event_pb2.OUTCOME_STATUS_FUNCTION_ERROR
    outcomes = [
        event_pb2.Outcome(status=event_pb2.OUTCOME_STATUS_SUCCEEDED),
        event_pb2.Outcome(status=error, error_type="Asked"),
        event_pb2.Outcome(status=error, error_type="MemoryError"),
    ]
    answers = iter(outcomes)

    async def invoke(request: bytes, context: object) -> bytes:
        return bytes(frontend_pb2.InvokeResponse(outcome=next(answers)).SerializeToString())

    server = grpc.aio.server()
    handlers: dict[str, Any] = {"Invoke": grpc.unary_unary_rpc_method_handler(invoke)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("evenflow.frontend.v1.FrontendService", handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    found = Outcomes()
    found.plan(range(3), [0] * 3, [0] * 3)
    told = LoadSpec("127.0.0.1", port, port, "grpc", synchronous=True, traffic=Traffic(Shape(), 1.0))
    door = make_door(told, 10, found)
    try:
        for place in range(3):
            door.send(place, 0, door.request(0, b"{}"))
            await found.wait_answered(5.0)
        assert list(found.codes) == [ACCEPTED, ACCEPTED, FAILED]
    finally:
        await door.close()
        await server.stop(None)


async def test_requests_are_made_ahead_as_far_as_their_bytes_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are stored, heads and all: an HTTP request without payload has its size too."""
    monkeypatch.setattr(driver, "AHEAD_BYTES", 10_000)
    async with door_to(answering(ACCEPT)) as (door, _):
        part = arrivals.make(1.0, np.zeros(1_000))
        made = Requests(LoadSpec("127.0.0.1", 1, 1, traffic=Traffic(Shape(), 1.0)), part, door)
        assert 0 < sum(sys.getsizeof(one) for one in made._ahead) < 11_000
        assert made.of(999)[1].endswith(b'"number":999}')


async def test_a_caller_whose_handler_leaves_no_record_goes_on(tmp_path: Path) -> None:
    """The bucket is full, the sandbox was killed: the loop does not stand still for it."""
    async with door_to(answering(ACCEPT), records=str(tmp_path), callers=1, answer_seconds=0.2) as (door, _):
        found = Outcomes()
        found.begin_ns = time.monotonic_ns()
        told = LoadSpec("127.0.0.1", 1, 1, records=str(tmp_path), callers=1, answer_seconds=0.2)
        callers = Callers(told, arrivals.make(1.0, np.zeros(1)), door, found, lambda number, _: b"{}", 0, 1)
        door._outcomes = found  # type: ignore[attr-defined]
        running = asyncio.create_task(callers.run(1, time.monotonic_ns() + 10**11))
        try:
            await eventually(lambda: len(found.numbers) >= 3, 10.0, "a third event of the one caller")
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_a_key_names_its_tenant() -> None:
    async with door_to(answering(ACCEPT), keys=("AKIAONE:s",)) as (door, found):
        door.send(0, 0, door.request(0, b"{}"))
        door.send(1, 1, door.request(1, b"{}"))
        await found.wait_answered(5.0)
        assert sorted(b"Credential=AKIAONE/" in head for head in seen) == [False, True]


async def test_a_hang_up_counts_and_the_next_send_connects_again() -> None:
    async with door_to(answering(ACCEPT, times=1)) as (door, found):
        for place in range(3):
            assert door.send(place, 0, door.request(0, b"{}"))
            await found.wait_answered(5.0)
        assert found.under_way == 0
        assert all(code(found, place) in (ACCEPTED, FIRST_REASON) for place in range(3))


@pytest.mark.parametrize("babble", [b"\r\n\r\n", b"HTTP/1.1 202 Accepted\r\nContent-Length: many\r\n\r\n"])
async def test_an_answer_that_is_none_is_a_broken_connection(babble: bytes) -> None:
    async with door_to(answering(babble)) as (door, found):
        door.send(0, 0, door.request(0, b"{}"))
        await found.wait_answered(5.0)
        assert reasons(found).reasons == (CONNECTION,)


@pytest.mark.parametrize("kind", ["http", "grpc", "stream"])
async def test_a_door_that_is_gone_is_counted(kind: str) -> None:
    async with door_to(answering(ACCEPT)) as (_, _):
        pass
    told = LoadSpec("127.0.0.1", 1, 1, door=kind, traffic=Traffic(Shape(), 1.0))
    found = Outcomes()
    found.plan(range(5), [0] * 5, [0] * 5)
    door = make_door(told, 10, found)
    for place in range(5):
        assert door.send(place, 0, door.request(0, b"{}"))
    await found.wait_answered(5.0)
    assert set(found.codes) == {FIRST_REASON} and reasons(found).reasons == (CONNECTION,)
    await door.close()


async def test_silence_ends_at_its_bound_and_frees_its_place() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4_096):
            pass

    async with door_to(silent, in_flight=2, answer_seconds=5.0) as (door, found):
        assert door.send(0, 0, door.request(0, b"{}")) and door.send(1, 0, door.request(0, b"{}"))
        assert not door.send(2, 0, door.request(0, b"{}")), "as many as may be are under way"
        door.expire(time.monotonic_ns())
        assert found.under_way == 2, "not yet"

        # Until both requests were written.
        def is_given_up() -> bool:
            door.expire(time.monotonic_ns() + 6 * 10**9)
            return found.under_way == 0

        await eventually(is_given_up)
        assert code(found, 0) == code(found, 1) == UNANSWERED
        await eventually(lambda: door.send(2, 0, door.request(0, b"{}")), 5.0, "room for one more")


async def test_sends_keep_their_times_and_their_order_though_nothing_is_answered() -> None:
    begin_ns = time.monotonic_ns()
    due_ns = [0, 0, 5_000_000, 5_000_000, 20_000_000]
    sent: list[tuple[int, int]] = []
    await send_on_time(due_ns, begin_ns, lambda place: sent.append((place, time.monotonic_ns() - begin_ns)))
    assert [place for place, _ in sent] == [0, 1, 2, 3, 4]
    assert all(at_ns >= due for (_, at_ns), due in zip(sent, due_ns, strict=True)), "none before its time"


async def test_answers_are_read_while_many_sends_are_due() -> None:
    """A herd does not keep the loop for itself."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(count())
    await send_on_time([0] * 5_000, time.monotonic_ns(), lambda place: None)
    beside.cancel()
    assert turns >= 10
