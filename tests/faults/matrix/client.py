"""The client of a cell: seeded events through both doors at a steady pace, and what it was told of each.

It lives outside the fleet, in the runner's loop. Every fourth event goes over HTTP, every fourth alone over gRPC,
and the rest in batches with client tokens, which are repeated until the door has answered for each: the same token is
the same event. An event without one is sent once: if its answer is lost, it may or may not have been stored.
"""

import asyncio
import concurrent.futures
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from evenflow.common.v1 import errors_pb2
from evenflow.frontend.v1 import frontend_pb2, frontend_pb2_grpc

from services.shared import ids
from services.shared.errors import EvenflowError, has_detail
from tests.faults.matrix import functions, loop
from tests.faults.matrix.history import Sent

BATCH_EVENTS = 10
MAX_PAD_BYTES = 400
CALL_SECONDS = 5.0
# How long a token is repeated, and how long a connection that is down is waited for.
PATIENCE_SECONDS = 60.0
REPEAT_SECONDS = 0.1
MAX_UNDER_WAY = 256
# How the words of a failure begin when there was no connection, or none any more.
CUT = "no connection"
MAX_TIMES = 3
_UNKNOWN = (errors_pb2.ERROR_REASON_OUTCOME_UNKNOWN, errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED)


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent: `events` at `per_second`, and more at the same pace for as long as the fault lasts, at most
    MAX_TIMES as many (`Client.pace` changes it on the way). fails, wavers, segfaults: parts of 1 that fail always,
    every other time, and that crash."""

    events: int
    per_second: float
    seed: int
    fails: float = 0.02
    wavers: float = 0.05
    segfaults: float = 0.0
    sleep_ms: int = 0


@dataclass(slots=True)
class _Event:
    number: int
    function: str
    payload: bytes
    asks: str
    sends: int = 0
    acked: bytes = b""
    refused: str = ""
    due_ns: int = 0
    has_token: bool = False
    failure: str = ""


@dataclass(slots=True)
class Progress:
    """What the client has seen so far. ack_at: monotonic seconds of each acknowledgement."""

    sent: int = 0
    acked: int = 0
    ack_at: list[float] = field(default_factory=list)


class Client:
    """Sends a load from the runner's loop; `start`, then `join`."""

    def __init__(self, load: Load, host: str, http_port: int, grpc_port: int) -> None:
        self.load = load
        self.progress = Progress()
        self._address = (host, http_port, grpc_port)
        self._events: list[_Event] = []
        self._draw = random.Random(f"fault load {load.seed}")
        self._is_fault_over = threading.Event()
        self._per_second = load.per_second
        # When the next event is to be sent, monotonic.
        self._due_seconds = 0.0
        self._work: concurrent.futures.Future[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._work = loop.start(self._send_all())

    def fault_is_over(self) -> None:
        """What is left of the load is sent, and no more."""
        self._is_fault_over.set()

    def pace(self, per_second: float) -> None:
        """Send at this pace from now on; what is late by now is not caught up with."""
        self._per_second = per_second
        self._due_seconds = max(self._due_seconds, time.monotonic())

    @property
    def is_done(self) -> bool:
        """Whether everything was sent and answered, or given up."""
        return self._work is not None and self._work.done()

    def cancel(self) -> None:
        """Send no more, and wait for nothing."""
        if self._work is not None:
            self._work.cancel()

    def join(self) -> list[Sent]:
        """Wait until it is done; what became of each event. What broke in the client itself is raised here, and
        TimeoutError: it does not end."""
        assert self._work is not None
        longest = MAX_TIMES * self.load.events / self._per_second + 3 * PATIENCE_SECONDS
        try:
            self._work.result(longest)
        finally:
            self.cancel()
        return [
            Sent(
                one.number,
                functions.body_hash(one.payload),
                one.asks,
                one.sends,
                one.acked,
                one.refused,
                one.due_ns,
                one.has_token,
                one.failure,
            )
            for one in self._events
        ]

    async def _send_all(self) -> None:
        host, _, grpc_port = self._address
        self._due_seconds, wall_offset_ns = time.monotonic(), time.time_ns() - time.monotonic_ns()
        free = asyncio.Semaphore(MAX_UNDER_WAY)
        batch: list[_Event] = []
        options = [("grpc.max_reconnect_backoff_ms", 500), ("grpc.initial_reconnect_backoff_ms", 100)]
        async with (
            grpc.aio.insecure_channel(f"{host}:{grpc_port}", options=options) as channel,
            asyncio.TaskGroup() as group,
        ):
            door: Any = frontend_pb2_grpc.FrontendServiceStub(channel)

            async def under_way(send: Callable[..., Any], *arguments: Any) -> None:
                try:
                    await send(*arguments)
                finally:
                    free.release()

            while (place := len(self._events)) < MAX_TIMES * self.load.events:
                if place >= self.load.events and self._is_fault_over.is_set():
                    break
                event = _make(self.load, place, self._draw)
                event.due_ns = int(self._due_seconds * 1e9) + wall_offset_ns
                self._events.append(event)
                await asyncio.sleep(max(0.0, self._due_seconds - time.monotonic()))
                self._due_seconds += 1 / self._per_second
                kind = event.number % 4
                self.progress.sent += 1
                if kind == 0:
                    await free.acquire()
                    group.create_task(under_way(self._over_http, event))
                elif kind == 1:
                    await free.acquire()
                    group.create_task(under_way(self._alone, door, event))
                else:
                    event.has_token = True
                    batch.append(event)
                    if len(batch) == BATCH_EVENTS:
                        await free.acquire()
                        group.create_task(under_way(self._with_tokens, door, batch))
                        batch = []
            if batch:
                await free.acquire()
                group.create_task(under_way(self._with_tokens, door, batch))

    async def _over_http(self, event: _Event) -> None:
        host, http_port, _ = self._address
        event.sends += 1
        is_sent = False
        try:
            async with asyncio.timeout(CALL_SECONDS):
                reader, writer = await asyncio.open_connection(host, http_port)
                try:
                    head = (
                        f"POST /2015-03-31/functions/{event.function}/invocations HTTP/1.1\r\nHost: {host}\r\n"
                        "X-Amz-Invocation-Type: Event\r\nConnection: close\r\n"
                        f"Content-Length: {len(event.payload)}\r\n\r\n"
                    )
                    is_sent = True
                    writer.write(head.encode() + event.payload)
                    answer = await reader.read()
                finally:
                    writer.close()
        except TimeoutError:
            event.failure = "HTTP: no answer in time"
            event.refused = "" if is_sent else "no connection"
            return
        except OSError as e:
            # A connection that never was has stored nothing.
            event.failure = f"{CUT}, HTTP: {type(e).__name__}"
            event.refused = "" if is_sent else "no connection"
            return
        head_text = answer.partition(b"\r\n\r\n")[0].decode("latin-1")
        status, headers = _parse_head(head_text)
        event.failure = f"HTTP {status}" if status else f"{CUT}, HTTP: no answer"
        if status == "202":
            self._acked(event, ids.from_text(headers["x-amzn-requestid"]))
        elif status.startswith("4"):
            event.refused = f"HTTP {status}"
        # 5xx may be an outcome that the door does not know.

    async def _alone(self, door: Any, event: _Event) -> None:
        event.sends += 1
        request = frontend_pb2.InvokeAsyncRequest(event=_submission(event, ""))
        try:
            answer = await door.InvokeAsync(request, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as e:
            error = EvenflowError.from_rpc_error(e)
            event.failure = f"gRPC: {error.message}" if has_detail(e) else _words_of(e)
            if has_detail(e) and error.reason not in _UNKNOWN:
                event.refused = error.message
            return
        self._acked(event, answer.request_id)

    async def _with_tokens(self, door: Any, batch: list[_Event]) -> None:
        give_up = time.monotonic() + PATIENCE_SECONDS
        waiting = list(batch)
        while waiting and time.monotonic() < give_up:
            for event in waiting:
                event.sends += 1
            events = [_submission(one, f"{self.load.seed}-{one.number}") for one in waiting]
            try:
                answer = await door.PublishBatch(frontend_pb2.PublishBatchRequest(events=events), timeout=CALL_SECONDS)
            except grpc.aio.AioRpcError as e:
                for event in waiting:
                    event.failure = _words_of(e)
                await asyncio.sleep(REPEAT_SECONDS)
                continue
            again: list[_Event] = []
            for event, result in zip(waiting, answer.results, strict=True):
                if not result.HasField("error"):
                    self._acked(event, result.request_id)
                    continue
                event.failure = result.error.message
                if EvenflowError.from_detail(result.error).kind.retryable:
                    again.append(event)
                else:
                    event.refused = result.error.message
            waiting = again
            if waiting:
                await asyncio.sleep(REPEAT_SECONDS)

    def _acked(self, event: _Event, request_id: bytes) -> None:
        event.acked, event.failure = request_id, ""
        self.progress.acked += 1
        self.progress.ack_at.append(time.monotonic())


def _make(load: Load, number: int, draw: random.Random) -> _Event:
    place = draw.random()
    asks = functions.SUCCEED
    for name, part in (
        (functions.FAIL, load.fails),
        (functions.WAVER, load.wavers),
        (functions.SEGFAULT, load.segfaults),
    ):
        if place < part:
            asks = name
            break
        place -= part
    pad = "x" * draw.randint(0, MAX_PAD_BYTES)
    function = functions.TOLD if draw.random() < 0.5 else functions.PLAIN
    return _Event(number, function, functions.body(number, asks, load.sleep_ms, pad), asks)


def _submission(event: _Event, token: str) -> frontend_pb2.EventSubmission:
    return frontend_pb2.EventSubmission(function_name=event.function, payload=event.payload, client_token=token)


def _words_of(error: grpc.aio.AioRpcError) -> str:
    """Of a call that the door did not answer itself."""
    # A server that ends cancels what its socket has and nobody has begun.
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return f"{CUT}, gRPC: {error.code().name}"
    return f"gRPC: {error.code().name}"


def _parse_head(text: str) -> tuple[str, dict[str, str]]:
    first, *lines = text.split("\r\n")
    parts = first.split(" ")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return (parts[1] if len(parts) > 1 else ""), headers
