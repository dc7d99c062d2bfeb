"""What every shard store must be able to do, in the messages of the queue's contract: no threads, sockets or files."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from evenflow.queue.v1 import queue_pb2

from services.shared.clock import FakeClock


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a store is told when it is made; the names are those of services/queue/settings.py."""

    visibility_timeout_ms: int = 10_000
    max_deliveries: int = 20
    shard_max_events: int = 1_000_000
    tenant_max_events: int = 1_000_000
    outcome_keep_seconds: int = 86_400
    outcome_max_rows: int = 1_000_000
    dead_letter_keep_seconds: int = 1_209_600


class Numbers(NamedTuple):
    """How much of what is in the shard now."""

    depth: int
    leased: int
    delayed: int
    dead_letters: int
    handovers: int


class ShardStore(Protocol):
    """One shard, driven by hand. What it answered is durable: `crash` may come after any call.

    Time is the clock's; it is looked at in every call, and in `tick`. Refusals are those of queue.proto.
    """

    clock: FakeClock

    def enqueue(self, request: queue_pb2.EnqueueRequest) -> queue_pb2.EnqueueResponse:
        """Store a batch: ids that are there already are accepted again and stored once."""
        ...

    def join(self, poller_id: str, incarnation: str) -> None:
        """A poller's stream begins without credit and limits; another incarnation's leases are free, each counted."""
        ...

    def limit(self, poller_id: str, limits: Iterable[queue_pb2.FunctionLimit]) -> None:
        """Replace these bounds of a poller that has joined."""
        ...

    def lease(self, poller_id: str, events: int, payload_bytes: int = 1 << 26) -> list[queue_pb2.Lease]:
        """At most so many leases for a poller that has joined; the last one may overdraw the bytes."""
        ...

    def settle(self, request: queue_pb2.SettleRequest) -> queue_pb2.SettleResponse:
        """End or extend leases; a stale receipt is refused alone."""
        ...

    def give_back(self, leases: Iterable[queue_pb2.Lease]) -> None:
        """These leases never left the node: no counter grows."""
        ...

    def tick(self) -> None:
        """Do what time brings, until there is nothing more at once."""
        ...

    def status(self, tenant_id: str, request_id: bytes) -> queue_pb2.EventStatus | None:
        """What is known of an event; None: unknown, of another tenant, or no longer kept."""
        ...

    def list_events(self, tenant_id: str, function_name: str, limit: int) -> list[queue_pb2.EventStatus]:
        """The newest events of a tenant or a function, newest first."""
        ...

    def dead_letters(
        self, which: queue_pb2.DeadLetterFilter, page_size: int, page_token: str = ""
    ) -> queue_pb2.ListDeadLettersResponse:
        """A page of dead letters, oldest first, without payloads."""
        ...

    def dead_letter(self, tenant_id: str, request_id: bytes) -> queue_pb2.DeadLetterEntry | None:
        """One dead letter with its payload."""
        ...

    def redrive(self, which: queue_pb2.DeadLetterFilter, max_events: int) -> int:
        """Give the oldest ones a fresh life; how many."""
        ...

    def purge(self, which: queue_pb2.DeadLetterFilter, max_events: int) -> int:
        """Delete the oldest ones; how many."""
        ...

    def numbers(self) -> Numbers:
        """How much of what is in the shard now."""
        ...

    def crash(self) -> None:
        """Lose everything that is not durable, and open again."""
        ...

    def reopen(self) -> None:
        """A clean end, and open again."""
        ...

    def close(self) -> None:
        """The end of the test."""
        ...
