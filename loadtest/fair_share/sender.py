"""Sends a schedule open loop: each event at its time, whatever became of those before; late sends are counted."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from evenflow.frontend.v1 import frontend_pb2, frontend_pb2_grpc

from loadtest.fair_share.plan import Send
from loadtest.fair_share.tenants import FUNCTION

# A send that leaves so long after its time is late; the dwell counts from its time all the same.
LATE_MS = 10.0
MAX_BATCH_EVENTS = 1_000
# Nobody may be answered later than this after the last send.
ANSWER_SECONDS = 30.0


@dataclass(slots=True)
class Sent:
    """What became of one phase's sends."""

    began_ns: int = 0
    sends: int = 0
    late: int = 0
    accepted: int = 0
    refused: int = 0
    first_refusal: str = ""
    accept_ms: dict[str, list[float]] = field(default_factory=dict)


class _Stream:
    """One tenant's Publish stream to the gRPC door."""

    def __init__(self, stub: Any, key: str, tenant: str, sent: Sent) -> None:
        self._call = stub.Publish(metadata=(("authorization", f"Bearer {key}"),))
        self._tenant = tenant
        self._sent = sent
        self._due: list[tuple[frontend_pb2.EventSubmission, int]] = []
        self._unanswered: dict[int, list[int]] = {}
        self._last_id = 0
        self._wake = asyncio.Event()
        self._is_over = False

    def send(self, event: frontend_pb2.EventSubmission, intended_ns: int) -> None:
        self._due.append((event, intended_ns))
        self._wake.set()

    def end(self) -> None:
        self._is_over = True
        self._wake.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write())
            group.create_task(self._read())

    def cancel(self) -> None:
        self._call.cancel()

    async def _write(self) -> None:
        while self._due or not self._is_over:
            if not self._due:
                self._wake.clear()
                await self._wake.wait()
                continue
            batch, self._due = self._due[:MAX_BATCH_EVENTS], self._due[MAX_BATCH_EVENTS:]
            self._last_id += 1
            request = frontend_pb2.PublishRequest(batch_id=self._last_id, events=[event for event, _ in batch])
            self._unanswered[self._last_id] = [intended_ns for _, intended_ns in batch]
            # Flow control may hold this back: the lateness is that of the moment when the door took it.
            await self._call.write(request)
            now_ns = time.time_ns()
            self._sent.sends += len(batch)
            self._sent.late += sum(now_ns - intended_ns > LATE_MS * 1e6 for _, intended_ns in batch)
        await self._call.done_writing()

    async def _read(self) -> None:
        accept_ms = self._sent.accept_ms.setdefault(self._tenant, [])
        while True:
            response = await self._call.read()
            if response is grpc.aio.EOF:
                if self._unanswered or not self._is_over:
                    raise RuntimeError(f"the door ended {self._tenant}'s stream: {await self._call.details()}")
                return
            now_ns = time.time_ns()
            intended = self._unanswered.pop(response.batch_id)
            for intended_ns, result in zip(intended, response.results, strict=True):
                if result.HasField("error"):
                    self._sent.refused += 1
                    self._sent.first_refusal = self._sent.first_refusal or result.error.message
                else:
                    self._sent.accepted += 1
                    accept_ms.append((now_ns - intended_ns) / 1e6)


async def send_all(
    address: str, sends: Sequence[Send], phase: int, sleep_ms: int, key_of: Callable[[str], str]
) -> Sent:
    """Send the schedule and wait for the last answer. RuntimeError: a stream broke; TimeoutError: no answer."""
    sent = Sent()
    channel = grpc.aio.insecure_channel(address)
    stub = frontend_pb2_grpc.FrontendServiceStub(channel)
    tenants = sorted({one.tenant for one in sends})
    streams = {tenant: _Stream(stub, key_of(tenant), tenant, sent) for tenant in tenants}
    running = asyncio.gather(*(stream.run() for stream in streams.values()))
    try:
        await channel.channel_ready()
        sent.began_ns = time.time_ns()
        for one in sends:
            intended_ns = sent.began_ns + int(one.at_seconds * 1e9)
            wait_seconds = (intended_ns - time.time_ns()) / 1e9
            if wait_seconds > 0:
                await asyncio.sleep(wait_seconds)
            payload = json.dumps({"phase": phase, "number": one.number, "sleep_ms": sleep_ms}).encode()
            event = frontend_pb2.EventSubmission(function_name=FUNCTION, payload=payload)
            streams[one.tenant].send(event, intended_ns)
            if running.done():
                break
        for stream in streams.values():
            stream.end()
        async with asyncio.timeout(ANSWER_SECONDS):
            await running
    finally:
        for stream in streams.values():
            stream.cancel()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await channel.close()
    return sent
