"""Publish streams of the gRPC door, one a tenant's key: what is due at the same moment leaves as one batch."""

import asyncio
import time
from collections import deque
from typing import Any

import grpc
from evenflow.frontend.v1 import frontend_pb2, frontend_pb2_grpc

from loadtest.open_loop.doors.grpc_door import CHANNEL_OPTIONS, connect, metadata_of, reason_name, refusal_of
from loadtest.open_loop.outcomes import CONNECTION, Outcomes
from loadtest.open_loop.spec import LoadSpec
from services.shared import ids

# The door's own bounds.
MAX_BATCH_EVENTS = 1_000
MAX_BATCH_BYTES = 3_000_000
MAX_UNANSWERED_BATCHES = 64
_EVENT_OVERHEAD_BYTES = 128
_REOPEN_SECONDS = 0.1


class _Broken(Exception):
    """The stream ended; `reason` counts for what was under way on it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Stream:
    """One key's stream, opened by its first event and again whenever it breaks."""

    def __init__(self, stub: Any, metadata: tuple[tuple[str, str], ...], spec: LoadSpec, outcomes: Outcomes) -> None:
        self._stub = stub
        self._metadata = metadata
        self._spec = spec
        self._outcomes = outcomes
        # Bounded by the door's in_flight, as each is under way.
        self._due: deque[tuple[int, bytes]] = deque()
        self._unanswered: dict[int, tuple[int, list[int]]] = {}
        self._wake = asyncio.Event()
        self._last_id = 0
        self._call: Any = None

    def send(self, place: int, payload: bytes) -> None:
        self._due.append((place, payload))
        self._wake.set()

    def expire(self, bound_ns: int) -> None:
        """Give up batches that were written before this moment; their stream starts anew."""
        late = [batch for batch, (written_ns, _) in self._unanswered.items() if written_ns < bound_ns]
        for batch in late:
            for place in self._unanswered.pop(batch)[1]:
                self._outcomes.unanswered(place)
        if late and self._call is not None:
            self._call.cancel()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if not self._due:
                self._wake.clear()
                await self._wake.wait()
            self._call = self._stub.Publish(metadata=self._metadata)
            reading = asyncio.ensure_future(self._read(self._call))
            writing = asyncio.ensure_future(self._write(self._call))
            try:
                await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._call.cancel()
                for task in (reading, writing):
                    task.cancel()
                ended = await asyncio.gather(reading, writing, return_exceptions=True)
            reason = next((one.reason for one in ended if isinstance(one, _Broken)), "broken stream")
            lost, self._unanswered = self._unanswered, {}
            for _, places in lost.values():
                for place in places:
                    self._outcomes.refused(place, reason)
            await asyncio.sleep(_REOPEN_SECONDS)

    async def _write(self, call: Any) -> None:
        while True:
            if not self._due or len(self._unanswered) >= MAX_UNANSWERED_BATCHES:
                self._wake.clear()
                await self._wake.wait()
                continue
            places: list[int] = []
            events: list[frontend_pb2.EventSubmission] = []
            size_bytes = 0
            while self._due and len(events) < MAX_BATCH_EVENTS and size_bytes < MAX_BATCH_BYTES:
                place, payload = self._due.popleft()
                places.append(place)
                events.append(frontend_pb2.EventSubmission(function_name=self._spec.function, payload=payload))
                next_bytes = len(self._due[0][1]) if self._due else 0
                size_bytes += len(payload) + _EVENT_OVERHEAD_BYTES
                if size_bytes + next_bytes > MAX_BATCH_BYTES:
                    break
            self._last_id += 1
            self._unanswered[self._last_id] = time.monotonic_ns(), places
            try:
                await call.write(frontend_pb2.PublishRequest(batch_id=self._last_id, events=events))
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                # The reader knows why; it ends as well.
                await asyncio.Event().wait()

    async def _read(self, call: Any) -> None:
        try:
            while (response := await call.read()) is not grpc.aio.EOF:
                # Given up meanwhile: its events were told.
                _, places = self._unanswered.pop(response.batch_id, (0, []))
                self._wake.set()
                for place, result in zip(places, response.results, strict=False):
                    if result.HasField("error"):
                        self._outcomes.refused(place, reason_name(result.error.reason))
                    elif self._outcomes.accepted(place):
                        self._outcomes.remember(place, ids.to_text(result.request_id))
            # The end has a status all the same; waiting for the code is how this call tells it.
            raise _Broken(CONNECTION if await call.code() == grpc.StatusCode.UNAVAILABLE else "stream ended")
        except grpc.aio.AioRpcError as e:
            raise _Broken(refusal_of(e)) from None


class StreamDoor:
    """See Door. Events whose tenant has no key share one stream."""

    def __init__(self, spec: LoadSpec, in_flight: int, outcomes: Outcomes) -> None:
        self._spec = spec
        self._most = in_flight
        self._outcomes = outcomes
        self._channel = grpc.aio.insecure_channel(f"{spec.host}:{spec.grpc_port}", options=CHANNEL_OPTIONS)
        self._stub = frontend_pb2_grpc.FrontendServiceStub(self._channel)
        self._streams: dict[int, _Stream] = {}
        self._running: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Connected, when the door is there; streams are opened by their first events."""
        await connect(self._channel)

    def request(self, tenant: int, payload: bytes) -> bytes:
        """The payload: batches are put together when they leave."""
        return payload

    def send(self, place: int, tenant: int, request: bytes) -> bool:
        """Into the next batch of its stream."""
        if self._outcomes.under_way >= self._most:
            return False
        self._outcomes.sent(place)
        keys = self._spec.keys
        named = tenant if tenant < len(keys) else -1
        stream = self._streams.get(named)
        if stream is None:
            metadata = metadata_of(keys[tenant]) if named >= 0 else ()
            stream = self._streams[named] = _Stream(self._stub, metadata, self._spec, self._outcomes)
            self._running.append(asyncio.get_running_loop().create_task(stream.run()))
        stream.send(place, request)
        return True

    def expire(self, now_ns: int) -> None:
        """Give up batches whose answer did not come."""
        bound_ns = now_ns - int(self._spec.answer_seconds * 1e9)
        for stream in self._streams.values():
            stream.expire(bound_ns)

    async def close(self) -> None:
        """End all streams."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._channel.close()
