"""A real queue node in this process, over real gRPC, without control."""

import dataclasses
from pathlib import Path
from typing import Any

import grpc
from evenflow.common.v1 import event_pb2
from evenflow.queue.v1 import queue_pb2, queue_pb2_grpc

from services.queue.service import QueueService, register
from services.queue.settings import QueueSettings
from services.queue.shards import Shards
from services.shared import ids
from services.shared.channels import GrpcServer, Peer
from services.shared.clock import SystemClock

TOKEN = "t" * 32
BIG = 1 << 20


class QueueNodeHere:
    """A queue node with a shard map that the test sets. `settings`: some of QueueSettings."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        base = QueueSettings(node_id="queue-0", data_dir=str(folder), run_dir=str(folder), token_file="")
        values = {"reserve_bytes": 65_536, "depth_interval_ms": 10, **settings}
        self.settings = dataclasses.replace(base, **values)
        self.folder = folder
        self.clock = SystemClock()
        self.shards = Shards(self.settings, self.clock)
        service = QueueService(
            self.shards, self.clock, node_id="queue-0", depth_interval_ms=10, pending_max_bytes=1 << 24
        )
        self.shards.on_drained = service.note_drained
        self.server = GrpcServer(TOKEN, ["evenflow.queue.v1.QueueService"])
        register(service, self.server.server)
        self.peer = Peer.dial(f"unix:{folder}/q.sock", TOKEN)
        self.stub: Any = queue_pb2_grpc.QueueServiceStub(self.peer.channel)

    async def start(self) -> None:
        """Serve."""
        self.server.bind(f"unix:{self.folder}/q.sock")
        await self.server.start()

    async def stop(self) -> None:
        """End."""
        await self.peer.close()
        await self.server.stop(0)
        await self.shards.stop()

    def event(self, shard_id: int = 0, function: str = "f") -> event_pb2.Event:
        """A fresh event."""
        now_ms = self.clock.wall_ms()
        return event_pb2.Event(
            tenant_id="t",
            function_name=function,
            qualifier="$LATEST",
            request_id=ids.mint(now_ms, shard_id),
            payload=b"{}",
            accepted_at_ms=now_ms,
            expires_at_ms=now_ms + 60_000,
        )

    async def enqueue(self, *events: event_pb2.Event, shard_id: int = 0, epoch: int = 1) -> queue_pb2.EnqueueResponse:
        """One batch over a stream of its own."""
        call = self.stub.Enqueue(metadata=self.peer.metadata)
        await call.write(queue_pb2.EnqueueRequest(batch_id=7, shard_map_epoch=epoch, shard_id=shard_id, events=events))
        await call.done_writing()
        response: queue_pb2.EnqueueResponse = await call.read()
        assert response.batch_id == 7 and await call.read() is grpc.aio.EOF
        return response

    async def poller(self, events: int, incarnation: str = "a") -> Any:
        """A lease stream with credit."""
        call = self.stub.Lease(metadata=self.peer.metadata)
        hello = queue_pb2.LeaseHello(poller_id="poller-0", incarnation=incarnation, shard_map_epoch=1)
        await call.write(queue_pb2.LeaseRequest(hello=hello))
        await call.write(queue_pb2.LeaseRequest(credit=queue_pb2.LeaseCredit(events=events, bytes=BIG)))
        return call

    async def settle(self, *settlements: queue_pb2.Settlement) -> queue_pb2.SettleResponse:
        """One batch over a stream of its own."""
        call = self.stub.Settle(metadata=self.peer.metadata)
        await call.write(queue_pb2.SettleRequest(batch_id=9, shard_map_epoch=1, settlements=settlements))
        await call.done_writing()
        response: queue_pb2.SettleResponse = await call.read()
        return response
