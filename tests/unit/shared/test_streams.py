"""Streams between services: kept up by the caller, gated by the server, ended in order."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.shared.channels import GrpcServer, Peer
from services.shared.errors import EvenflowError, Reason, invalid
from services.shared.streams import StreamLink, Wakeup, serve_stream
from tests.kit.waiting import eventually

PATH = "/test.Stream/Talk"
Handler = Callable[[Any], Awaitable[None]]


async def start_server(run_dir: Path, handler: Handler) -> GrpcServer:
    async def talk(_requests: Any, context: Any) -> None:
        await handler(context)

    server = GrpcServer(None, [])
    handlers: dict[str, Any] = {"Talk": grpc.stream_stream_rpc_method_handler(talk)}
    server.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Stream", handlers),))
    server.bind(f"unix:{run_dir}/s.sock")
    await server.start()
    return server


class Echo:
    """Answers each message with itself; ends the call for b"bad"."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.clean_ends = 0

    async def handle(self, context: Any) -> None:
        outbox: deque[bytes] = deque()
        wakeup = Wakeup()

        def on_message(message: bytes) -> None:
            if message == b"bad":
                raise invalid("bad message")
            self.seen.append(message)
            outbox.append(message)
            wakeup.set()

        await serve_stream(
            context, on_message=on_message, produce=lambda: outbox.popleft() if outbox else None, wakeup=wakeup
        )
        self.clean_ends += 1


class Caller:
    """A link that notes what happens to it."""

    def __init__(self, run_dir: Path) -> None:
        self.peer = Peer.dial(f"unix:{run_dir}/s.sock", "")
        self.outbox: deque[bytes] = deque()
        self.got: list[bytes] = []
        self.ups = self.downs = 0
        self.link: StreamLink[bytes, bytes] = StreamLink(
            "test",
            dial=self.peer.channel.stream_stream(PATH),
            hello=lambda: b"hello %d" % self.ups,
            produce=lambda: self.outbox.popleft() if self.outbox else None,
            on_message=self.got.append,
            on_up=self._up,
            on_down=self._down,
        )

    def _up(self) -> None:
        self.ups += 1

    def _down(self, _error: grpc.aio.AioRpcError | None) -> None:
        self.downs += 1

    def send(self, message: bytes) -> None:
        self.outbox.append(message)
        self.link.wake()

    async def close(self) -> None:
        await self.link.close()
        await self.peer.close()


async def test_a_link_says_hello_and_comes_back_when_the_server_does(run_dir: Path) -> None:
    """Hello first on every opening; what waits is sent then; each up has its down."""
    echo = Echo()
    server = await start_server(run_dir, echo.handle)
    caller = Caller(run_dir)
    try:
        caller.link.start()
        caller.send(b"one")
        await eventually(lambda: caller.got == [b"hello 0", b"one"])
        await server.stop(0)
        await eventually(lambda: caller.downs == 1)
        assert not caller.link.is_up
        caller.send(b"two")
        server = await start_server(run_dir, echo.handle)
        await eventually(lambda: caller.got[2:] == [b"hello 1", b"two"])
        assert (caller.ups, caller.downs, caller.link.is_up) == (2, 1, True)
    finally:
        await caller.close()
        await server.stop(0)


async def test_a_link_starts_before_its_server(run_dir: Path) -> None:
    """It waits for it, and counts as down meanwhile."""
    caller = Caller(run_dir)
    caller.link.start()
    await asyncio.sleep(0)
    assert not caller.link.is_up
    server = await start_server(run_dir, Echo().handle)
    try:
        await eventually(lambda: caller.got == [b"hello 0"])
        assert caller.downs == 0
    finally:
        await caller.close()
        await server.stop(0)


async def test_a_refused_message_ends_the_call_and_the_link_opens_it_again(run_dir: Path) -> None:
    """on_message raised: the caller sees the end and says hello anew."""
    echo = Echo()
    server = await start_server(run_dir, echo.handle)
    caller = Caller(run_dir)
    try:
        caller.link.start()
        caller.send(b"bad")
        await eventually(lambda: caller.downs == 1 and caller.got[-1:] == [b"hello 1"])
        call: Any = caller.peer.channel.stream_stream(PATH)()
        await call.write(b"bad")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async for _ in call:
                pass
        assert EvenflowError.from_rpc_error(refused.value).reason == Reason.ERROR_REASON_INVALID_PARAMETER
    finally:
        await caller.close()
        await server.stop(0)


async def test_a_message_that_cannot_be_taken_does_not_end_the_link(run_dir: Path) -> None:
    """The exception is logged and the stream opened anew: a link that died silently would leave its service deaf."""
    server = await start_server(run_dir, Echo().handle)
    caller = Caller(run_dir)

    def take(message: bytes) -> None:
        if message == b"poison":
            raise OverflowError("date value out of range")
        caller.got.append(message)

    caller.link._on_message = take
    caller.link.start()
    try:
        await eventually(lambda: caller.got == [b"hello 0"])
        caller.outbox.append(b"poison")
        caller.link.wake()
        await eventually(lambda: caller.downs == 1)
        await eventually(lambda: caller.got == [b"hello 0", b"hello 1"])
    finally:
        await caller.link.close()
        await caller.peer.close()
        await server.stop(0)


async def test_finishing_sends_what_waits_and_ends_cleanly(run_dir: Path) -> None:
    """The server reads everything to an end that the caller meant."""
    echo = Echo()
    server = await start_server(run_dir, echo.handle)
    caller = Caller(run_dir)
    try:
        caller.link.start()
        await eventually(lambda: caller.got)
        for number in range(50):
            caller.outbox.append(b"last %d" % number)
        await caller.link.finish(5)
        assert echo.seen[-1] == b"last 49" and caller.got[-1] == b"last 49"
        await eventually(lambda: echo.clean_ends == 1)
        assert caller.link.is_up is False
    finally:
        await caller.close()
        await server.stop(0)


async def test_the_gate_holds_the_reading_back(run_dir: Path) -> None:
    """Nothing is read while may_read says no; all of it once it is opened, in order."""
    seen: list[bytes] = []
    gate, wakeup, is_open = Wakeup(), Wakeup(), False
    entered = asyncio.Event()

    def may_read() -> bool:
        entered.set()
        return is_open or len(seen) < 2

    async def handle(context: Any) -> None:
        await serve_stream(
            context, on_message=seen.append, produce=lambda: None, wakeup=wakeup, may_read=may_read, read_gate=gate
        )

    server = await start_server(run_dir, handle)
    peer = Peer.dial(f"unix:{run_dir}/s.sock", "")
    try:
        call: Any = peer.channel.stream_stream(PATH)()
        for number in range(5):
            await call.write(b"%d" % number)
        await eventually(lambda: len(seen) == 2)
        gate.set()
        entered.clear()
        await entered.wait()
        assert seen == [b"0", b"1"]
        is_open = True
        gate.set()
        await eventually(lambda: seen == [b"0", b"1", b"2", b"3", b"4"])
        call.cancel()
    finally:
        await peer.close()
        await server.stop(0)


async def test_after_the_callers_end_a_call_lasts_as_long_as_answers_are_owed(run_dir: Path) -> None:
    """It ends by itself when the last one is out."""
    outbox: deque[bytes] = deque()
    wakeup, owing, read = Wakeup(), [True], asyncio.Event()
    ended = asyncio.Event()

    async def handle(context: Any) -> None:
        await serve_stream(
            context,
            on_message=lambda _message: read.set(),
            produce=lambda: outbox.popleft() if outbox else None,
            wakeup=wakeup,
            is_owing=lambda: owing[0],
        )
        ended.set()

    server = await start_server(run_dir, handle)
    peer = Peer.dial(f"unix:{run_dir}/s.sock", "")
    try:
        call: Any = peer.channel.stream_stream(PATH)()
        await call.write(b"question")
        await call.done_writing()
        await read.wait()
        assert not ended.is_set()
        outbox.append(b"answer")
        owing[0] = False
        wakeup.set()
        assert [part async for part in call] == [b"answer"]
        await ended.wait()
    finally:
        await peer.close()
        await server.stop(0)
