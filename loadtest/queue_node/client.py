"""A frontend and a poller in one, for one queue node: enqueues, leases and settles over the node's own streams."""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
from evenflow.queue.v1 import queue_pb2, queue_pb2_grpc

from loadtest.queue_node.wire import TENANT, EventBatches, Settlements
from services.shared import ids
from services.shared.channels import Peer

BATCHES_IN_FLIGHT = 32
CREDIT_EVENTS = 4_000
CREDIT_BYTES = 16 << 20
# No answer for so long: the node is stuck.
ANSWER_SECONDS = 60.0
# Unanswered settle batches beyond which nothing more is leased.
SETTLES_IN_FLIGHT = 64
_SERVICE = "/evenflow.queue.v1.QueueService/"


class NodeError(RuntimeError):
    """The node refused something, or ended a stream."""


class NodeClient:
    """Streams to one node."""

    def __init__(self, peer: Peer, *, epoch: int = 1) -> None:
        self.peer = peer
        self.stub: Any = queue_pb2_grpc.QueueServiceStub(peer.channel)
        self._epoch = epoch
        # Bytes go out as they are: see wire.py.
        self._enqueue: Any = peer.channel.stream_stream(
            f"{_SERVICE}Enqueue", response_deserializer=queue_pb2.EnqueueResponse.FromString
        )
        self._settle: Any = peer.channel.stream_stream(
            f"{_SERVICE}Settle", response_deserializer=queue_pb2.SettleResponse.FromString
        )

    async def enqueue(self, batches: EventBatches, shard_ids: Sequence[int], events: int, batch_events: int) -> None:
        """Send so many events, a bounded number of batches in flight, the shards in turn; until all are durable."""
        call: Any = self._enqueue(metadata=self.peer.metadata)
        room = asyncio.Semaphore(BATCHES_IN_FLIGHT)
        count = events // batch_events

        async def read() -> None:
            for _ in range(count):
                response = await asyncio.wait_for(call.read(), ANSWER_SECONDS)
                if response is grpc.aio.EOF or response.HasField("refusal") or response.event_refusals:
                    raise NodeError(f"enqueue: {response}")
                room.release()

        async def write() -> None:
            for number in range(count):
                await room.acquire()
                shard_id = shard_ids[number % len(shard_ids)]
                await call.write(batches.make(number + 1, shard_id, batch_events, epoch=self._epoch))
            await call.done_writing()

        await _both(call, read(), write())

    async def consume(self, events: int, settlements: Settlements, *, leave: Sequence[str] = ()) -> None:
        """Lease so many events and settle each, those of the functions `leave` excepted; until all are durable."""
        lease: Any = self.stub.Lease(metadata=self.peer.metadata)
        settle: Any = self._settle(metadata=self.peer.metadata)
        room = asyncio.Semaphore(SETTLES_IN_FLIGHT)
        sizes: dict[int, int] = {}
        hello = queue_pb2.LeaseHello(
            poller_id="loadtest", incarnation=ids.new_incarnation(), shard_map_epoch=self._epoch
        )
        await lease.write(queue_pb2.LeaseRequest(hello=hello))
        limits = [
            queue_pb2.FunctionLimit(tenant_id=TENANT, function_name=function_name, max_leases=0)
            for function_name in leave
        ]
        if limits:
            await lease.write(queue_pb2.LeaseRequest(limits=queue_pb2.FunctionLimits(limits=limits)))
        credit = queue_pb2.LeaseCredit(events=min(CREDIT_EVENTS, events), bytes=CREDIT_BYTES)
        await lease.write(queue_pb2.LeaseRequest(credit=credit))

        async def read() -> None:
            done = 0
            while done < events:
                response = await asyncio.wait_for(settle.read(), ANSWER_SECONDS)
                if response is grpc.aio.EOF or response.HasField("refusal") or response.refusals:
                    raise NodeError(f"settle: {response}")
                done += sizes.pop(response.batch_id)
                room.release()

        async def write() -> None:
            leased = number = 0
            granted = credit.events
            while leased < events:
                response = await asyncio.wait_for(lease.read(), ANSWER_SECONDS)
                if response is grpc.aio.EOF:
                    raise NodeError(f"lease: {await lease.details()}")
                await room.acquire()
                number += 1
                count = len(response.leases)
                leased += count
                sizes[number] = count
                await settle.write(settlements.make(number, response.leases, epoch=self._epoch))
                # Never more than is wanted in all: what is left over would be leased in vain.
                more = min(count, events - granted)
                if more > 0:
                    granted += more
                    back = queue_pb2.LeaseCredit(events=more, bytes=response.ByteSize())
                    await lease.write(queue_pb2.LeaseRequest(credit=back))

        try:
            await _both(settle, read(), write())
        finally:
            lease.cancel()

    async def describe(self) -> list[queue_pb2.ShardDescription]:
        """The node's shards."""
        answer = await self.stub.DescribeShards(
            queue_pb2.DescribeShardsRequest(), metadata=self.peer.metadata, timeout=ANSWER_SECONDS
        )
        return list(answer.shards)


async def _both(call: Any, read: Any, write: Any) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(read)
            group.create_task(write)
    except ExceptionGroup as e:
        raise e.exceptions[0] from None
    finally:
        call.cancel()
