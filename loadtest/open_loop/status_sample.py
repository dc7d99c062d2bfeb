"""Asks the gRPC door what became of a sample of events, once the run is over: the run itself is not disturbed."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import grpc
from evenflow.frontend.v1 import frontend_pb2, frontend_pb2_grpc

from loadtest.open_loop.doors.grpc_door import CHANNEL_OPTIONS, connect, metadata_of
from loadtest.open_loop.sample import MAX_SAMPLED
from loadtest.open_loop.spec import LoadSpec
from services.shared import ids

_AT_ONCE = 16
_CALL_SECONDS = 5.0
_POLL_SECONDS = 0.1
# How often whoever waits is told for how many.
TELL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Status:
    """Milliseconds since the epoch by the fleet's clock; 0: not yet."""

    accepted_at_ms: int
    first_started_at_ms: int
    finished_at_ms: int


UNKNOWN = Status(0, 0, 0)


async def ask(
    spec: LoadSpec,
    sampled: Mapping[int, str],
    tenants: Mapping[int, int],
    within_seconds: float,
    waiting: Callable[[int], None] = lambda _: None,
) -> dict[int, Status]:
    """By the event's number: each is asked for until it ended or the time is over.

    sampled: request ids, of which every n-th is asked for where they are more than MAX_SAMPLED (a closed loop's);
    tenants: the sender of each. waiting: told how many have not ended, every TELL_SECONDS. UNKNOWN: of one that the
    door never told, or tells no more. A door that stands still holds it for two calls' time more.
    """
    every = -(-len(sampled) // MAX_SAMPLED) or 1
    chosen = dict(sorted(sampled.items())[::every])
    found = dict.fromkeys(chosen, UNKNOWN)
    if not chosen:
        return found
    deadline = time.monotonic() + within_seconds
    room = asyncio.Semaphore(_AT_ONCE)
    async with grpc.aio.insecure_channel(f"{spec.host}:{spec.grpc_port}", options=CHANNEL_OPTIONS) as channel:
        await connect(channel)
        stub = frontend_pb2_grpc.FrontendServiceStub(channel)

        async def follow(number: int, request_id: bytes) -> None:
            tenant = tenants[number]
            metadata = metadata_of(spec.keys[tenant]) if tenant < len(spec.keys) else ()
            request = frontend_pb2.GetEventRequest(request_id=request_id)
            while True:
                try:
                    async with room:
                        if time.monotonic() > deadline + _CALL_SECONDS:
                            return
                        told = await stub.GetEvent(request, metadata=metadata, timeout=_CALL_SECONDS)
                    found[number] = Status(told.accepted_at_ms, told.first_started_at_ms, told.finished_at_ms)
                    if told.finished_at_ms:
                        return
                except grpc.aio.AioRpcError as e:
                    # Ended events are kept for a while only.
                    if e.code() == grpc.StatusCode.NOT_FOUND:
                        return
                if time.monotonic() > deadline:
                    return
                await asyncio.sleep(_POLL_SECONDS)

        async def tell() -> None:
            while True:
                await asyncio.sleep(TELL_SECONDS)
                waiting(sum(not one.finished_at_ms for one in found.values()))

        telling = asyncio.create_task(tell())
        try:
            await asyncio.gather(*(follow(number, ids.from_text(text)) for number, text in chosen.items()))
        finally:
            telling.cancel()
    return found
