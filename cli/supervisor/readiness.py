"""When a fleet is ready: every service says so, hosts may run something, the door reaches every shard."""

import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

import grpc
from evenflow.control.v1 import control_pb2, control_pb2_grpc, resources_pb2
from evenflow.frontend.v1 import frontend_pb2, frontend_pb2_grpc
from evenflow.queue.v1 import queue_pb2, queue_pb2_grpc
from evenflow.runtime.v1 import runtime_pb2, runtime_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cli.supervisor.plan import NodePlan
from services.shared import ids
from services.shared.channels import Peer
from services.shared.errors import EvenflowError, Reason

CALL_SECONDS = 1.0
ACCOUNT_LIMIT = "account"
PROBE_TENANT = "default"


class Readiness:
    """Asks until all is well; remembers what was seen to be well."""

    def __init__(self, plans: Iterable[NodePlan], token: str) -> None:
        self._plans = {plan.node_id: plan for plan in plans}
        self._peers: Mapping[str, Peer] = {
            node_id: Peer.dial(plan.target, token) for node_id, plan in self._plans.items()
        }
        self._serving: set[str] = set()
        self._able: set[str] = set()
        # In words, by runtime host that may run something.
        self.isolation: dict[str, str] = {}
        self._shards: dict[str, list[int]] = {}
        self._reachable_shards: set[int] = set()

    async def close(self) -> None:
        """Close the channels."""
        for peer in self._peers.values():
            await peer.close()

    def forget(self, node_id: str) -> None:
        """This process ended: it has to prove itself again."""
        self._serving.discard(node_id)
        self._able.discard(node_id)
        self._shards.pop(node_id, None)
        if self._plans[node_id].role in ("queue", "frontend"):
            self._reachable_shards.clear()

    async def missing(self) -> str:
        """What is not there yet, in words; empty: everything is."""
        waiting = [node_id for node_id in self._plans if not await self._serves(node_id)]
        if waiting:
            return f"{', '.join(waiting)} not serving yet"
        for node_id, plan in self._plans.items():
            if plan.role == "runtime" and not await self._may_run(node_id):
                return f"{node_id} has no share of the concurrency yet"
            if plan.role == "queue" and not await self._shards_open(node_id):
                return f"{node_id} has not opened its shards yet"
        for shards in self._shards.values():
            for shard_id in shards:
                if not await self._door_reaches(shard_id):
                    return f"the door does not reach shard {shard_id} yet"
        return await self._members_missing()

    async def _serves(self, node_id: str) -> bool:
        if node_id in self._serving:
            return True
        peer = self._peers[node_id]
        # Before its socket is there a channel would only fall into its own back-off.
        if not os.path.exists(peer.target.removeprefix("unix:")):
            return False
        try:
            # Its stub has no type information of its methods.
            stub: Any = health_pb2_grpc.HealthStub(peer.channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=CALL_SECONDS, wait_for_ready=True)
        except grpc.aio.AioRpcError:
            return False
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            return False
        self._serving.add(node_id)
        return True

    async def _may_run(self, node_id: str) -> bool:
        if node_id in self._able:
            return True
        peer = self._peers[node_id]
        try:
            host = await runtime_pb2_grpc.RuntimeServiceStub(peer.channel).DescribeHost(
                runtime_pb2.DescribeHostRequest(), timeout=CALL_SECONDS, metadata=peer.metadata
            )
        except grpc.aio.AioRpcError:
            return False
        if not any(share.limit_key == ACCOUNT_LIMIT and share.share for share in host.shares):
            return False
        self._able.add(node_id)
        self.isolation[node_id] = host.isolation
        return True

    async def _shards_open(self, node_id: str) -> bool:
        if node_id in self._shards:
            return True
        peer = self._peers[node_id]
        try:
            answer = await queue_pb2_grpc.QueueServiceStub(peer.channel).DescribeShards(
                queue_pb2.DescribeShardsRequest(), timeout=CALL_SECONDS, metadata=peer.metadata
            )
        except grpc.aio.AioRpcError:
            return False
        states = {shard.depth.shard_id: shard.depth.state for shard in answer.shards}
        # A node without shards is ready when it knows that it has none.
        if not answer.shard_map_epoch or queue_pb2.SHARD_STATE_OPENING in states.values():
            return False
        # A quarantined shard must not keep the rest from serving: `evenflow shards` shows it.
        taking = (queue_pb2.SHARD_STATE_SERVING, queue_pb2.SHARD_STATE_DRAINING)
        # Nor one that moves: its target may be what is missing.
        moving = {move.shard_id for move in answer.moves}
        self._shards[node_id] = [s for s, state in states.items() if state in taking and s not in moving]
        return True

    async def _door_reaches(self, shard_id: int) -> bool:
        if shard_id in self._reachable_shards:
            return True
        door = next(node_id for node_id, plan in self._plans.items() if plan.role == "frontend")
        peer = self._peers[door]
        # An id that no event has: the door must get as far as the shard to say so.
        unknown = ids.mint(time.time_ns() // 1_000_000, shard_id)
        try:
            await frontend_pb2_grpc.FrontendServiceStub(peer.channel).GetEvent(
                frontend_pb2.GetEventRequest(request_id=unknown, tenant_id=PROBE_TENANT),
                timeout=CALL_SECONDS,
                metadata=peer.metadata,
            )
        except grpc.aio.AioRpcError as e:
            if EvenflowError.from_rpc_error(e).reason != Reason.ERROR_REASON_EVENT_NOT_FOUND:
                return False
        self._reachable_shards.add(shard_id)
        return True

    async def _members_missing(self) -> str:
        control = next(peer for node_id, peer in self._peers.items() if self._plans[node_id].role == "control")
        try:
            answer = await control_pb2_grpc.ControlServiceStub(control.channel).ListMembers(
                control_pb2.ListMembersRequest(), timeout=CALL_SECONDS, metadata=control.metadata
            )
        except grpc.aio.AioRpcError as e:
            return f"control: {e.code().name}"
        alive = resources_pb2.MEMBER_STATE_ALIVE
        joined = {member.node_id for member in answer.members if member.state == alive}
        absent = [n for n, plan in self._plans.items() if plan.role != "control" and n not in joined]
        return f"{', '.join(absent)} not joined yet" if absent else ""
