"""How many leases a poller asks for: enough that no host idles, and the rest of the backlog stays in the shards."""

from dataclasses import dataclass

# Without any host a few leases still come: events past their age and results for destinations need none.
MIN_WINDOW = 16
# A credit message is worth sending when it is this part of the window, or when the node has nothing left.
GRAIN = 4
MAX_CREDIT_EVENTS = 10_000
MAX_CREDIT_BYTES = 64 << 20


@dataclass(slots=True)
class Account:
    """What one queue node may still deliver (`granted`), and what is held of its leases.

    `active`: held leases that wait for a host or run; the others are being settled or delivered.
    """

    granted: int = 0
    granted_bytes: int = 0
    held: int = 0
    held_bytes: int = 0
    active: int = 0


class Window:
    """The bounds shared by the queue nodes of one poller."""

    def __init__(self, max_leases: int, max_lease_bytes: int, lease_batch: int) -> None:
        self._max_leases = max_leases
        self._max_lease_bytes = max_lease_bytes
        self._lease_batch = lease_batch
        self.nodes = 1
        # Invocations that hosts take or run for this poller.
        self.host_room = 0
        # Leases that found no host yet, of all nodes.
        self.pending = 0
        self.is_closed = False

    @property
    def target(self) -> int:
        """Leases of one node that wait or run, at most."""
        wanted = max(MIN_WINDOW, self.host_room + self._lease_batch)
        return max(1, min(wanted, self._max_leases // max(1, self.nodes)))

    def credit(self, account: Account) -> tuple[int, int]:
        """What to grant this node now: (leases, bytes); (0, 0): nothing.

        A node's grants and leases stay within its part of the bounds. While more waits here than a batch, nothing is
        granted: the backlog is the shards'.
        """
        if self.is_closed or self.pending >= max(self._lease_batch, MIN_WINDOW):
            return 0, 0
        nodes = max(1, self.nodes)
        target = self.target
        room = max(1, self._max_leases // nodes) - account.granted - account.held
        events = min(target - account.granted - account.active, room, MAX_CREDIT_EVENTS)
        byte_bound = self._max_lease_bytes // nodes
        size = min(byte_bound - account.granted_bytes - account.held_bytes, MAX_CREDIT_BYTES)
        if size <= 0:
            if account.granted > 0 or account.held_bytes >= byte_bound:
                return 0, 0
            # The node has bytes and no events for them: of a time when fewer nodes shared the bounds. Nothing would
            # ever use them up.
            size = 1
        if events > 0 and (events >= target // GRAIN or account.granted <= 0):
            return events, size
        is_starved = account.granted > 0 and account.granted_bytes <= 0
        if is_starved and size >= byte_bound // GRAIN and (room > 0 or not account.held):
            # Leases were granted but large events used the bytes up; a message grants at least one.
            return max(1, events), size
        return 0, 0
