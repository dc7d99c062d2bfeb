"""What a shard must do with its events, in plain Python and words: it knows nothing of the shard's table or code.

Every change is noted as (state, input, state after), for a comparison with the table.
"""

from dataclasses import dataclass, field

from evenflow.common.v1.event_pb2 import Event
from evenflow.queue.v1 import queue_pb2

LIVE_ROWS = {
    "AVAILABLE": "events",
    "EXPIRED": "events",
    "LEASED": "events",
    "DELAYED": "delayed",
    "HANDOVER_AVAILABLE": "events",
    "HANDOVER_EXPIRED": "events",
    "HANDOVER": "events",
    "HANDOVER_DELAYED": "delayed",
}
ROWS = {**LIVE_ROWS, "SUCCEEDED": "outcomes", "FAILED": "outcomes", "DEAD": "dead_letters"}
WAITING = ("AVAILABLE", "EXPIRED", "HANDOVER_AVAILABLE", "HANDOVER_EXPIRED")
NEVER_STARTED = (0, 0, 0, 0)


@dataclass
class Known:
    """One event. `sent`: as the frontend sent it; `event`: as it must be handed out."""

    sent: Event
    event: Event
    state: str = "GONE"
    due_ms: int = 0
    over_at_ms: int = 0
    end_number: int = 0
    deliveries: int = 0
    function_errors: int = 0
    throttles: int = 0
    attempts: int = 0
    delivery_failures: int = 0
    is_confirmed: bool = False
    lease: queue_pb2.Lease | None = None
    poller: str = ""
    deadline_ms: float = 0.0

    @property
    def counters(self) -> tuple[int, int, int, int]:
        """As leases and statuses tell them."""
        return self.function_errors, self.throttles, self.deliveries, self.attempts

    @property
    def has_token(self) -> bool:
        """Its id is derived from a token of the sender's."""
        return self.sent.request_id[6] >> 4 == 8

    @property
    def has_handover(self) -> bool:
        """It was run and is not over."""
        return self.state.startswith("HANDOVER")

    @property
    def is_leased(self) -> bool:
        """A poller has it."""
        return self.state in ("LEASED", "HANDOVER")


@dataclass
class Model:
    """All events that a shard was ever sent."""

    max_deliveries: int
    timeout_ms: int
    events: dict[bytes, Known] = field(default_factory=dict)
    stale: list[queue_pb2.Lease] = field(default_factory=list)
    fences: set[int] = field(default_factory=set)
    ends_ms: list[int] = field(default_factory=list)
    noted: set[tuple[str, str, str]] = field(default_factory=set)

    def of(self, *states: str) -> list[Known]:
        """The events in these states, in the order in which they first came."""
        return [known for known in self.events.values() if known.state in states]

    def leased(self) -> list[Known]:
        """The events that pollers have."""
        return self.of("LEASED", "HANDOVER")

    def live(self) -> list[Known]:
        """The events that are stored and not over."""
        return self.of(*LIVE_ROWS)

    def move(self, known: Known, given: str, after: str) -> None:
        """The event goes there; a lease that it had is stale."""
        self.noted.add((known.state, given, after))
        if known.lease is not None and after not in ("LEASED", "HANDOVER"):
            self.stale.append(known.lease)
            known.lease = None
        known.state = after

    def sent(self, event: Event) -> bool:
        """A frontend sent it; whether it is new."""
        known = self.events.setdefault(event.request_id, Known(event, event))
        is_new = known.state == "GONE"
        if is_new:
            self._begin_anew(known, event)
        self.move(known, "ENQUEUE", "AVAILABLE" if is_new else known.state)
        return is_new

    def took(self, lease: queue_pb2.Lease, poller: str, now_ms: int, monotonic_ms: float) -> None:
        """A poller got it; everything that the lease says is checked."""
        known = self.events[lease.event.request_id]
        assert known.state in WAITING, f"leased while {known.state}"
        assert lease.event == known.event
        assert (lease.function_errors, lease.throttles, lease.deliveries, lease.attempts) == known.counters
        assert lease.HasField("handover") == known.has_handover
        assert lease.handover.delivery_failures == known.delivery_failures
        assert bool(lease.handover.confirmed) == known.is_confirmed
        assert lease.expired == (known.event.expires_at_ms <= now_ms)
        assert lease.expired or known.state in ("AVAILABLE", "HANDOVER_AVAILABLE")
        assert lease.receipt.fence not in self.fences, "a fence was used twice"
        self.fences.add(lease.receipt.fence)
        others = [k for k in self.leased() if k.lease is not None]
        assert all(k.lease.receipt.sequence != lease.receipt.sequence for k in others if k.lease is not None)
        self.move(known, "LEASE", "HANDOVER" if known.has_handover else "LEASED")
        known.lease, known.poller, known.deadline_ms = lease, poller, monotonic_ms + self.timeout_ms

    def extended(self, known: Known, monotonic_ms: float) -> None:
        """Its lease runs anew."""
        self.move(known, "EXTEND", known.state)
        known.deadline_ms = monotonic_ms + self.timeout_ms

    def confirmed(self, known: Known, monotonic_ms: float) -> None:
        """Its dead-letter queue has it, which is stored where there is a handover; its lease runs anew."""
        known.is_confirmed = known.is_confirmed or known.has_handover
        self.move(known, "CONFIRM", known.state)
        known.deadline_ms = monotonic_ms + self.timeout_ms

    def handed_over(self, known: Known, monotonic_ms: float) -> None:
        """Its run is over and stored; once only."""
        known.attempts += not known.has_handover
        self.move(known, "HANDOVER", "HANDOVER")
        known.deadline_ms = monotonic_ms + self.timeout_ms

    def acked(self, known: Known, *, success: bool, now_ms: int) -> None:
        """It is over."""
        known.attempts += 1
        known.over_at_ms, known.end_number = now_ms, len(self.ends_ms)
        self.ends_ms.append(now_ms)
        known.delivery_failures, known.is_confirmed = 0, False
        self.move(known, "ACK", "SUCCEEDED" if success else "FAILED")

    def buried(self, known: Known, given: str, now_ms: int) -> None:
        """It is dead."""
        known.attempts += given == "DEAD_LETTER"
        known.over_at_ms = now_ms
        known.delivery_failures, known.is_confirmed = 0, False
        self.move(known, given, "DEAD")

    def released(self, known: Known, cause: str, delay_ms: int, now_ms: int) -> None:
        """It comes back, at once or later, and what was not run no later than its age ends."""
        if cause == "FUNCTION_ERROR":
            known.function_errors, known.throttles = known.function_errors + 1, 0
            known.attempts += 1
        elif cause == "THROTTLE":
            known.throttles += 1
        elif cause == "DELIVERY_FAILED":
            known.delivery_failures += known.has_handover
        ends_ms = now_ms + delay_ms if known.has_handover else known.event.expires_at_ms
        known.due_ms = max(now_ms, min(now_ms + delay_ms, ends_ms))
        self.move(known, "RELEASE", self._named(known, "DELAYED" if delay_ms else "AVAILABLE"))

    def lost(self, known: Known, given: str, now_ms: int) -> None:
        """Its lease ended without a settle."""
        if given in ("LEASE_EXPIRED", "SESSION_GONE"):
            known.deliveries += 1
            if known.deliveries > self.max_deliveries:
                self.buried(known, given, now_ms)
                return
        self.move(known, given, self._named(known, "AVAILABLE"))

    def time_came(self, known: Known) -> None:
        """It waited long enough."""
        self.move(known, "DUE", self._named(known, "AVAILABLE"))

    def grew_old(self, known: Known) -> None:
        """It was set aside, past its age."""
        assert known.state in ("AVAILABLE", "HANDOVER_AVAILABLE")
        self.move(known, "AGE_OVER", self._named(known, "EXPIRED"))

    def redriven(self, known: Known, now_ms: int) -> None:
        """A fresh life with the same id and payload."""
        fresh = Event()
        fresh.CopyFrom(known.event)
        fresh.expires_at_ms = now_ms + max(1, fresh.expires_at_ms - fresh.accepted_at_ms)
        fresh.accepted_at_ms = now_ms
        self._begin_anew(known, fresh)
        self.move(known, "REDRIVE", "AVAILABLE")

    def dropped(self, known: Known, given: str) -> None:
        """Nobody knows it any more."""
        self.move(known, given, "GONE")

    def crashed(self) -> None:
        """What was stored stays, and nothing else."""
        for known in self.events.values():
            if known.state != "GONE":
                stored = self._named(known, "AVAILABLE") if LIVE_ROWS.get(known.state) == "events" else known.state
                self.move(known, "CRASH", stored)

    def _named(self, known: Known, state: str) -> str:
        return f"HANDOVER_{state}" if known.has_handover else state

    def _begin_anew(self, known: Known, event: Event) -> None:
        known.event = event
        known.function_errors, known.throttles, known.deliveries, known.attempts = NEVER_STARTED
        known.delivery_failures, known.is_confirmed = 0, False
