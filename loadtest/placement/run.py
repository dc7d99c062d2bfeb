"""One run: a traffic through the frontends into empty shards, their depths, and everything out again."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import grpc
from evenflow.common.v1 import event_pb2
from evenflow.control.v1 import resources_pb2
from evenflow.queue.v1 import queue_pb2

from loadtest.placement.rig import NODE_ID, NotInTime, QueueProcess, frontend
from loadtest.placement.variants import Variant
from loadtest.simulate.traffic import Traffic, tenant_name
from services.frontend.accept import Accepter
from services.frontend.targets import Target
from services.frontend.tickets import Ticket
from services.shared import ids
from services.shared.function_view import FunctionView
from services.shared.tracing import Tracer

FUNCTION = "f"
MAX_AGE_MS = 3_600_000
PAYLOAD = b'{"placement": true}'
CREDIT_EVENTS = 4_000
CREDIT_BYTES = 16 << 20
STALL_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Measured:
    """depths: by shard, as the queue told them; unknown_events: see Knowledge."""

    depths: list[int]
    unknown_events: float


class Knowledge:
    """What the frontends do not know when they choose: events sent so far, less those in the chooser's estimates."""

    def __init__(self) -> None:
        self._sent = self._unknown = 0

    def choosing(self, estimates: Sequence[int]) -> None:
        """One event is about to be sent by a frontend that estimates the depths so."""
        self._unknown += self._sent - sum(estimates)
        self._sent += 1

    @property
    def unknown_events(self) -> float:
        """Mean over the events."""
        return self._unknown / self._sent if self._sent else 0.0


class Refused(RuntimeError):
    """The queue did not take an event; the run counts for nothing."""


async def measure(queue: QueueProcess, variant: Variant, traffic: Traffic, tracer: Tracer) -> Measured:
    """Depths that the queue reports after this traffic, and how far frontends knew them.

    The shards are empty before and after.

    Refused: an event was not accepted. NotInTime: the queue's count is not that of the accepted events, or what came
    out of a shard is not what it said it had.
    """
    await queue.wait_depth(0)
    async with AsyncExitStack() as stack:
        accepters = [
            await stack.enter_async_context(frontend(queue, variant, traffic, number, tracer))
            for number in range(variant.frontends)
        ]
        batches = [traffic.arrivals[at : at + variant.batch] for at in range(0, variant.events, variant.batch)]
        knowledge = Knowledge()
        async with asyncio.timeout(STALL_SECONDS):
            await asyncio.gather(
                *(
                    _submit(
                        accepter,
                        batches[number :: variant.frontends],
                        variant.in_flight,
                        tracer,
                        knowledge,
                    )
                    for number, accepter in enumerate(accepters)
                )
            )
        depths = await queue.wait_depth(variant.events)
    drained = await drain(queue, variant.events)
    if drained != depths:
        raise NotInTime(f"the shards said {depths} and gave {drained}")
    return Measured(depths, knowledge.unknown_events)


async def _submit(
    accepter: Accepter, batches: Sequence[Sequence[int]], bound: int, tracer: Tracer, knowledge: Knowledge
) -> None:
    """Everything, batch by batch, at most `bound` events not durable yet; until all are."""
    in_flight = 0
    room, failed = asyncio.Event(), list[str]()

    def on_done(ticket: Ticket) -> None:
        nonlocal in_flight
        in_flight -= 1
        if ticket.errors is not None:
            failed.append(str(ticket.error(0)))
        room.set()

    def target(tenant: int) -> Target:
        name = tenant_name(tenant)
        return Target(name, FUNCTION, "$LATEST", "", MAX_AGE_MS, FunctionView(resources_pb2.Function()))

    for batch in batches:
        # The whole of it arrives at once: no turn of the loop may end a run of choices.
        while in_flight + len(batch) > bound:
            room.clear()
            await room.wait()
        in_flight += len(batch)
        for tenant in batch:
            ticket = Ticket(1, time.monotonic() * 1_000, on_done)
            knowledge.choosing(accepter.depths.estimates)
            accepter.submit(ticket, 0, target(tenant), PAYLOAD, tracer.new_root("", ""), source="placement")
    while in_flight:
        room.clear()
        await room.wait()
    if failed:
        raise Refused(f"{len(failed)} of {sum(map(len, batches))} events were refused: {failed[0]}")


async def drain(queue: QueueProcess, events: int) -> list[int]:
    """Lease and acknowledge everything; how many events came out of each shard."""
    lease = queue.stub.Lease(metadata=queue.peer.metadata)
    settle = queue.stub.Settle(metadata=queue.peer.metadata)
    hello = queue_pb2.LeaseHello(poller_id="poller-0", incarnation=ids.new_incarnation(), shard_map_epoch=1)
    found = [0] * queue.shards
    try:
        async with asyncio.timeout(STALL_SECONDS):
            await lease.write(queue_pb2.LeaseRequest(hello=hello))
            credit = queue_pb2.LeaseCredit(events=CREDIT_EVENTS, bytes=CREDIT_BYTES)
            await lease.write(queue_pb2.LeaseRequest(credit=credit))
            for batch_id in itertools.count(1):
                if sum(found) >= events:
                    break
                response = await lease.read()
                if response is grpc.aio.EOF:
                    raise NotInTime(f"{NODE_ID} ended the lease stream: {await lease.details()}")
                request = queue_pb2.SettleRequest(batch_id=batch_id, shard_map_epoch=1)
                for one in response.leases:
                    found[one.receipt.shard_id] += 1
                    ack = queue_pb2.Ack(condition=event_pb2.CONDITION_SUCCESS)
                    request.settlements.add(receipt=one.receipt, ack=ack)
                await settle.write(request)
                answer = await settle.read()
                if answer.HasField("refusal") or answer.refusals:
                    raise Refused(f"an acknowledgement was refused: {answer}")
                back = queue_pb2.LeaseCredit(events=len(response.leases), bytes=response.ByteSize())
                await lease.write(queue_pb2.LeaseRequest(credit=back))
    finally:
        lease.cancel()
        settle.cancel()
    return found
