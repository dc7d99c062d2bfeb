"""The three event streams of a queue node, each an outbox that its stream pulls from."""

from collections import deque

from evenflow.queue.v1 import queue_pb2

from services.queue.domain import EnqueueResult, Settle, SettleBatch, SettleResult, Wake
from services.queue.lease_wire import MAX_RESPONSE_BYTES, MAX_RESPONSE_LEASES, LeaseBatch, OutgoingLeases
from services.queue.messages import MAX_BATCH_SETTLEMENTS, batch_from, response_from, settle_from
from services.queue.sessions import PollerSession
from services.queue.shards import Shards
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, invalid
from services.shared.streams import Wakeup

MAX_CREDIT_MESSAGE_EVENTS = 10_000
MAX_CREDIT_MESSAGE_BYTES = 64 << 20
MAX_LIMITS = 1_000
# A message with fewer leases takes those of other shards along, if there are any.
WORTH_MERGING = 256


class PendingBytes:
    """How much waits for a commit on this node; above the bound, streams are not read."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._gates: set[Wakeup] = set()

    def add(self, count: int) -> None:
        """So many more wait, or (negative) no longer do."""
        was_full = self._bytes >= self._max_bytes
        self._bytes += count
        if was_full and self._bytes < self._max_bytes:
            for gate in self._gates:
                gate.set()

    def has_room(self) -> bool:
        """Whether another message may be read."""
        return self._bytes < self._max_bytes

    def watch(self, gate: Wakeup) -> None:
        """Set this when there is room again."""
        self._gates.add(gate)

    def unwatch(self, gate: Wakeup) -> None:
        """No longer."""
        self._gates.discard(gate)


class EnqueueStream:
    """Batches in, answers out as their shards commit."""

    def __init__(self, shards: Shards, clock: Clock, pending: PendingBytes) -> None:
        self.wakeup = Wakeup()
        self.owed = 0
        self._shards = shards
        self._clock = clock
        self._pending = pending
        self._outbox: deque[queue_pb2.EnqueueResponse] = deque()

    def on_message(self, request: queue_pb2.EnqueueRequest) -> None:
        """Hand a batch to its shard, or refuse it."""
        batch_id, size = request.batch_id, request.ByteSize()
        self.owed += 1

        def reply(result: EnqueueResult) -> None:
            self._pending.add(-size)
            self._answer(response_from(batch_id, result))

        try:
            if not batch_id:
                raise invalid("batch_id must not be 0")
            self._shards.check_epoch(request.shard_map_epoch)
            writer = self._shards.get(request.shard_id)
            batch = batch_from(request, self._clock.wall_ns(), reply)
        except EvenflowError as e:
            self._answer(response_from(batch_id, EnqueueResult(refusal=e)))
            return
        self._pending.add(size)
        writer.submit(batch)

    def produce(self) -> queue_pb2.EnqueueResponse | None:
        """The next answer."""
        return self._outbox.popleft() if self._outbox else None

    def is_owing(self) -> bool:
        """Whether answers are outstanding."""
        return self.owed > 0

    def _answer(self, response: queue_pb2.EnqueueResponse) -> None:
        self.owed -= 1
        self._outbox.append(response)
        self.wakeup.set()


class SettleStream:
    """Settlements in, one answer a batch once all of its shards committed."""

    def __init__(self, shards: Shards, clock: Clock, pending: PendingBytes) -> None:
        self.wakeup = Wakeup()
        self.owed = 0
        self._shards = shards
        self._clock = clock
        self._pending = pending
        self._outbox: deque[queue_pb2.SettleResponse] = deque()

    def on_message(self, request: queue_pb2.SettleRequest) -> None:
        """Split a batch by shard and hand the parts over."""
        self.owed += 1
        response = queue_pb2.SettleResponse(batch_id=request.batch_id)
        refusals: list[tuple[int, EvenflowError]] = []
        try:
            if not request.batch_id:
                raise invalid("batch_id must not be 0")
            if not 1 <= len(request.settlements) <= MAX_BATCH_SETTLEMENTS:
                raise invalid(f"a batch has 1 to {MAX_BATCH_SETTLEMENTS} settlements")
            self._shards.check_epoch(request.shard_map_epoch)
        except EvenflowError as e:
            response.refusal.CopyFrom(e.to_detail())
            self._answer(response)
            return
        by_shard: dict[int, list[Settle]] = {}
        for index, settlement in enumerate(request.settlements):
            try:
                by_shard.setdefault(settlement.receipt.shard_id, []).append(settle_from(index, settlement))
            except EvenflowError as e:
                refusals.append((index, e))
        waiting = len(by_shard)
        size = request.ByteSize()
        self._pending.add(size)

        def finish() -> None:
            self._pending.add(-size)
            for index, error in sorted(refusals, key=lambda item: item[0]):
                response.refusals.add(index=index, error=error.to_detail())
            self._answer(response)

        def part_done(settles: list[Settle], result: SettleResult) -> None:
            nonlocal waiting
            if result.refusal is not None:
                refusals.extend((settle.position, result.refusal) for settle in settles)
            refusals.extend(result.refusals)
            waiting -= 1
            if waiting == 0:
                finish()

        arrived_ns = self._clock.wall_ns()
        for shard_id, settles in by_shard.items():
            try:
                writer = self._shards.get_for_settles(shard_id)
            except EvenflowError as e:
                part_done(settles, SettleResult(refusal=e))
                continue
            writer.submit(SettleBatch(settles, size, arrived_ns, lambda r, part=settles: part_done(part, r)))  # type: ignore[misc]
        if not by_shard:
            finish()

    def produce(self) -> queue_pb2.SettleResponse | None:
        """The next answer."""
        return self._outbox.popleft() if self._outbox else None

    def is_owing(self) -> bool:
        """Whether answers are outstanding."""
        return self.owed > 0

    def _answer(self, response: queue_pb2.SettleResponse) -> None:
        self.owed -= 1
        self._outbox.append(response)
        self.wakeup.set()


class LeaseStream:
    """Credits and limits in, leases out."""

    def __init__(self, shards: Shards) -> None:
        self.wakeup = Wakeup()
        self._shards = shards
        self._session: PollerSession | None = None
        self._outbox: deque[LeaseBatch] = deque()
        self._deliver = self._take

    def on_message(self, request: queue_pb2.LeaseRequest) -> None:
        """Take what the poller says. EvenflowError ends the stream."""
        kind = request.WhichOneof("kind")
        if kind == "hello":
            self._hello(request.hello)
            return
        if self._session is None:
            raise invalid("the first message of a lease stream is hello")
        if kind == "credit":
            credit = request.credit
            if not 1 <= credit.events <= MAX_CREDIT_MESSAGE_EVENTS or not 1 <= credit.bytes <= MAX_CREDIT_MESSAGE_BYTES:
                raise invalid(
                    f"a credit has 1 to {MAX_CREDIT_MESSAGE_EVENTS} events and 1 to {MAX_CREDIT_MESSAGE_BYTES} bytes"
                )
            hungry = self._session.add_credit(credit.events, credit.bytes)
            self._shards.wake(hungry, Wake())
        elif kind == "limits":
            if len(request.limits.limits) > MAX_LIMITS:
                raise invalid(f"at most {MAX_LIMITS} limits a message")
            keys = []
            for limit in request.limits.limits:
                key = (limit.tenant_id, limit.function_name)
                self._session.set_limit(key, limit.max_leases if limit.HasField("max_leases") else None)
                keys.append(key)
            self._shards.wake_all(Wake(tuple(keys)))

    def produce(self) -> OutgoingLeases | None:
        """The next leases: those of several shards in one message, within its bounds."""
        outbox = self._outbox
        if not outbox:
            return None
        batch = outbox.popleft()
        parts, size = batch.parts, batch.size_bytes
        if outbox and len(parts) < WORTH_MERGING:
            parts = list(parts)
            while outbox and len(parts) + len(outbox[0].parts) <= MAX_RESPONSE_LEASES:
                size += outbox[0].size_bytes
                if size > MAX_RESPONSE_BYTES:
                    break
                parts += outbox.popleft().parts
        return OutgoingLeases(b"".join(parts), len(parts))

    def close(self) -> None:
        """The stream ended: leases that never left go back at once, the others run on."""
        session = self._session
        if session is None:
            return
        self._shards.sessions.detach(session, self._deliver)
        receipts: dict[int, list[tuple[int, int]]] = {}
        for batch in self._outbox:
            receipts.setdefault(batch.shard_id, []).extend(batch.receipts)
        self._outbox.clear()
        if receipts:
            self._shards.free_undelivered(session, receipts)

    def _hello(self, hello: queue_pb2.LeaseHello) -> None:
        if self._session is not None:
            raise invalid("hello is said once")
        if not 0 < len(hello.poller_id) <= 64 or not 0 < len(hello.incarnation) <= 64:
            raise invalid("poller_id and incarnation have 1 to 64 characters")
        self._shards.check_epoch(hello.shard_map_epoch)
        self._session, replaced = self._shards.sessions.attach(hello.poller_id, hello.incarnation, self._deliver)
        if replaced is not None:
            # The poller was started anew: whatever its last incarnation held is nobody's.
            self._shards.free(replaced)
        self._shards.wake_all(Wake(None))

    def _take(self, batch: LeaseBatch) -> None:
        self._outbox.append(batch)
        self.wakeup.set()
