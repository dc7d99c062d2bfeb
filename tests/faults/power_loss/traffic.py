"""A seeded client: batches, every kind of settlement, stale receipts, repeats and redrives, marked in the log."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import grpc
from evenflow.common.v1 import errors_pb2, event_pb2
from evenflow.queue.v1 import queue_pb2

from services.shared import ids
from tests.faults.power_loss.link import EPOCH, Disconnected, Link
from tests.faults.power_loss.promises import AVAILABLE, DEAD, DELAYED, DELAYED_HANDOVER, ENDED, HANDOVER, payload_of
from tests.faults.power_loss.recorder import Marks

TENANTS = ("acme", "bolt")
FUNCTIONS = ("resize", "mail", "audit")
DESTINATION = "arn:aws:lambda:us-east-1:000000000000:function:audit"
AGE_MS = 3_600_000
# Operations under way at once.
IN_FLIGHT = 4
MAX_BATCH = 8
MAX_SETTLES = 6
# Most are small; some need pages of their own.
PAYLOAD_BYTES = (20, 200, 200, 600, 3_000, 9_000)


@dataclass(slots=True)
class Batch:
    """Events that were sent once, maybe to be sent again."""

    number: int
    shard_id: int
    events: list[event_pb2.Event]


@dataclass(slots=True)
class Book:
    """What the client remembers over all runs of the node."""

    rng: random.Random
    marks: Marks
    number: int = 0
    unanswered: dict[int, Batch] = field(default_factory=dict)
    answered: list[Batch] = field(default_factory=list)
    dead: list[bytes] = field(default_factory=list)
    old_receipts: dict[bytes, queue_pb2.Receipt] = field(default_factory=dict)

    def next_number(self) -> int:
        """The number of the next operation."""
        self.number += 1
        return self.number


class Traffic:
    """The client in one run of the node."""

    def __init__(self, book: Book, link: Link, shard_count: int) -> None:
        self._book = book
        self._link = link
        self._rng = book.rng
        self.shard_count = shard_count
        self._steps: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (26, self._enqueue),
            (48, self._settle),
            (10, self._settle_stale),
            (4, self._repeat),
            (12, self._redrive),
        ]

    async def run(self, steps: int) -> None:
        """So many operations, some at once, until each is answered or the node is gone."""
        room = asyncio.Semaphore(IN_FLIGHT)
        weights = [weight for weight, _ in self._steps]

        async def one(step: Callable[[], Awaitable[None]]) -> None:
            try:
                await step()
            except Disconnected:
                pass
            finally:
                room.release()

        async with asyncio.TaskGroup() as group:
            for _ in range(steps):
                await room.acquire()
                if self._link.enqueue.is_gone:
                    return
                group.create_task(one(self._rng.choices(self._steps, weights)[0][1]))

    async def repeat_unanswered(self) -> None:
        """Send again what the last run of the node left open, with the same ids. Disconnected."""
        for batch in list(self._book.unanswered.values()):
            await self._send(batch)

    async def _enqueue(self) -> None:
        shard_id = self._rng.randrange(self.shard_count)
        now_ms = time.time_ns() // 1_000_000
        batch = Batch(self._book.next_number(), shard_id, [])
        for _ in range(self._rng.randint(1, MAX_BATCH)):
            request_id = ids.mint(now_ms, shard_id)
            payload = payload_of(request_id.hex(), self._rng.choice(PAYLOAD_BYTES))
            batch.events.append(
                event_pb2.Event(
                    tenant_id=self._rng.choice(TENANTS),
                    function_name=self._rng.choice(FUNCTIONS),
                    qualifier="$LATEST",
                    request_id=request_id,
                    payload=payload,
                    accepted_at_ms=now_ms,
                    expires_at_ms=now_ms + AGE_MS,
                )
            )
        self._book.marks.mark("send", batch.number, [(event.request_id.hex(), AVAILABLE) for event in batch.events])
        self._book.unanswered[batch.number] = batch
        await self._send(batch)

    async def _repeat(self) -> None:
        if self._book.answered:
            await self._send(self._rng.choice(self._book.answered))

    async def _send(self, batch: Batch) -> None:
        request = queue_pb2.EnqueueRequest(
            batch_id=self._book.next_number(), shard_map_epoch=EPOCH, shard_id=batch.shard_id, events=batch.events
        )
        response = await self._link.enqueue.ask(request)
        if batch.number not in self._book.unanswered:
            return
        if response.refusal.reason == errors_pb2.ERROR_REASON_OUTCOME_UNKNOWN:
            return
        event_ids = [event.request_id.hex() for event in batch.events]
        refused = event_ids if response.HasField("refusal") else [event_ids[r.index] for r in response.event_refusals]
        self._book.marks.mark("done", batch.number, refused)
        del self._book.unanswered[batch.number]
        if not refused:
            self._book.answered.append(batch)

    async def _settle(self) -> None:
        held = self._link.held
        chosen = self._rng.sample(sorted(held), min(len(held), self._rng.randint(1, MAX_SETTLES)))
        if not chosen:
            return
        leases = [held.pop(request_id) for request_id in chosen]
        number = self._book.next_number()
        request = queue_pb2.SettleRequest(batch_id=number, shard_map_epoch=EPOCH)
        places: list[str] = []
        for lease in leases:
            settlement = request.settlements.add(receipt=lease.receipt)
            places.append(self._choose(lease, settlement))
        named = [(lease.event.request_id.hex(), place) for lease, place in zip(leases, places, strict=True)]
        self._book.marks.mark("send", number, named)
        response = await self._link.settle.ask(request)
        refused = {refusal.index for refusal in response.refusals}
        self._book.marks.mark("done", number, [named[index][0] for index in sorted(refused)])
        ended = 0
        for index, (lease, settlement) in enumerate(zip(leases, request.settlements, strict=True)):
            if index not in refused and settlement.HasField("handover"):
                # The lease goes on; its result is still to be delivered.
                lease.handover.CopyFrom(settlement.handover)
                held[lease.event.request_id] = lease
                continue
            ended += 1
            if index not in refused:
                self._note(lease, settlement)
        await self._link.give_credit(ended)

    def _note(self, lease: queue_pb2.Lease, settlement: queue_pb2.Settlement) -> None:
        if settlement.HasField("dead_letter"):
            self._book.dead.append(lease.event.request_id)
        elif settlement.HasField("release") and settlement.release.delay_ms == 0:
            self._book.old_receipts[lease.event.request_id] = lease.receipt

    def _choose(self, lease: queue_pb2.Lease, settlement: queue_pb2.Settlement) -> str:
        """Fill in what becomes of the lease; returns the places where that may leave the event."""
        was_handed = lease.HasField("handover")
        action = self._rng.choices(("ack", "now", "later", "handover", "dead"), (26, 22, 16, 18, 18))[0]
        if action == "handover" and not was_handed:
            settlement.handover.condition = event_pb2.CONDITION_SUCCESS
            settlement.handover.destination_arn = DESTINATION
            settlement.attempt.CopyFrom(_ran(event_pb2.OUTCOME_STATUS_SUCCEEDED))
            return HANDOVER
        if action == "dead":
            settlement.dead_letter.condition = event_pb2.CONDITION_RETRIES_EXHAUSTED
            settlement.dead_letter.error_type = "Unhandled"
            settlement.attempt.CopyFrom(_ran(event_pb2.OUTCOME_STATUS_FUNCTION_ERROR))
            return DEAD
        if action in ("now", "later"):
            release = settlement.release
            release.cause = (
                queue_pb2.RELEASE_CAUSE_DELIVERY_FAILED if was_handed else queue_pb2.RELEASE_CAUSE_FUNCTION_ERROR
            )
            release.error_type = "Unhandled"
            if action == "now":
                return HANDOVER if was_handed else AVAILABLE
            # Some come back during the recording, some never.
            release.delay_ms = self._rng.choice((1, 20, 50, 600_000))
            return DELAYED_HANDOVER + HANDOVER if was_handed else DELAYED + AVAILABLE
        settlement.ack.condition = event_pb2.CONDITION_SUCCESS
        settlement.ack.destination_arn = DESTINATION if was_handed else ""
        if not was_handed:
            settlement.attempt.CopyFrom(_ran(event_pb2.OUTCOME_STATUS_SUCCEEDED))
        return ENDED

    async def _settle_stale(self) -> None:
        """Acknowledge with the receipt of an earlier lease, which must change nothing: there is no mark for it."""
        again = [request_id for request_id in self._book.old_receipts if request_id in self._link.held]
        if not again:
            return
        receipt = self._book.old_receipts.pop(self._rng.choice(again))
        request = queue_pb2.SettleRequest(batch_id=self._book.next_number(), shard_map_epoch=EPOCH)
        request.settlements.add(receipt=receipt).ack.condition = event_pb2.CONDITION_SUCCESS
        await self._link.settle.ask(request)

    async def _redrive(self) -> None:
        if not self._book.dead:
            return
        request_id = self._book.dead.pop(self._rng.randrange(len(self._book.dead)))
        number = self._book.next_number()
        self._book.marks.mark("send", number, [(request_id.hex(), AVAILABLE)])
        total = 0
        try:
            for tenant_id in TENANTS:
                which = queue_pb2.DeadLetterFilter(
                    tenant_id=tenant_id, request_id=request_id, shard_id=ids.shard_of(request_id)
                )
                response = await self._link.stub.RedriveDeadLetters(
                    queue_pb2.RedriveDeadLettersRequest(filter=which), metadata=self._link.metadata
                )
                total += response.redriven
        except grpc.aio.AioRpcError:
            raise Disconnected from None
        self._book.marks.mark("done", number, [] if total else [request_id.hex()])


def _ran(status: "event_pb2.OutcomeStatus.ValueType") -> queue_pb2.AttemptRecord:
    return queue_pb2.AttemptRecord(
        started_at_ms=time.time_ns() // 1_000_000,
        duration_us=1_000,
        status=status,
        executed_version="$LATEST",
        sandbox_id="runtime-0/1",
    )
