"""A queue node that keeps its shards in memory, over real gRPC, with faults that a test switches on.

Without faults it keeps the contract: tests/contract/queue holds it and the real node to the same suite.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from evenflow.common.v1 import errors_pb2, event_pb2
from evenflow.queue.v1 import queue_pb2, queue_pb2_grpc

from services.shared.channels import GrpcServer
from services.shared.clock import SystemClock
from services.shared.errors import EvenflowError, Reason, abort, invalid
from services.shared.streams import Wakeup, serve_stream
from tests.kit.fake_queue_calls import FakeQueueCalls
from tests.kit.memory_shard import MemoryShard

Refusal = errors_pb2.ErrorDetail
MAX_CREDIT_EVENTS, MAX_CREDIT_BYTES = 10_000, 64 << 20
MAX_LIMITS = MAX_SETTLEMENTS = 1_000
MIN_INTERVAL_MS, MAX_INTERVAL_MS = 10, 10_000
# How often leases, delays and ages are looked at.
TICK_SECONDS = 0.02


class _Poller:
    """One Lease stream: its credit, and the leases that wait to be sent."""

    def __init__(self) -> None:
        self.poller_id = ""
        self.events = self.bytes = 0
        self.outbox: deque[queue_pb2.LeaseResponse] = deque()
        self.wakeup = Wakeup()


class FakeQueueNode(FakeQueueCalls):
    """Answers at once and remembers everything.

    shards: how many it serves; 0: any. epoch: older batches are refused as stale. refuse: shard -> detail of a
    whole-batch refusal. refuse_event: function name -> detail for one event. mute: take batches and never answer;
    mute_shards: those of these shards. cut_after_receive: store so many batches, then break the stream instead of
    answering. keep_events False counts only (for load).
    """

    def __init__(self, path: Path, token: str, node_id: str = "queue-0", shards: int = 0) -> None:
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
        # What a test says of a shard; of the others, what is so.
        self.shard_depths: dict[int, int] = {}
        self.shard_states: dict[int, int] = {}
        self.streams = 0
        self._clock = SystemClock()
        self._shard_count = shards
        self.shards: dict[int, MemoryShard] = {n: MemoryShard(n, self._clock) for n in range(shards)}
        self._incarnations: dict[str, str] = {}
        self._pollers: list[_Poller] = []
        self._depths_changed: list[Wakeup] = []
        self._server: GrpcServer | None = None
        self._ticking: asyncio.Task[None] | None = None

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
        self._ticking = asyncio.create_task(self._tick_forever())

    async def stop(self) -> None:
        """Break every stream."""
        if self._ticking is not None:
            self._ticking.cancel()
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    def set_state(self, shard_id: int, state: int, depth: int = 0) -> None:
        """What WatchDepths tells of a shard."""
        self.shard_states[shard_id] = state
        self.shard_depths[shard_id] = depth
        self.changed()

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
            self.changed()

        await serve_stream(
            context, on_message=on_message, produce=lambda: answers.popleft() if answers else None, wakeup=wakeup
        )

    async def Lease(self, _requests: Any, context: Any) -> None:
        """See the proto."""
        poller = _Poller()
        try:
            await serve_stream(
                context,
                on_message=lambda request: self._on_poller(poller, request),
                produce=lambda: poller.outbox.popleft() if poller.outbox else None,
                wakeup=poller.wakeup,
            )
        finally:
            if poller in self._pollers:
                self._pollers.remove(poller)
            for response in poller.outbox:
                for lease in response.leases:
                    self.shards[lease.receipt.shard_id].give_back([lease])
            self.changed()

    async def Settle(self, _requests: Any, context: Any) -> None:
        """See the proto."""
        answers: deque[queue_pb2.SettleResponse] = deque()
        wakeup = Wakeup()

        def on_message(request: queue_pb2.SettleRequest) -> None:
            answers.append(self._settle(request))
            wakeup.set()
            self.changed()

        await serve_stream(
            context, on_message=on_message, produce=lambda: answers.popleft() if answers else None, wakeup=wakeup
        )

    async def WatchDepths(
        self, request: queue_pb2.WatchDepthsRequest, context: Any
    ) -> AsyncIterator[queue_pb2.WatchDepthsResponse]:
        """See the proto."""
        if request.interval_ms and not MIN_INTERVAL_MS <= request.interval_ms <= MAX_INTERVAL_MS:
            await abort(context, invalid(f"interval_ms must be within {MIN_INTERVAL_MS} to {MAX_INTERVAL_MS}"))
        wakeup = Wakeup()
        self._depths_changed.append(wakeup)
        told: dict[int, tuple[queue_pb2.ShardDepth, int]] = {}
        try:
            while True:
                ends = {shard_id: shard.ends for shard_id, shard in self.shards.items()}
                now = {shard_id: (depth, ends.get(shard_id, 0)) for shard_id, depth in self.depths().items()}
                fresh = [depth for shard_id, (depth, ended) in now.items() if told.get(shard_id) != (depth, ended)]
                if fresh or not told:
                    yield queue_pb2.WatchDepthsResponse(depths=fresh)
                    told = now
                await wakeup.wait()
        finally:
            self._depths_changed.remove(wakeup)

    # Enqueue

    def _answer(self, request: queue_pb2.EnqueueRequest) -> queue_pb2.EnqueueResponse:
        self.batch_sizes.append(len(request.events))
        if self.keep_events:
            self.batches.append(request)
        answer = queue_pb2.EnqueueResponse(batch_id=request.batch_id)
        try:
            self._check_epoch(request.shard_map_epoch)
            if request.shard_id in self.refuse:
                answer.refusal.CopyFrom(self.refuse[request.shard_id])
            elif self.keep_events:
                return self._store(self.shard(request.shard_id), request)
            else:
                self.accepted_events += len(request.events)
        except EvenflowError as e:
            answer.refusal.CopyFrom(e.to_detail())
        return answer

    def _store(self, shard: MemoryShard, request: queue_pb2.EnqueueRequest) -> queue_pb2.EnqueueResponse:
        refused = {n: self.refuse_event.get(event.function_name) for n, event in enumerate(request.events)}
        kept = [n for n, detail in refused.items() if detail is None]
        answer = queue_pb2.EnqueueResponse(batch_id=request.batch_id)
        if kept or not refused:
            part = queue_pb2.EnqueueRequest(batch_id=request.batch_id, events=[request.events[n] for n in kept])
            found = shard.enqueue(part)
            answer.depth = found.depth
            if found.HasField("refusal"):
                answer.refusal.CopyFrom(found.refusal)
            answer.duplicate_indexes.extend(kept[n] for n in found.duplicate_indexes)
            refused.update({kept[r.index]: r.error for r in found.event_refusals})
        for n, detail in refused.items():
            if detail is not None:
                answer.event_refusals.add(index=n, error=detail)
            elif n not in answer.duplicate_indexes and not answer.HasField("refusal"):
                self.events[request.events[n].request_id] = request.events[n]
                self.accepted_events += 1
        return answer

    # Lease and settle

    def _on_poller(self, poller: _Poller, request: queue_pb2.LeaseRequest) -> None:
        kind = request.WhichOneof("kind")
        if kind == "hello":
            self._hello(poller, request.hello)
        elif not poller.poller_id:
            raise invalid("the first message of a lease stream is hello")
        elif kind == "credit":
            credit = request.credit
            if not 1 <= credit.events <= MAX_CREDIT_EVENTS or not 1 <= credit.bytes <= MAX_CREDIT_BYTES:
                raise invalid("a credit has 1 to 10,000 events and 1 byte to 64 MiB")
            poller.events += credit.events
            poller.bytes += credit.bytes
        elif kind == "limits":
            if len(request.limits.limits) > MAX_LIMITS:
                raise invalid(f"at most {MAX_LIMITS} limits a message")
            for shard in self.shards.values():
                shard.limit(poller.poller_id, request.limits.limits)
        self.changed()

    def _hello(self, poller: _Poller, hello: queue_pb2.LeaseHello) -> None:
        if poller.poller_id:
            raise invalid("hello is said once")
        if not 0 < len(hello.poller_id) <= 64 or not 0 < len(hello.incarnation) <= 64:
            raise invalid("poller_id and incarnation have 1 to 64 characters")
        self._check_epoch(hello.shard_map_epoch)
        poller.poller_id = hello.poller_id
        self._incarnations[hello.poller_id] = hello.incarnation
        self._pollers = [p for p in self._pollers if p.poller_id != hello.poller_id] + [poller]
        for shard in self.shards.values():
            shard.join(hello.poller_id, hello.incarnation)

    def _settle(self, request: queue_pb2.SettleRequest) -> queue_pb2.SettleResponse:
        answer = queue_pb2.SettleResponse(batch_id=request.batch_id)
        try:
            if not request.batch_id or not 1 <= len(request.settlements) <= MAX_SETTLEMENTS:
                raise invalid(f"batch_id is not 0 and a batch has 1 to {MAX_SETTLEMENTS} settlements")
            self._check_epoch(request.shard_map_epoch)
        except EvenflowError as e:
            answer.refusal.CopyFrom(e.to_detail())
            return answer
        for index, settlement in enumerate(request.settlements):
            try:
                self.shard(settlement.receipt.shard_id).settle_one(settlement)
            except EvenflowError as e:
                answer.refusals.add(index=index, error=e.to_detail())
        return answer

    def _deliver(self) -> None:
        """Lease what the pollers' credits allow."""
        for poller in self._pollers:
            for shard in self.shards.values():
                leases = shard.lease(poller.poller_id, poller.events, poller.bytes) if poller.bytes > 0 else []
                poller.events -= len(leases)
                poller.bytes -= sum(lease.ByteSize() for lease in leases)
                if leases:
                    # One message each: no bound of a message is ever reached.
                    poller.outbox.extend(queue_pb2.LeaseResponse(leases=[lease]) for lease in leases)
                    poller.wakeup.set()

    def changed(self) -> None:
        """There may be something to lease, and something to tell of depths."""
        self._deliver()
        for wakeup in self._depths_changed:
            wakeup.set()

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            for shard in self.shards.values():
                shard.tick()
            self._deliver()

    # Which shard

    def _check_epoch(self, epoch: int) -> None:
        if epoch < self.epoch:
            raise EvenflowError(Reason.ERROR_REASON_SHARD_MAP_STALE, f"the shard map is at epoch {self.epoch}")

    def shard(self, shard_id: int) -> MemoryShard:
        """The shard. EvenflowError SHARD_UNAVAILABLE: it is of another node."""
        shard = self.shards.get(shard_id)
        if shard is None:
            if self._shard_count:
                raise EvenflowError(Reason.ERROR_REASON_SHARD_UNAVAILABLE, f"shard {shard_id} is not of this node")
            shard = self.shards[shard_id] = MemoryShard(shard_id, self._clock)
            for poller in self._pollers:
                shard.join(poller.poller_id, self._incarnations[poller.poller_id])
        return shard

    def depths(self) -> dict[int, queue_pb2.ShardDepth]:
        """Of each shard, what a test said or what is so."""
        found = {}
        for shard_id in sorted({*self.shards, *self.shard_states} if self._shard_count else self.shard_states):
            shard = self.shards.get(shard_id)
            numbers = shard.numbers() if shard is not None else None
            found[shard_id] = queue_pb2.ShardDepth(
                shard_id=shard_id,
                depth=self.shard_depths.get(shard_id, numbers.depth if numbers else 0),
                state=queue_pb2.ShardState.ValueType(self.shard_states.get(shard_id, queue_pb2.SHARD_STATE_SERVING)),
                leased=numbers.leased if numbers else 0,
            )
        return found


def start_and_serve_forever(path: Path, token: str) -> None:
    """For a process of its own, under load: count, keep nothing."""

    async def run() -> None:
        node = FakeQueueNode(path, token)
        node.keep_events = False
        await node.start()
        await asyncio.Event().wait()

    import uvloop

    uvloop.run(run())
