"""Events of the soak's own, a few a second, each followed to its end: accept to end while the load goes on."""

import asyncio
import time

import grpc
from evenflow.frontend.v1 import frontend_pb2, frontend_pb2_grpc

from loadtest.open_loop.doors.grpc_door import CHANNEL_OPTIONS
from loadtest.plan.site import Site

# At most so many are followed at once; beyond it none is sent.
MAX_UNDER_WAY = 200
END_SECONDS = 30.0
_CALL_SECONDS = 10.0
_POLL_SECONDS = 0.1


class Probe:
    """`run` until it is cancelled, then `finish`.

    ended: (when it was due since the begin, seconds; to its end, ms). accepted: all that the door took, also those
    that are followed no more, END_SECONDS later; refused: those that the door did not take.
    """

    def __init__(self, site: Site, function: str, per_second: float) -> None:
        self.ended: list[tuple[float, float]] = []
        self.accepted = self.refused = 0
        self._gap_seconds = 1 / per_second
        self._function = function
        self._channel = grpc.aio.insecure_channel(f"{site.host}:{site.grpc_port}", options=CHANNEL_OPTIONS)
        self._stub = frontend_pb2_grpc.FrontendServiceStub(self._channel)
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self, began: float, seconds: float) -> None:
        """Open loop: each at its time. began: by the monotonic clock."""
        for number in range(int(seconds / self._gap_seconds)):
            due = began + number * self._gap_seconds
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if len(self._under_way) >= MAX_UNDER_WAY:
                self.refused += 1
                continue
            task = asyncio.create_task(self._one(due - began, time.time() - (time.monotonic() - due)))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def finish(self) -> None:
        """Wait for those under way, at most END_SECONDS and a call."""
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def close(self) -> None:
        """Whatever is under way ends."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._channel.close()

    async def _one(self, at_seconds: float, due_epoch: float) -> None:
        submission = frontend_pb2.EventSubmission(function_name=self._function, payload=b"{}")
        try:
            request = frontend_pb2.InvokeAsyncRequest(event=submission)
            answer = await self._stub.InvokeAsync(request, timeout=_CALL_SECONDS)
        except grpc.aio.AioRpcError:
            self.refused += 1
            return
        self.accepted += 1
        asked = frontend_pb2.GetEventRequest(request_id=answer.request_id)
        deadline = time.monotonic() + END_SECONDS
        while time.monotonic() < deadline:
            await asyncio.sleep(_POLL_SECONDS)
            try:
                told = await self._stub.GetEvent(asked, timeout=_CALL_SECONDS)
            except grpc.aio.AioRpcError:
                continue
            if told.finished_at_ms:
                # The fleet's clock is this machine's.
                self.ended.append((at_seconds, told.finished_at_ms - due_epoch * 1e3))
                return
