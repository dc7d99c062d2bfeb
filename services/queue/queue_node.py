"""A queue node: shards that follow the fleet's shard map, behind the gRPC service."""

import asyncio
import logging

from evenflow.control.v1 import resources_pb2

from services.queue.counts import DrainReport
from services.queue.courier import GrpcCourier
from services.queue.service import SERVICE_NAME, QueueService, register
from services.queue.settings import QueueSettings
from services.queue.shards import Shards
from services.queue.telemetry import QueueTelemetry
from services.shared.channels import Peer
from services.shared.node import Node

log = logging.getLogger(__name__)


class QueueNode:
    """One process that owns shards."""

    def __init__(self, settings: QueueSettings) -> None:
        """ValueError: an unsafe SQLite, or an unreadable manifest."""
        self._node = Node(settings, resources_pb2.NODE_ROLE_QUEUE, [SERVICE_NAME])
        self.shards = Shards(settings, self._node.clock)
        self._service = QueueService(
            self.shards,
            self._node.clock,
            node_id=settings.node_id,
            depth_interval_ms=settings.depth_interval_ms,
            pending_max_bytes=settings.pending_max_bytes,
            redrive_per_second=settings.redrive_per_second,
        )
        self._telemetry = QueueTelemetry(self._node.tracer, self._node.metrics, self.shards.numbers)
        self.shards.on_drained = self._on_drained
        register(self._service, self._node.server.server)
        self.shards.courier = GrpcCourier(
            self.shards,
            node_id=settings.node_id,
            control=self._node.dial(settings.control_target),
            peer_of=self._peer_of,
            on_map=self._take_map,
        )
        self._map_changed = asyncio.Event()
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the shards of this node, then serve and join. OSError, ValueError."""
        await self._node.start_following()
        await self._apply_map()
        self._node.follower.subscribe(self._map_changed.set)
        self._following = asyncio.create_task(self._follow(), name="shard map")
        await self._node.start()

    async def drain(self) -> None:
        """Take nothing new, deliver nothing, and have what runs settled."""
        await self._node.drain()
        await self.shards.drain()
        await self.shards.wait_leases_end()

    async def stop(self) -> None:
        """End the calls, then close the files."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await self._node.server.stop(_GRACE_SECONDS)
        await self.shards.stop()
        await self._node.stop()

    async def _follow(self) -> None:
        while True:
            await self._map_changed.wait()
            self._map_changed.clear()
            try:
                await self._apply_map()
            except Exception:
                log.exception("the shard map could not be followed")

    async def _apply_map(self) -> None:
        shard_map = self._node.follower.view.shard_map
        if shard_map is not None:
            await self.shards.apply(shard_map.epoch, shard_map.owner_node_ids, shard_map.moves, shard_map.arrivals)

    def _take_map(self, shard_map: resources_pb2.ShardMap) -> None:
        self.shards.take(shard_map.epoch, shard_map.owner_node_ids, shard_map.moves, shard_map.arrivals)

    def _peer_of(self, node_id: str) -> Peer | None:
        member = self._node.follower.view.members.get(node_id)
        return self._node.dial(member.address) if member is not None and member.address else None

    def _on_drained(self, shard_id: int, report: DrainReport) -> None:
        self._service.note_drained(shard_id, report)
        self._telemetry.note(shard_id, report)


_GRACE_SECONDS = 0.2
