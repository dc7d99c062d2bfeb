"""Queue nodes that the suite holds: the real one and the fake; both serve shards 0 and 1 of three at epoch 2."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from evenflow.common.v1.event_pb2 import Event
from evenflow.queue.v1 import queue_pb2
from evenflow.queue.v1.queue_pb2 import Lease, Settlement

from services.shared import ids
from tests.contract import messages
from tests.contract.kit import End, dial, read
from tests.kit.fake_queue_node import FakeQueueNode
from tests.kit.queue_node_here import TOKEN, QueueNodeHere

EPOCH = 2
SHARDS = (0, 1)
BIG = 1 << 26


@asynccontextmanager
async def real(folder: Path) -> AsyncIterator[str]:
    """The real node, without control."""
    node = QueueNodeHere(folder, pending_max_bytes=1 << 24)
    await node.start()
    await node.shards.apply(EPOCH, ["queue-0", "queue-0", "queue-1"])
    try:
        yield node.peer.target
    finally:
        await node.stop()


@asynccontextmanager
async def fake(folder: Path) -> AsyncIterator[str]:
    """The fake."""
    node = FakeQueueNode(folder / "q.sock", TOKEN, shards=len(SHARDS))
    node.epoch = EPOCH
    await node.start()
    try:
        yield node.address
    finally:
        await node.stop()


NODES: dict[str, Any] = {"real": real, "fake": fake}


@asynccontextmanager
async def serving(name: str) -> AsyncIterator[End]:
    """This node, until the end."""
    with tempfile.TemporaryDirectory(prefix="ef-", dir="/tmp") as folder:
        async with NODES[name](Path(folder)) as target:
            peer = dial(target, TOKEN)
            yield End("QueueService", peer)
            await peer.close()


class Node:
    """A node that serves, as one test uses it: with a tenant of its own, and nothing left of the tests before."""

    count = 0

    def __init__(self, end: End) -> None:
        Node.count += 1
        self.end = end
        self.tenant = f"tenant-{Node.count}"
        self._events = 0
        self._pollers = 0

    def event(self, shard_id: int = 0, function: str = "f", **more: Any) -> Event:
        """A fresh event of this test."""
        self._events += 1
        token = more.pop("token", "")
        event = messages.event_of(messages.now_ms(), self._events, function, self.tenant, **more)
        if token:
            event.request_id = ids.derive(self.tenant, "token", token.encode(), 1)
        else:
            event.request_id = ids.mint(messages.now_ms(), shard_id)
        return event

    async def enqueue(self, *events: Event, shard_id: int = 0, **more: Any) -> queue_pb2.EnqueueResponse:
        """One batch over a stream of its own, half-closed: the stream ends with the answer."""
        fields = {"batch_id": 7, "shard_map_epoch": EPOCH, **more}
        call = self.end.open("Enqueue")
        await call.write(queue_pb2.EnqueueRequest(shard_id=shard_id, events=events, **fields))
        await call.done_writing()
        answer: queue_pb2.EnqueueResponse = await read(call)
        assert answer.batch_id == fields["batch_id"] and await read(call) is grpc.aio.EOF
        return answer

    async def accept(self, *events: Event, shard_id: int = 0) -> None:
        """One batch, all of it new."""
        answer = await self.enqueue(*events, shard_id=shard_id)
        assert not answer.HasField("refusal") and not answer.event_refusals and not answer.duplicate_indexes

    async def poller(self, events: int = 0, payload_bytes: int = BIG, **more: Any) -> Any:
        """A lease stream with so much credit; a new incarnation each, unless one is given."""
        self._pollers += 1
        fields = {"poller_id": "poller-0", "incarnation": f"{self.tenant}-{self._pollers}", "shard_map_epoch": EPOCH}
        call = self.end.open("Lease")
        await call.write(queue_pb2.LeaseRequest(hello=queue_pb2.LeaseHello(**{**fields, **more})))
        if events:
            await credit(call, events, payload_bytes)
        return call

    async def settle(self, *settlements: Settlement, **more: Any) -> queue_pb2.SettleResponse:
        """One batch over a stream of its own, half-closed."""
        fields = {"batch_id": 9, "shard_map_epoch": EPOCH, **more}
        call = self.end.open("Settle")
        await call.write(queue_pb2.SettleRequest(settlements=settlements, **fields))
        await call.done_writing()
        answer: queue_pb2.SettleResponse = await read(call)
        assert answer.batch_id == fields["batch_id"] and await read(call) is grpc.aio.EOF
        return answer

    async def state(self, event: Event) -> str:
        """The event's state."""
        request = queue_pb2.GetEventRequest(tenant_id=event.tenant_id, request_id=event.request_id)
        status = (await self.end.ask("GetEvent", request)).status
        return queue_pb2.EventState.Name(status.state).removeprefix("EVENT_STATE_")

    async def bury(self, *events: Event) -> None:
        """These die, one after the other."""
        for event in events:
            await self.accept(event)
            call = await self.poller(1)
            (lease,) = await leases(call, 1)
            assert not (await self.settle(messages.bury(lease))).refusals
            call.cancel()

    async def empty(self) -> None:
        """End whatever waits or is leased."""
        described = await self.end.ask("DescribeShards", queue_pb2.DescribeShardsRequest())
        left = sum(shard.depth.depth for shard in described.shards)
        call = await self.poller(1_000)
        while left > 0:
            found = (await read(call)).leases
            left -= len(found)
            await self.settle(*(messages.ack(lease) for lease in found))
            await credit(call, len(found))
        call.cancel()


async def credit(call: Any, events: int, payload_bytes: int = BIG) -> None:
    """More room."""
    await call.write(queue_pb2.LeaseRequest(credit=queue_pb2.LeaseCredit(events=events, bytes=payload_bytes)))


async def leases(call: Any, count: int) -> list[Lease]:
    """Exactly so many leases that come next; AssertionError when a message brings more."""
    found: list[Lease] = []
    while len(found) < count:
        found += (await read(call)).leases
    assert len(found) == count
    return found
