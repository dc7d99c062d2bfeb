"""A queue node that keeps events in memory, over real gRPC, with faults that a test switches on."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from evenflow.common.v1 import errors_pb2, event_pb2
from evenflow.queue.v1 import queue_pb2, queue_pb2_grpc

from services.shared.channels import GrpcServer
from services.shared.errors import EvenflowError, Reason, abort
from services.shared.streams import Wakeup, serve_stream

Refusal = errors_pb2.ErrorDetail


# Any: a fake serves only a part of the contract, and the stubs know no asyncio coroutines.
_Servicer: Any = queue_pb2_grpc.QueueServiceServicer


class FakeQueueNode(_Servicer):  # type: ignore[misc]
    """Accepts at once and remembers everything.

    epoch: older batches are refused as stale. refuse: shard -> detail of a whole-batch refusal. refuse_event: function
    name -> detail for one event. mute: take batches and never answer; mute_shards: those of these shards.
    cut_after_receive: store so many batches, then break the stream instead of answering. keep_events False counts only
    (for load).
    """

    def __init__(self, path: Path, token: str, node_id: str = "queue-0") -> None:
        self.path, self.token, self.node_id = path, token, node_id
        self.epoch = 1
        self.refuse: dict[int, Refusal] = {}
        self.refuse_event: dict[str, Refusal] = {}
        self.mute = False
        self.mute_shards: set[int] = set()
        self.cut_after_receive = 0
        self.keep_events = True
        self.accepted_events = 0
        self.batches: list[queue_pb2.EnqueueRequest] = []
        self.batch_sizes: list[int] = []
        self.events: dict[bytes, event_pb2.Event] = {}
        self.shard_depths: dict[int, int] = {}
        self.shard_states: dict[int, int] = {}
        self.streams = 0
        self._depths_changed: list[Wakeup] = []
        self._server: GrpcServer | None = None

    @property
    def address(self) -> str:
        """The target to dial."""
        return f"unix:{self.path}"

    async def start(self) -> None:
        """Serve."""
        self._server = GrpcServer(self.token, ["evenflow.queue.v1.QueueService"])
        queue_pb2_grpc.add_QueueServiceServicer_to_server(self, self._server.server)
        self._server.bind(self.address)
        await self._server.start()

    async def stop(self) -> None:
        """Break every stream."""
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    def set_state(self, shard_id: int, state: int, depth: int = 0) -> None:
        """What WatchDepths tells of a shard."""
        self.shard_states[shard_id] = state
        self.shard_depths[shard_id] = depth
        for wakeup in self._depths_changed:
            wakeup.set()

    async def Enqueue(self, _requests: Any, context: Any) -> None:
        """See the proto."""
        answers: deque[queue_pb2.EnqueueResponse] = deque()
        wakeup = Wakeup()
        self.streams += 1

        def on_message(request: queue_pb2.EnqueueRequest) -> None:
            answer = self._answer(request)
            if self.cut_after_receive:
                self.cut_after_receive -= 1
                raise EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, "cut by the test")
            if not self.mute and request.shard_id not in self.mute_shards:
                answers.append(answer)
                wakeup.set()

        await serve_stream(
            context, on_message=on_message, produce=lambda: answers.popleft() if answers else None, wakeup=wakeup
        )

    async def WatchDepths(
        self, request: queue_pb2.WatchDepthsRequest, context: Any
    ) -> AsyncIterator[queue_pb2.WatchDepthsResponse]:
        """See the proto."""
        wakeup = Wakeup()
        self._depths_changed.append(wakeup)
        try:
            while True:
                yield queue_pb2.WatchDepthsResponse(
                    depths=[
                        queue_pb2.ShardDepth(shard_id=s, depth=self.shard_depths.get(s, 0), state=state)  # type: ignore[arg-type]
                        for s, state in self.shard_states.items()
                    ]
                )
                await wakeup.wait()
        finally:
            self._depths_changed.remove(wakeup)

    async def GetEvent(self, request: queue_pb2.GetEventRequest, context: Any) -> queue_pb2.GetEventResponse:
        """See the proto."""
        event = self.events.get(request.request_id)
        if event is None or event.tenant_id != request.tenant_id:
            await abort(context, EvenflowError(Reason.ERROR_REASON_EVENT_NOT_FOUND, "no such event"))
        assert event is not None
        return queue_pb2.GetEventResponse(
            status=queue_pb2.EventStatus(
                request_id=event.request_id,
                tenant_id=event.tenant_id,
                function_name=event.function_name,
                qualifier=event.qualifier,
                state=queue_pb2.EVENT_STATE_AVAILABLE,
                accepted_at_ms=event.accepted_at_ms,
                expires_at_ms=event.expires_at_ms,
                trace=event.trace,
            )
        )

    def _answer(self, request: queue_pb2.EnqueueRequest) -> queue_pb2.EnqueueResponse:
        self.batch_sizes.append(len(request.events))
        answer = queue_pb2.EnqueueResponse(batch_id=request.batch_id)
        if self.keep_events:
            self.batches.append(request)
        if request.shard_map_epoch < self.epoch:
            answer.refusal.reason = Reason.ERROR_REASON_SHARD_MAP_STALE
        elif request.shard_id in self.refuse:
            answer.refusal.CopyFrom(self.refuse[request.shard_id])
        elif self.keep_events:
            self._store(request, answer)
        else:
            self.accepted_events += len(request.events)
        return answer

    def _store(self, request: queue_pb2.EnqueueRequest, answer: queue_pb2.EnqueueResponse) -> None:
        for index, event in enumerate(request.events):
            known = self.events.get(event.request_id)
            detail = self.refuse_event.get(event.function_name)
            if detail is not None:
                answer.event_refusals.add(index=index, error=detail)
            elif known is None:
                self.events[event.request_id] = event
                self.accepted_events += 1
            elif known.payload == event.payload:
                answer.duplicate_indexes.append(index)
            else:
                answer.event_refusals.add(index=index, error=Refusal(reason=Reason.ERROR_REASON_TOKEN_REUSED))
        answer.depth = sum(1 for e in self.events.values() if e is not None)


def start_and_serve_forever(path: Path, token: str) -> None:
    """For a process of its own, under load: count, keep nothing."""

    async def run() -> None:
        node = FakeQueueNode(path, token)
        node.keep_events = False
        await node.start()
        await asyncio.Event().wait()

    import uvloop

    uvloop.run(run())
