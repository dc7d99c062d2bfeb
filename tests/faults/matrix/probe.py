"""A poller of the runner's own that settles with receipts of leases that are over: each has to be refused.

Its function's events are left to it by the fleet's pollers, which are told to pause it. It leases them before the
fault and does nothing more. After the fault it waits until the shards hand the same events out again, sends the old
receipts, and only then the new ones.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import grpc
from evenflow.common.v1 import errors_pb2, event_pb2
from evenflow.frontend.v1 import frontend_pb2, frontend_pb2_grpc
from evenflow.poller.v1 import poller_pb2, poller_pb2_grpc
from evenflow.queue.v1 import queue_pb2, queue_pb2_grpc

from cli.connection import TENANT
from services.shared import ids
from services.shared.channels import Peer, read_token
from tests.faults.matrix import functions
from tests.kit.fleet import Fleet
from tests.kit.waiting import until

FUNCTION = "probe"
EVENTS = 20
CREDIT_BYTES = 1 << 20
CALL_SECONDS = 10.0
# Until every event of the probe has been leased, the first time and again.
LEASE_SECONDS = 20.0
MAX_BEGINS = 3
# Its events that may be without an end until `finish`.
MOST_LEFT = MAX_BEGINS * EVENTS


class Probe:
    """`begin` before the fault, `finish` after it."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._token = read_token(fleet.file.token_file)
        self._old: dict[bytes, queue_pb2.Receipt] = {}

    async def begin(self) -> None:
        """Put events in and lease them. TimeoutError: they are not to be had."""
        await pause(self._fleet, FUNCTION)
        for left in reversed(range(MAX_BEGINS)):
            # The pollers' word may reach the queue nodes after the events do: they run those, and more are sent.
            with contextlib.suppress(TimeoutError) if left else contextlib.nullcontext():
                self._old = await self._lease(await self._publish(), "before")
                return

    async def _publish(self) -> set[bytes]:
        """The ids of EVENTS fresh events."""
        door = Peer.dial(next(iter(self._fleet.file.of_role("frontend").values())).target, self._token)
        try:
            event = frontend_pb2.EventSubmission(function_name=FUNCTION, payload=b"{}", tenant_id=TENANT)
            answer = await frontend_pb2_grpc.FrontendServiceStub(door.channel).PublishBatch(
                frontend_pb2.PublishBatchRequest(events=[event] * EVENTS), metadata=door.metadata, timeout=CALL_SECONDS
            )
            return {result.request_id for result in answer.results if result.request_id}
        finally:
            await door.close()

    async def finish(self, left: Callable[[], set[bytes]]) -> tuple[int, int]:
        """Stale settlements that were sent, and those that were taken. left: says which of its events have no end."""
        # A poller that was started anew knows nothing of the pause.
        await pause(self._fleet, FUNCTION)
        new = await self._lease(await asyncio.to_thread(left), "after")
        stale = list(self._old.values())
        taken = await self._ack(stale)
        refused = len(new) - await self._ack(list(new.values()))
        # An event that an old receipt ended has no lease to settle any more: it counts by itself.
        return len(stale), max(taken, refused)

    async def _lease(self, wanted: set[bytes], name: str) -> dict[bytes, queue_pb2.Receipt]:
        """The receipts of these events, over all queue nodes."""
        found: dict[bytes, queue_pb2.Receipt] = {}
        async with asyncio.timeout(LEASE_SECONDS), asyncio.TaskGroup() as group:
            readers = [
                group.create_task(self._lease_from(node.target, name, found))
                for node in self._fleet.file.of_role("queue").values()
            ]
            await until(partial(_has, found, wanted), 2 * LEASE_SECONDS)
            for reader in readers:
                reader.cancel()
        return {request_id: found[request_id] for request_id in wanted}

    async def _lease_from(self, target: str, name: str, found: dict[bytes, queue_pb2.Receipt]) -> None:
        peer = Peer.dial(target, self._token)
        try:
            stub: Any = queue_pb2_grpc.QueueServiceStub(peer.channel)
            epoch = (await self._describe(stub, peer)).shard_map_epoch
            call = stub.Lease(metadata=peer.metadata)
            hello = queue_pb2.LeaseHello(
                poller_id=f"probe-{name}", incarnation=ids.new_incarnation(), shard_map_epoch=epoch
            )
            others = (*functions.ALL, functions.STANDING)
            limits = [queue_pb2.FunctionLimit(tenant_id=TENANT, function_name=one, max_leases=0) for one in others]
            await call.write(queue_pb2.LeaseRequest(hello=hello))
            await call.write(queue_pb2.LeaseRequest(limits=queue_pb2.FunctionLimits(limits=limits)))
            credit = queue_pb2.LeaseCredit(events=2 * EVENTS, bytes=CREDIT_BYTES)
            await call.write(queue_pb2.LeaseRequest(credit=credit))
            while (message := await call.read()) is not grpc.aio.EOF:
                for lease in message.leases:
                    if lease.event.function_name == FUNCTION:
                        found[lease.event.request_id] = lease.receipt
        finally:
            await peer.close()

    async def _describe(self, stub: Any, peer: Peer) -> Any:
        return await stub.DescribeShards(
            queue_pb2.DescribeShardsRequest(), metadata=peer.metadata, timeout=CALL_SECONDS, wait_for_ready=True
        )

    async def _ack(self, receipts: Sequence[queue_pb2.Receipt]) -> int:
        """How many of them were taken."""
        taken = 0
        for node in self._fleet.file.of_role("queue").values():
            peer = Peer.dial(node.target, self._token)
            try:
                stub: Any = queue_pb2_grpc.QueueServiceStub(peer.channel)
                described = await self._describe(stub, peer)
                served = {shard.depth.shard_id for shard in described.shards}
                mine = [receipt for receipt in receipts if receipt.shard_id in served]
                if not mine:
                    continue
                ack = queue_pb2.Ack(condition=event_pb2.CONDITION_SUCCESS)
                request = queue_pb2.SettleRequest(
                    batch_id=1,
                    shard_map_epoch=described.shard_map_epoch,
                    settlements=[queue_pb2.Settlement(receipt=receipt, ack=ack) for receipt in mine],
                )
                call = stub.Settle(metadata=peer.metadata)
                await call.write(request)
                async with asyncio.timeout(CALL_SECONDS):
                    answer = await call.read()
                call.cancel()
                reasons = {refusal.error.reason for refusal in answer.refusals}
                assert reasons <= {errors_pb2.ERROR_REASON_RECEIPT_EXPIRED}, answer
                assert not answer.HasField("refusal"), answer
                taken += len(mine) - len(answer.refusals)
            finally:
                await peer.close()
        return taken


async def pause(fleet: Fleet, function_name: str) -> None:
    """Have every poller leave this function's events where they are."""
    request = poller_pb2.PauseFunctionRequest(tenant_id=TENANT, function_name=function_name, paused=True)
    token = read_token(fleet.file.token_file)
    for node in fleet.file.of_role("poller").values():
        peer = Peer.dial(node.target, token)
        try:
            await poller_pb2_grpc.PollerServiceStub(peer.channel).PauseFunction(
                request, metadata=peer.metadata, timeout=CALL_SECONDS, wait_for_ready=True
            )
        finally:
            await peer.close()


async def _has(found: dict[bytes, queue_pb2.Receipt], wanted: set[bytes]) -> bool:
    return wanted <= found.keys()
