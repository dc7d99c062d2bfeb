"""The leases that run now: who has which event under which fence, and until when."""

from collections.abc import Iterable

from services.queue.domain import Entry
from services.queue.sessions import PollerSession
from services.queue.transitions import ImpossibleTransition, Input, by_state
from services.shared.clock import Clock

# Leases that ran out are looked for at most so often.
LEASE_TICK_MS = 20
NEVER_MS = float("inf")
_LEASE = by_state(Input.LEASE)


class Leases(dict[int, Entry]):
    """Leased entries by sequence. Every lease runs for the same time, so insertion order is the order of deadlines."""

    def __init__(self, clock: Clock, *, visibility_timeout_ms: int, boot_number: int) -> None:
        """`boot_number`: 32 random bits of the node's start, the upper half of every fence: no two leases share one."""
        super().__init__()
        self._clock = clock
        self._timeout_ms = visibility_timeout_ms
        self._fence = boot_number << 32
        self._next_check_ms = 0.0
        # False while the shard is about to close: leases end by a settlement or run out.
        self.renews = True

    def grant(self, entry: Entry, session: PollerSession) -> None:
        """Give an entry to a poller, under a fence that was never used. ImpossibleTransition: it is leased already."""
        row = _LEASE[entry.state]
        if row is None:
            raise ImpossibleTransition(entry.state, Input.LEASE)
        entry.state = row.after
        self._fence += 1
        entry.fence = self._fence
        entry.session = session
        entry.lane.leased += 1
        self.keep(entry)

    def keep(self, entry: Entry) -> None:
        """The lease runs for a whole visibility timeout from now; it is not in the book."""
        entry.deadline_ms = self._clock.monotonic_ms() + self._timeout_ms
        self[entry.sequence] = entry

    def renew(self, entry: Entry) -> None:
        """The same for a lease that is running."""
        if not self.renews:
            return
        del self[entry.sequence]
        self.keep(entry)

    def restore(self, entries: Iterable[Entry]) -> None:
        """These were taken out for a settlement that was rolled back: they go on under their old deadlines."""
        kept = sorted((*self.values(), *entries), key=lambda entry: entry.deadline_ms)
        self.clear()
        self.update((entry.sequence, entry) for entry in kept)

    def of_session(self, session: PollerSession) -> list[Entry]:
        """What this poller has, the oldest lease first."""
        return [entry for entry in self.values() if entry.session is session]

    def current(self, receipts: list[tuple[int, int]]) -> list[Entry]:
        """The entries of these (sequence, fence) that are the current ones, in that order."""
        found = ((self.get(sequence), fence) for sequence, fence in receipts)
        return [entry for entry, fence in found if entry is not None and entry.fence == fence]

    def run_out(self) -> list[Entry]:
        """Leases whose time is over, the oldest first; looked for once a LEASE_TICK_MS."""
        monotonic_ms = self._clock.monotonic_ms()
        over: list[Entry] = []
        if self and monotonic_ms >= self._next_check_ms:
            for entry in self.values():
                if entry.deadline_ms > monotonic_ms:
                    break
                over.append(entry)
            self._next_check_ms = monotonic_ms + LEASE_TICK_MS
        return over

    def next_check_ms(self) -> float:
        """Monotonic time of the next lease that could run out."""
        if not self:
            return NEVER_MS
        return max(next(iter(self.values())).deadline_ms, self._next_check_ms)
