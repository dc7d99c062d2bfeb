"""The real shard, on a real file, as a store: the proto's messages in, the shard's commands inside."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from evenflow.queue.v1 import queue_pb2

from services.queue import dead_letters, status
from services.queue.domain import Call, FreeLeases, Settle, SettleBatch, SettleResult, Wake
from services.queue.messages import batch_from, response_from, settle_from
from services.queue.sessions import PollerSession
from services.shared.errors import EvenflowError, invalid
from tests.kit.shard_store import Bounds, Numbers
from tests.unit.queue.kit import Bench

# Nothing here cuts the power: a volume in memory spares the suite thousands of waits for a disk.
MEMORY = "/dev/shm"


class SqliteShard:
    """See tests/kit/shard_store.py."""

    def __init__(self, bounds: Bounds) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="ef-", dir=MEMORY if os.access(MEMORY, os.W_OK) else "/tmp"))
        settings: dict[str, Any] = {name: getattr(bounds, name) for name in Bounds.__slots__}
        self.bench = Bench(self.directory, **settings)
        self.clock = self.bench.clock
        self._pollers: dict[str, PollerSession] = {}

    def enqueue(self, request: queue_pb2.EnqueueRequest) -> queue_pb2.EnqueueResponse:
        """Store a batch."""
        found: list[queue_pb2.EnqueueResponse] = []
        try:
            batch = batch_from(
                request, self.clock.wall_ns(), lambda result: found.append(response_from(request.batch_id, result))
            )
        except EvenflowError as e:
            return queue_pb2.EnqueueResponse(
                batch_id=request.batch_id, refusal=e.to_detail(), depth=self.numbers().depth
            )
        self.bench.drain(batch)
        return found[0]

    def join(self, poller_id: str, incarnation: str) -> None:
        """A poller's stream begins."""
        self._pollers[poller_id] = self.bench.poller(poller_id, incarnation)

    def limit(self, poller_id: str, limits: Iterable[queue_pb2.FunctionLimit]) -> None:
        """Replace these bounds."""
        for limit in limits:
            bound = limit.max_leases if limit.HasField("max_leases") else None
            self._pollers[poller_id].set_limit((limit.tenant_id, limit.function_name), bound)

    def lease(self, poller_id: str, events: int, payload_bytes: int = 1 << 26) -> list[queue_pb2.Lease]:
        """Grant credit, take what comes, take the rest of the credit back."""
        session = self._pollers[poller_id]
        session.add_credit(events, payload_bytes)
        self.bench.drain(Wake(None))
        session.clear_credit()
        return self.bench.take(poller_id)

    def settle(self, request: queue_pb2.SettleRequest) -> queue_pb2.SettleResponse:
        """As the service splits and joins it, with one shard."""
        answer = queue_pb2.SettleResponse(batch_id=request.batch_id)
        refusals: list[tuple[int, EvenflowError]] = []
        settles: list[Settle] = []
        if not request.batch_id or not 1 <= len(request.settlements) <= 1_000:
            answer.refusal.CopyFrom(invalid("not a batch").to_detail())
            return answer
        for index, settlement in enumerate(request.settlements):
            try:
                settles.append(settle_from(index, settlement))
            except EvenflowError as e:
                refusals.append((index, e))
        found: list[SettleResult] = []
        self.bench.drain(SettleBatch(settles, request.ByteSize(), self.clock.wall_ns(), found.append))
        for index, error in sorted(refusals + found[0].refusals, key=lambda refusal: refusal[0]):
            answer.refusals.add(index=index, error=error.to_detail())
        return answer

    def give_back(self, leases: Iterable[queue_pb2.Lease]) -> None:
        """These leases never left the node."""
        receipts = [(lease.receipt.sequence, lease.receipt.fence) for lease in leases]
        session = next(iter(self._pollers.values()))
        self.bench.drain(FreeLeases(session, receipts))

    def tick(self) -> None:
        """Do what time brings."""
        self.bench.drain()

    def status(self, tenant_id: str, request_id: bytes) -> queue_pb2.EventStatus | None:
        """What is known of an event."""
        return status.find(self.bench.shard, tenant_id, request_id)

    def list_events(self, tenant_id: str, function_name: str, limit: int) -> list[queue_pb2.EventStatus]:
        """The newest events."""
        return status.list_events(self.bench.shard, tenant_id, function_name, limit)

    def dead_letters(
        self, which: queue_pb2.DeadLetterFilter, page_size: int, page_token: str = ""
    ) -> queue_pb2.ListDeadLettersResponse:
        """A page of dead letters."""
        after = int(page_token or 0)
        found, next_id = dead_letters.page(self.bench.shard, _filter(which), after, page_size)
        return queue_pb2.ListDeadLettersResponse(dead_letters=found, next_page_token=str(next_id or ""))

    def dead_letter(self, tenant_id: str, request_id: bytes) -> queue_pb2.DeadLetterEntry | None:
        """One dead letter."""
        return dead_letters.show(self.bench.shard, tenant_id, request_id)

    def redrive(self, which: queue_pb2.DeadLetterFilter, max_events: int) -> int:
        """Give the oldest ones a fresh life."""
        return self._move(dead_letters.redrive, which, max_events)

    def purge(self, which: queue_pb2.DeadLetterFilter, max_events: int) -> int:
        """Delete the oldest ones."""
        return self._move(dead_letters.purge, which, max_events)

    def numbers(self) -> Numbers:
        """How much of what is in the shard now."""
        stats = self.bench.shard.stats()
        return Numbers(stats.depth, stats.leased, stats.delayed, stats.dead_letters, stats.handovers)

    def crash(self) -> None:
        """What is in memory goes."""
        self._pollers.clear()
        self.bench.crash()

    def reopen(self) -> None:
        """A clean end, and open again."""
        self._pollers.clear()
        self.bench.close()
        self.bench.open()

    def close(self) -> None:
        """Remove the file."""
        self.bench.shard.database.close()
        shutil.rmtree(self.directory)

    def _move(self, run: Callable[..., Any], which: queue_pb2.DeadLetterFilter, max_events: int) -> int:
        total = after_id = 0
        while total < max_events:
            moved = self._call(partial(run, which=_filter(which), limit=max_events - total, after_id=after_id))
            total, after_id = total + moved, moved.next_id
            if not after_id:
                break
        return total

    def _call(self, run: Callable[..., Any]) -> Any:
        """On the shard, in a transaction of its own."""
        found: list[Any] = []
        self.bench.drain(Call(run, lambda result, error: found.append(error or result), writes=True))
        if isinstance(found[0], BaseException):
            raise found[0]
        return found[0]


def _filter(which: queue_pb2.DeadLetterFilter) -> dead_letters.Filter:
    return dead_letters.Filter(which.tenant_id, which.request_id, which.function_name, which.error_type)
