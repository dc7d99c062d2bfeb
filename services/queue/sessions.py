"""Pollers as the shards see them: credits and limits, shared by the node's shard threads and its loop.

Every method is safe from any thread. Whom to wake is returned, never done here: shards are woken by the loop or by the
shard that calls.
"""

import threading
from collections.abc import Callable
from itertools import islice

from services.queue.lease_wire import LeaseBatch

FunctionKey = tuple[str, str]
MAX_CREDIT_EVENTS = 100_000
MAX_CREDIT_BYTES = 1 << 30
# A shard that is served takes at least so many if it has them: a few leases for every shard at every credit would cost
# each of them a turn of its thread and a message.
MIN_TAKE_EVENTS = 32


class PollerSession:
    """One incarnation of one poller; outlives its streams, as its leases do."""

    def __init__(self, poller_id: str, incarnation: str) -> None:
        self.poller_id = poller_id
        self.incarnation = incarnation
        self.is_closed = False
        # Called on the loop with each batch of leases.
        self.deliver: Callable[[LeaseBatch], None] | None = None
        self._lock = threading.Lock()
        self._events = 0
        self._bytes = 0
        # Shards that want more than they got, the longest waiting first.
        self._hungry: dict[int, None] = {}
        # Shards that were woken for credit and have not come for it yet.
        self._called: set[int] = set()
        self._limits: dict[FunctionKey, int] = {}
        self._held: dict[FunctionKey, int] = {}
        self._blocked: dict[FunctionKey, set[int]] = {}

    def add_credit(self, events: int, payload_bytes: int) -> set[int]:
        """More room at the poller; returns the shards to wake for it."""
        with self._lock:
            self._events = min(self._events + events, MAX_CREDIT_EVENTS)
            self._bytes = min(self._bytes + payload_bytes, MAX_CREDIT_BYTES)
            return self._next_hungry()

    def pass_on(self, shard_id: int) -> set[int]:
        """This shard has no use for credit now: shards to wake for what is left."""
        if not self._called and not self._hungry:
            return set()
        with self._lock:
            self._called.discard(shard_id)
            return self._next_hungry()

    def leave(self, shard_id: int) -> set[int]:
        """This shard takes no credit any more; returns the shards to wake for what it may have been woken for."""
        with self._lock:
            self._hungry.pop(shard_id, None)
            self._called.discard(shard_id)
            return self._next_hungry()

    def clear_limits(self) -> None:
        """A stream begins: the poller tells all its limits anew, before its first credit."""
        with self._lock:
            self._limits.clear()

    def clear_credit(self) -> None:
        """The stream ended: what the poller granted on it is void."""
        with self._lock:
            self._events = self._bytes = 0

    def take_credit(self, shard_id: int, wanted: int) -> tuple[int, int]:
        """Reserve room for up to `wanted` leases: (events, bytes). While others wait too, only a fair part of it."""
        with self._lock:
            self._hungry.pop(shard_id, None)
            self._called.discard(shard_id)
            if self._bytes <= 0 or self._events <= 0:
                self._hungry[shard_id] = None
                return 0, 0
            sharers = len(self._hungry) + len(self._called) + 1
            granted = min(wanted, self._events, max(MIN_TAKE_EVENTS, self._events // sharers))
            payload_bytes = max(1, self._bytes * granted // self._events)
            self._events -= granted
            self._bytes -= payload_bytes
            if granted < wanted:
                self._hungry[shard_id] = None
            return granted, payload_bytes

    def return_credit(self, shard_id: int, events: int, payload_bytes: int) -> set[int]:
        """Give back what was reserved and not used (bytes may be negative: overdrawn); returns shards to wake."""
        with self._lock:
            self._events += events
            self._bytes += payload_bytes
            if events > 0 and payload_bytes > 0:
                # It could have had more and has nothing for this poller: to wake it for that would never end.
                self._hungry.pop(shard_id, None)
            elif events > 0:
                # The bytes ended before the events did: there may be more once there is room.
                self._hungry[shard_id] = None
            return self._next_hungry()

    def _next_hungry(self) -> set[int]:
        """As many of the hungry as the credit can serve, the longest waiting first; the lock is held."""
        if not self._hungry or self._events <= 0 or self._bytes <= 0:
            return set()
        served = list(islice(self._hungry, -(-self._events // MIN_TAKE_EVENTS)))
        for shard_id in served:
            del self._hungry[shard_id]
        self._called.update(served)
        return set(served)

    def set_limit(self, key: FunctionKey, max_leases: int | None) -> None:
        """Bound the leases of one function; None lifts it."""
        with self._lock:
            if max_leases is None:
                self._limits.pop(key, None)
            else:
                self._limits[key] = max_leases

    def acquire(self, key: FunctionKey, wanted: int, shard_id: int) -> int:
        """Count up to `wanted` leases of the function as held; fewer at its limit, and then the shard is remembered."""
        with self._lock:
            limit = self._limits.get(key)
            held = self._held.get(key, 0)
            granted = wanted if limit is None else max(0, min(wanted, limit - held))
            if granted < wanted:
                self._blocked.setdefault(key, set()).add(shard_id)
            if granted:
                self._held[key] = held + granted
            return granted

    def force_acquire(self, key: FunctionKey) -> None:
        """Count one lease past any limit: an event past its age."""
        with self._lock:
            self._held[key] = self._held.get(key, 0) + 1

    def release(self, key: FunctionKey, count: int) -> set[int]:
        """So many leases of the function ended; returns shards that were blocked by its limit."""
        with self._lock:
            left = self._held.get(key, 0) - count
            if left > 0:
                self._held[key] = left
            else:
                self._held.pop(key, None)
            return self._blocked.pop(key, set()) if self._blocked else set()

    def held(self, key: FunctionKey) -> int:
        """Leases of the function that this poller holds now."""
        with self._lock:
            return self._held.get(key, 0)


class Sessions:
    """All pollers of a node. `active` is replaced whole, so that shards read it without a lock."""

    def __init__(self) -> None:
        self.active: tuple[PollerSession, ...] = ()
        self._by_poller: dict[str, PollerSession] = {}

    def attach(
        self, poller_id: str, incarnation: str, deliver: Callable[[LeaseBatch], None]
    ) -> tuple[PollerSession, PollerSession | None]:
        """The session of a poller whose stream begins, and the one of an earlier incarnation that it replaces."""
        replaced = None
        session = self._by_poller.get(poller_id)
        if session is None or session.incarnation != incarnation:
            replaced = session
            session = self._by_poller[poller_id] = PollerSession(poller_id, incarnation)
        if replaced is not None:
            replaced.is_closed = True
            replaced.deliver = None
        session.clear_credit()
        session.clear_limits()
        session.deliver = deliver
        self._publish()
        return session, replaced

    def detach(self, session: PollerSession, deliver: Callable[[LeaseBatch], None]) -> bool:
        """The stream that delivers by this ended; False when another one has taken over."""
        if session.deliver is not deliver:
            return False
        session.deliver = None
        session.clear_credit()
        self._publish()
        return True

    def _publish(self) -> None:
        self.active = tuple(s for s in self._by_poller.values() if s.deliver is not None)
