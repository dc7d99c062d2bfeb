"""A fleet with two queue nodes, and traffic whose every accepted event is accounted for."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import grpc
from evenflow.control.v1 import control_pb2, resources_pb2
from evenflow.queue.v1 import queue_pb2

from services.shared import ids
from tests.integration.poller.rig import TENANT, Rig
from tests.kit.kill_points import KillPoints
from tests.kit.waiting import eventually, until

SHARDS = 3
SHARD = 0
NODES = ("queue-0", "queue-1")
MOVE_SECONDS = 20.0
SUBMIT_PAUSE_SECONDS = 0.02


class TwoQueues(Rig):
    """A fleet with two queue nodes."""

    def __init__(self, folder: Path) -> None:
        self.kills = KillPoints(folder / "kills")
        super().__init__(
            folder,
            ("control", *NODES, "frontend-0", "poller-0"),
            {
                **self.kills.environment,
                "EVENFLOW_FLEET_QUEUE_NODES": ",".join(NODES),
                "EVENFLOW_FLEET_SHARDS": str(SHARDS),
                "EVENFLOW_QUEUE_VISIBILITY_TIMEOUT_MS": "2000",
            },
        )
        self.queues: dict[str, Any] = {node_id: self.queue_of(node_id) for node_id in NODES}

    async def shard_map(self) -> resources_pb2.ShardMap:
        """As control has it."""
        call = self.control.Watch(
            control_pb2.WatchRequest(node_id="test"), metadata=self.metadata, wait_for_ready=True, timeout=10
        )
        async for message in call:
            for resource in message.upserts:
                if resource.HasField("shard_map"):
                    call.cancel()
                    found: resources_pb2.ShardMap = resource.shard_map
                    return found
        raise AssertionError("control told no shard map")

    async def move(self, to: str, shard_id: int = SHARD) -> None:
        """Begin a move."""
        request = control_pb2.MoveShardRequest(shard_id=shard_id, to_node_id=to)
        await self.control.MoveShard(request, metadata=self.metadata, wait_for_ready=True, timeout=10)

    async def describe(self) -> dict[str, queue_pb2.DescribeShardsResponse]:
        """Every node's shards; a node that does not answer is not there."""
        found = {}
        for node_id, queue in self.queues.items():
            with contextlib.suppress(grpc.aio.AioRpcError):
                found[node_id] = await queue.DescribeShards(
                    queue_pb2.DescribeShardsRequest(), metadata=self.metadata, timeout=5
                )
        return found

    async def holders(self, shard_id: int = SHARD) -> list[str]:
        """Nodes that serve the shard."""
        serving = queue_pb2.SHARD_STATE_SERVING
        return [
            node_id
            for node_id, answer in (await self.describe()).items()
            if any(s.depth.shard_id == shard_id and s.depth.state == serving for s in answer.shards)
        ]

    async def is_moved(self, to: str) -> bool:
        """Whether the move is over and its target alone has the shard, its file and no copy."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            now = await self.shard_map()
            described = await self.describe()
            is_idle = len(described) == len(NODES) and not any(d.moves for d in described.values())
            return is_idle and not now.moves and now.owner_node_ids[SHARD] == to and await self.holders() == [to]
        return False

    def files(self) -> dict[str, list[str]]:
        """Files of the shard's content by node."""
        return {
            node_id: sorted(
                path.name
                for path in (self.processes.data_dir / "queue" / node_id).glob(f"shard-{SHARD:04d}.*")
                if path.suffix in (".db", ".incoming")
            )
            for node_id in NODES
        }

    async def depth(self) -> int:
        """Events not settled in the whole fleet; -1: not known now."""
        described = await self.describe()
        shards = [shard for answer in described.values() for shard in answer.shards]
        return sum(shard.depth.depth for shard in shards) if len(shards) == SHARDS else -1


class Traffic:
    """Submits events for as long as it is in use, and remembers those that were accepted."""

    def __init__(self, rig: TwoQueues, function: str) -> None:
        self._rig = rig
        self._function = function
        self._task: asyncio.Task[None] | None = None
        self.accepted: list[bytes] = []

    async def __aenter__(self) -> "Traffic":
        self._task = asyncio.create_task(self._submit())
        await eventually(lambda: len(self.accepted) >= 5, 10, "events before the move")
        return self

    async def __aexit__(self, *_error: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _submit(self) -> None:
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                # Not cancelled half way: what was accepted must be known.
                self.accepted.append(await asyncio.shield(self._rig.submit(self._function)))
            await asyncio.sleep(SUBMIT_PAUSE_SECONDS)

    async def check_all_handled(self) -> None:
        """Every accepted event was handled; nothing is left."""

        def left() -> set[bytes]:
            return set(self.accepted) - {i.request_id for i in self._rig.seen[self._function]}

        await eventually(lambda: not left(), 15, "every event to run")
        for request_id in self.accepted:
            await self._rig.ended(request_id, "succeeded", 15)

        async def is_empty() -> bool:
            return await self._rig.depth() == 0

        await until(is_empty, 10, "depth 0")


def shard_of_token(token: str) -> int:
    """The shard that a token's event goes to."""
    return ids.shard_of(ids.derive(TENANT, "token", token.encode(), SHARDS))
