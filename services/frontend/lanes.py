"""The way of events into one shard: batches that are being filled, sent, or of unknown outcome."""

from collections import deque

from evenflow.common.v1 import errors_pb2, event_pb2
from evenflow.queue.v1 import queue_pb2

from services.frontend.tickets import Ticket

MAX_BATCH_EVENTS = 1_000
MAX_BATCH_BYTES = 3_670_016
# Serialized size of an event beyond its payload and tracestate, at most.
EVENT_OVERHEAD_BYTES = 512
# One commits while the next one travels; what arrives meanwhile makes the third one larger.
MAX_UNANSWERED_BATCHES = 2


class Batch:
    """One EnqueueRequest and, in the same order, who waits for each of its events."""

    __slots__ = ("indexes", "opened_ms", "request", "sent_ms", "size_bytes", "tickets", "was_cut")

    def __init__(self, batch_id: int, shard_id: int, now_ms: float) -> None:
        self.request = queue_pb2.EnqueueRequest(batch_id=batch_id, shard_id=shard_id)
        self.tickets: list[Ticket] = []
        self.indexes: list[int] = []
        self.size_bytes = 0
        self.opened_ms = now_ms
        # When it was sent first; 0: never.
        self.sent_ms = 0.0
        # The stream broke after a send: it may or may not be stored, only its own shard can tell.
        self.was_cut = False

    def __len__(self) -> int:
        return len(self.tickets)


class Lane:
    """Batches of one shard. Its owner's link takes from it, whichever node that is at the time."""

    def __init__(self, shard_id: int) -> None:
        self.shard_id = shard_id
        self.owner = ""
        self.state = queue_pb2.SHARD_STATE_SERVING
        # The last whole-batch refusal, in force until then.
        self.refusal: errors_pb2.ErrorDetail | None = None
        self.refused_until_ms = 0.0
        # A map epoch that the shard's node called stale: nothing goes out before a newer one is known, or this time.
        self.stale_epoch = 0
        self.retry_at_ms = 0.0
        self.is_in_line = False
        self.again: deque[Batch] = deque()
        self.sealed: deque[Batch] = deque()
        self.open: Batch | None = None
        self.sent: dict[int, Batch] = {}

    def has_more(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self.again or self.sealed or self.open)

    @property
    def next_events(self) -> int:
        """Events of the batch that would be sent next."""
        for batches in (self.again, self.sealed):
            if batches:
                return len(batches[0])
        return len(self.open) if self.open is not None else 0

    def may_send(self, epoch: int, now_ms: float) -> bool:
        """Whether the next batch may go out now."""
        if len(self.sent) >= MAX_UNANSWERED_BATCHES or not self.has_more():
            return False
        return now_ms >= self.retry_at_ms or epoch > self.stale_epoch > 0

    def take(self) -> Batch:
        """The next batch to send: those of unknown outcome first."""
        if self.again:
            return self.again.popleft()
        if self.sealed:
            return self.sealed.popleft()
        batch, self.open = self.open, None
        assert batch is not None
        return batch

    def room(self, payload_bytes: int, batch_id: int, now_ms: float) -> Batch:
        """The batch that the next event goes into; a full one is sealed first."""
        batch = self.open
        size = payload_bytes + EVENT_OVERHEAD_BYTES
        if batch is not None and (len(batch.tickets) >= MAX_BATCH_EVENTS or batch.size_bytes + size > MAX_BATCH_BYTES):
            self.sealed.append(batch)
            batch = None
        if batch is None:
            batch = self.open = Batch(batch_id, self.shard_id, now_ms)
        batch.size_bytes += size
        return batch

    def cut(self) -> None:
        """The stream broke: what was sent is of unknown outcome and goes again, in its order."""
        for batch in reversed(self.sent.values()):
            batch.was_cut = True
            self.again.appendleft(batch)
        self.sent.clear()

    def take_unsent(self) -> list[Batch]:
        """Every batch that never left, taken out."""
        unsent = [*(b for b in self.again if not b.was_cut), *self.sealed]
        self.again = deque(b for b in self.again if b.was_cut)
        self.sealed.clear()
        if self.open is not None:
            unsent.append(self.open)
            self.open = None
        return unsent

    def take_overdue(self, now_ms: float, hold_ms: float, resend_ms: float) -> list[tuple[Batch, bool]]:
        """Every batch whose time is over, taken out, and whether its outcome is unknown.

        Over: never sent for hold_ms, or sent resend_ms ago without an answer.
        """

        def is_unknown(batch: Batch) -> bool:
            return batch.was_cut or batch.request.batch_id in self.sent

        def is_overdue(batch: Batch) -> bool:
            if is_unknown(batch):
                return now_ms - batch.sent_ms > resend_ms
            return now_ms - batch.opened_ms > hold_ms

        overdue = [b for b in (*self.sent.values(), *self.again, *self.sealed) if is_overdue(b)]
        if self.open is not None and is_overdue(self.open):
            overdue.append(self.open)
            self.open = None
        found = [(batch, is_unknown(batch)) for batch in overdue]
        for batch in overdue:
            self.sent.pop(batch.request.batch_id, None)
        if overdue:
            self.again = deque(b for b in self.again if b not in overdue)
            self.sealed = deque(b for b in self.sealed if b not in overdue)
        return found


def copy_with_id(event: event_pb2.Event, request_id: bytes) -> event_pb2.Event:
    """The same event under another id, for another shard."""
    fresh = event_pb2.Event()
    fresh.CopyFrom(event)
    fresh.request_id = request_id
    return fresh
