"""Load on the gRPC door: a stream of batches, and single unary calls one after the other."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import grpc
from evenflow.common.v1 import event_pb2
from evenflow.frontend.v1 import frontend_pb2, frontend_pb2_grpc

BATCH_EVENTS = 100
# The door reads no further while 64 batches are unanswered; a quarter of that keeps it busy.
BATCHES_IN_FLIGHT = 16
CALL_SECONDS = 60.0
STREAM_SECONDS = 300.0


class GrpcLoadError(RuntimeError):
    """The door refused an event or ended the stream."""


class GrpcLoad:
    """One channel to the gRPC door; use as an async context."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._stub = frontend_pb2_grpc.FrontendServiceStub(self._channel)

    async def __aenter__(self) -> "GrpcLoad":
        async with asyncio.timeout(CALL_SECONDS):
            await self._channel.channel_ready()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def publish(self, function_name: str, payload: bytes, batches: int) -> None:
        """Send batches of BATCH_EVENTS over one stream until all are durable. GrpcLoadError: an event was refused."""
        await self.publish_to((function_name,), payload, batches)

    async def publish_to(self, function_names: Sequence[str], payload: bytes, batches: int) -> None:
        """The same to many functions in turn, as publish does to one."""
        names = itertools.cycle(function_names)
        # As many different batches as hold every function; made before anything is sent.
        requests = [
            frontend_pb2.PublishRequest(
                events=[
                    frontend_pb2.EventSubmission(function_name=name, payload=payload)
                    for name in itertools.islice(names, BATCH_EVENTS)
                ]
            )
            for _ in range(-(-len(function_names) // BATCH_EVENTS))
        ]
        call = self._stub.Publish(timeout=STREAM_SECONDS)
        room = asyncio.Semaphore(BATCHES_IN_FLIGHT)

        async def read() -> None:
            for _ in range(batches):
                response: Any = await call.read()
                if response is grpc.aio.EOF:
                    raise GrpcLoadError(f"the stream ended: {await call.details()}")
                for result in response.results:
                    if result.HasField("error"):
                        raise GrpcLoadError(f"refused: {result.error.message}")
                room.release()

        async def write() -> None:
            for number in range(1, batches + 1):
                await room.acquire()
                request = requests[number % len(requests)]
                request.batch_id = number
                await call.write(request)
            await call.done_writing()

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(read())
                group.create_task(write())
        except ExceptionGroup as e:
            raise e.exceptions[0] from None
        finally:
            call.cancel()

    async def submit(self, function_name: str, payload: bytes) -> None:
        """Accept one event; until it is durable."""
        event = frontend_pb2.EventSubmission(function_name=function_name, payload=payload)
        await self._stub.InvokeAsync(frontend_pb2.InvokeAsyncRequest(event=event), timeout=CALL_SECONDS)

    async def invoke(self, function_name: str, payload: bytes = b"{}") -> event_pb2.Outcome:
        """Run a function and wait. GrpcLoadError: the handler failed."""
        request = frontend_pb2.InvokeRequest(function_name=function_name, payload=payload)
        response = await self._stub.Invoke(request, timeout=CALL_SECONDS)
        if response.outcome.status != event_pb2.OUTCOME_STATUS_SUCCEEDED:
            raise GrpcLoadError(f"{function_name} failed: {response.outcome.response_payload[:300]!r}")
        return response.outcome
