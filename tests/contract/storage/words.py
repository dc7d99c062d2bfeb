"""One store, with short ways to say what the suite wants of it."""

from typing import Any

from evenflow.common.v1.event_pb2 import Event
from evenflow.queue.v1 import queue_pb2
from evenflow.queue.v1.queue_pb2 import Lease, Settlement

from tests.contract.messages import SHARD, event_of, reasons
from tests.kit.shard_store import ShardStore


class Words:
    """A store, and short ways to say what the suite wants of it."""

    def __init__(self, store: ShardStore) -> None:
        self.store = store
        self._numbers = 0

    def event(self, function: str = "f", **more: Any) -> Event:
        """A fresh event."""
        self._numbers += 1
        return event_of(self.store.clock.wall_ms(), self._numbers, function, **more)

    def send(self, *events: Event) -> queue_pb2.EnqueueResponse:
        """One batch."""
        return self.store.enqueue(queue_pb2.EnqueueRequest(batch_id=7, shard_id=SHARD, events=events))

    def accept(self, *events: Event) -> None:
        """One batch, all of it new."""
        answer = self.send(*events)
        assert not answer.HasField("refusal") and not answer.event_refusals and not answer.duplicate_indexes

    def lease(self, count: int = 1, poller: str = "poller-0", **more: Any) -> list[Lease]:
        """Join again and take so many."""
        self.store.join(poller, "a")
        return self.store.lease(poller, count, **more)

    def one(self, event: Event | None = None) -> Lease:
        """Store an event, if one is given, and lease the only one there is."""
        if event is not None:
            self.accept(event)
        (lease,) = self.lease(10)
        return lease

    def settle(self, *settlements: Settlement) -> list[tuple[int, str]]:
        """One batch; what of it was refused."""
        answer = self.store.settle(queue_pb2.SettleRequest(batch_id=8, settlements=settlements))
        assert answer.batch_id == 8 and not answer.HasField("refusal")
        return reasons(answer.refusals)

    def done(self, *settlements: Settlement) -> None:
        """One batch, none refused."""
        assert self.settle(*settlements) == []

    def status(self, event: Event) -> queue_pb2.EventStatus:
        """Of an event that is known."""
        found = self.store.status(event.tenant_id, event.request_id)
        assert found is not None
        return found

    def state(self, event: Event) -> str:
        """Its state's name; GONE: not known."""
        found = self.store.status(event.tenant_id, event.request_id)
        return queue_pb2.EventState.Name(found.state).removeprefix("EVENT_STATE_") if found is not None else "GONE"

    def wait(self, milliseconds: int) -> None:
        """Time passes, and does what it does."""
        self.store.clock.advance(milliseconds)
        self.store.tick()
