"""The lease book: who has which event, until when, in the order of the ends."""

from typing import Any

from services.queue.domain import Entry
from services.queue.leases import Leases
from services.queue.states import State
from services.shared.clock import FakeClock

TIMEOUT_MS = 1_000


def entry(sequence: int) -> Entry:
    """An available event."""
    made = Entry(0, bytes(16), "t", "f", "", b"", 0, 0, "", "", b"")
    made.sequence, made.state = sequence, State.AVAILABLE
    lane: Any = type("Lane", (), {"leased": 0})()
    made.lane = lane
    return made


def test_leases_that_were_taken_out_and_put_back_keep_their_ends() -> None:
    """A settlement that was rolled back changes nothing: the oldest lease runs out first, and alone."""
    clock = FakeClock()
    leases = Leases(clock, visibility_timeout_ms=TIMEOUT_MS, boot_number=1)
    session: Any = object()
    first, second, third = (entry(sequence) for sequence in (1, 2, 3))
    for one in (first, second, third):
        leases.grant(one, session)
        clock.advance(100)
    for one in (first, second):
        del leases[one.sequence]
    leases.restore([second, first])
    assert list(leases) == [1, 2, 3]
    clock.advance(TIMEOUT_MS - 250)
    assert leases.run_out() == [first]
