"""Batched bidirectional streams, both ends: a reader that hands messages over and a writer that pulls them.

The writer asks `produce()` for the next message whenever the last one has been taken by the transport; whatever
came up meanwhile goes out as one message. So batches grow with load and nothing waits when idle. A message costs
about as much as thirty events in it: where nobody waits for the single event, a gap after each message makes the next
one larger.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import grpc

from services.policy.backoff import equal_jitter_ms
from services.shared.errors import EvenflowError, abort

Req = TypeVar("Req")
Res = TypeVar("Res")
BACKOFF_BASE_MS = 50.0
BACKOFF_CAP_MS = 2_000.0
# The gap of streams between services that carry events from the queue: the first message after a pause leaves at once,
# and the fuller a message was, the longer the next one is filled.
QUEUE_GAP_MS = 2.0
MAX_QUEUE_GAP_MS = 8.0
GAP_MS_AN_EVENT = 0.125
log = logging.getLogger(__name__)


def queue_gap_ms(events: int) -> float:
    """The gap after a message of so many events."""
    return min(MAX_QUEUE_GAP_MS, QUEUE_GAP_MS + events * GAP_MS_AN_EVENT)


class Wakeup:
    """An edge that one writer waits for; cheap to set many times."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """There is something to send."""
        self._event.set()

    async def wait(self) -> None:
        """Until set; takes the edge."""
        await self._event.wait()
        self._event.clear()


class StreamLink(Generic[Req, Res]):
    """The calling end of a stream that is kept up: opened again, with jittered back-off, whenever it breaks.

    dial: opens the call. hello: the first message of each opening, or None. produce: the next message, or None when
    there is nothing to send. on_message: each answer. on_down: the stream broke; the error is None when the peer
    ended it. gap_ms: shortest time between this message and the next.
    """

    def __init__(
        self,
        name: str,
        *,
        dial: Callable[[], "grpc.aio.StreamStreamCall[Req, Res]"],
        produce: Callable[[], Req | None],
        on_message: Callable[[Res], None],
        hello: Callable[[], Req | None] = lambda: None,
        on_up: Callable[[], None] = lambda: None,
        on_down: Callable[[grpc.aio.AioRpcError | None], None] = lambda _error: None,
        gap_ms: Callable[[Req], float] = lambda _message: 0.0,
    ) -> None:
        self.name = name
        self.is_up = False
        self._dial = dial
        self._produce = produce
        self._on_message = on_message
        self._hello = hello
        self._on_up = on_up
        self._on_down = on_down
        self._gap_ms = gap_ms
        self._wakeup = Wakeup()
        self._is_finishing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to keep the stream up."""
        self._task = asyncio.create_task(self._run(), name=f"link {self.name}")

    def wake(self) -> None:
        """`produce` has something now."""
        self._wakeup.set()

    async def finish(self, within_seconds: float) -> None:
        """Send what there is, end the stream from this side so that the peer sees a clean end, and stop."""
        self._is_finishing = True
        self._wakeup.set()
        if self._task is not None and self.is_up:
            await asyncio.wait({self._task}, timeout=within_seconds)
        await self.close()

    async def close(self) -> None:
        """Cancel the stream and stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        failures = 0
        while True:
            error: grpc.aio.AioRpcError | None = None
            got_message = False
            call = self._dial()
            writer = asyncio.create_task(self._write(call), name=f"link {self.name} writer")
            try:
                while True:
                    message: Any = await call.read()
                    if message is grpc.aio.EOF:
                        break
                    got_message = True
                    self._on_message(message)
            except grpc.aio.AioRpcError as e:
                error = e
            except Exception:
                # A link that died silently would leave its service deaf for good.
                log.exception("a message could not be taken", extra={"peer": self.name})
            finally:
                writer.cancel()
                call.cancel()
                await asyncio.gather(writer, return_exceptions=True)
                was_up, self.is_up = self.is_up, False
                if was_up:
                    self._on_down(error)
            if error is None and call.done():
                # read() answers EOF for some failures too: the status tells.
                code = await call.code()
                if code is not grpc.StatusCode.OK:
                    log.info("stream ended: %s %s", code.name, await call.details(), extra={"peer": self.name})
            elif error is not None and (got_message or failures == 0):
                log.info("stream down: %s %s", error.code().name, error.details(), extra={"peer": self.name})
            if self._is_finishing:
                return
            failures = 1 if got_message else failures + 1
            wait_ms = equal_jitter_ms(failures, BACKOFF_BASE_MS, BACKOFF_CAP_MS, random.random())
            await asyncio.sleep(wait_ms / 1_000)

    async def _write(self, call: "grpc.aio.StreamStreamCall[Req, Res]") -> None:
        try:
            await call.wait_for_connection()
            hello = self._hello()
            if hello is not None:
                await call.write(hello)
            self.is_up = True
            self._on_up()
            while True:
                message = self._produce()
                if message is None and self._is_finishing:
                    await call.done_writing()
                    return
                if message is None:
                    await self._wakeup.wait()
                else:
                    await call.write(message)
                    gap_ms = self._gap_ms(message)
                    if gap_ms:
                        await asyncio.sleep(gap_ms / 1_000)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
            # The reader sees the same end and reports it.
            call.cancel()
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("stream writer failed", extra={"peer": self.name})
            call.cancel()


async def serve_stream(
    context: Any,
    *,
    on_message: Callable[[Any], None],
    produce: Callable[[], Any | None],
    wakeup: Wakeup,
    is_owing: Callable[[], bool] = lambda: False,
    may_read: Callable[[], bool] | None = None,
    read_gate: Wakeup | None = None,
    gap_ms: Callable[[Any], float] = lambda _message: 0.0,
) -> None:
    """The serving end of a stream: reads until the caller ends it, writes what `produce` gives.

    on_message may raise EvenflowError to end the call. After the caller half-closed, the call ends as soon as
    `produce` has nothing and `is_owing` says that no answer is outstanding (wake when that changes). `may_read` False
    stops reading (so that HTTP/2's own flow control holds the caller back) until `read_gate` is set. `gap_ms`:
    shortest time between this message and the next.
    """
    reading_ended = False

    async def read() -> None:
        nonlocal reading_ended
        while True:
            while may_read is not None and read_gate is not None and not may_read():
                await read_gate.wait()
            message = await context.read()
            if message is grpc.aio.EOF:
                reading_ended = True
                wakeup.set()
                return
            on_message(message)

    async def write() -> None:
        while True:
            message = produce()
            if message is not None:
                await context.write(message)
                gap = gap_ms(message)
                if gap:
                    await asyncio.sleep(gap / 1_000)
            elif reading_ended and not is_owing():
                return
            else:
                await wakeup.wait()

    # Else it would go with the first write; a refusal that comes while that is under way would send it again, which
    # gRPC does not take: the call would never end.
    await context.send_initial_metadata(())
    reader, writer = asyncio.create_task(read()), asyncio.create_task(write())
    try:
        done, _ = await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    except EvenflowError as e:
        await abort(context, e)
    finally:
        reader.cancel()
        writer.cancel()
        await asyncio.gather(reader, writer, return_exceptions=True)
