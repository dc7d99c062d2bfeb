"""One connection to the recorded node: the three streams, each question with its answer."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from evenflow.queue.v1 import queue_pb2, queue_pb2_grpc

from services.shared import ids
from services.shared.channels import Peer
from tests.faults.power_loss.node import SOCKET, TOKEN

# Newer than any map of the node, so that none of its changes makes it stale.
EPOCH = 1_000
CREDIT_EVENTS = 40
CREDIT_BYTES = 16 << 20
READY_SECONDS = 60


class Disconnected(Exception):
    """The node is gone; whether it did what it was asked is unknown."""


class Questions:
    """A stream of batches, each answered by its id."""

    def __init__(self, call: Any, on_answer: Callable[[], None]) -> None:
        self._call = call
        self._on_answer = on_answer
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._lock = asyncio.Lock()
        self.is_gone = False
        self._reader = asyncio.create_task(self._read())

    async def ask(self, request: Any) -> Any:
        """Send a batch and wait for its answer. Disconnected."""
        if self.is_gone:
            raise Disconnected
        answer = self._waiting[request.batch_id] = asyncio.get_running_loop().create_future()
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
            async with self._lock:
                await self._call.write(request)
        return await answer

    async def close(self) -> None:
        """End the stream."""
        self._call.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while (response := await self._call.read()) is not grpc.aio.EOF:
                self._waiting.pop(response.batch_id).set_result(response)
                self._on_answer()
        except (grpc.aio.AioRpcError, asyncio.CancelledError):
            pass
        finally:
            self.is_gone = True
            self._on_answer()
            for answer in self._waiting.values():
                answer.set_exception(Disconnected())
            self._waiting.clear()


class Link:
    """Streams to one run of the node; leases are collected in `held` by request id."""

    def __init__(self, folder: Path) -> None:
        self._peer = Peer.dial(f"unix:{folder / SOCKET}", TOKEN)
        self.stub: Any = queue_pb2_grpc.QueueServiceStub(self._peer.channel)
        self.metadata = self._peer.metadata
        self.held: dict[bytes, queue_pb2.Lease] = {}
        self.answers = 0
        self._answered = asyncio.Event()

    async def open(self) -> None:
        """Connect and ask for leases."""
        await asyncio.wait_for(self._peer.channel.channel_ready(), READY_SECONDS)
        self.enqueue = Questions(self.stub.Enqueue(metadata=self.metadata), self._count)
        self.settle = Questions(self.stub.Settle(metadata=self.metadata), self._count)
        self._lease = self.stub.Lease(metadata=self.metadata)
        hello = queue_pb2.LeaseHello(poller_id="poller-0", incarnation=ids.new_incarnation(), shard_map_epoch=EPOCH)
        await self._lease.write(queue_pb2.LeaseRequest(hello=hello))
        await self.give_credit(CREDIT_EVENTS)
        self._reader = asyncio.create_task(self._collect())

    async def give_credit(self, events: int) -> None:
        """Ask for so many leases more."""
        if events:
            credit = queue_pb2.LeaseCredit(events=events, bytes=CREDIT_BYTES)
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await self._lease.write(queue_pb2.LeaseRequest(credit=credit))

    async def has_answered(self, count: int) -> None:
        """Until the node has answered so many batches more, or is gone."""
        goal = self.answers + count
        while self.answers < goal and not self.enqueue.is_gone:
            self._answered.clear()
            await self._answered.wait()

    def _count(self) -> None:
        self.answers += 1
        self._answered.set()

    async def close(self) -> None:
        """End the streams."""
        self._lease.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self.enqueue.close()
        await self.settle.close()
        await self._peer.close()

    async def _collect(self) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            while (response := await self._lease.read()) is not grpc.aio.EOF:
                for lease in response.leases:
                    self.held[lease.event.request_id] = lease
