"""A shard that moves away: it gives nothing, takes what must come to it, and lets its leases end."""

from pathlib import Path

import pytest

from services.queue.domain import FreeLeases
from services.queue.sessions import PollerSession
from tests.unit.queue.kit import Bench, ack, extend


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A fresh shard."""
    return Bench(tmp_path, visibility_timeout_ms=1_000)


def test_it_takes_events_and_settles_but_gives_no_lease(bench: Bench) -> None:
    """Doors are told to choose others; what must come here is accepted all the same."""
    bench.enqueue(bench.event(), bench.event())
    first = bench.lease(1)[0]
    assert bench.shard.leave() == 1
    assert bench.enqueue(bench.event()).refusal is None
    assert not bench.lease()
    assert not bench.shard.stats().takes_events and bench.shard.stats().is_leaving
    assert not bench.settle(ack(first)).refusals
    assert bench.shard.leave() == 0
    bench.shard.stay()
    assert bench.shard.stats().takes_events
    assert len(bench.lease(2)) == 2


def test_leases_that_are_not_renewed_any_more_have_their_end(bench: Bench) -> None:
    """An extension changes nothing; the event is available again with a delivery more, wherever it is then."""
    bench.enqueue(bench.event())
    (lease,) = bench.lease()
    bench.shard.leave()
    bench.clock.advance(800)
    assert not bench.settle(extend(lease)).refusals
    bench.clock.advance(800)
    bench.drain()
    assert bench.shard.leave() == 1
    bench.shard.leases.renews = False
    assert not bench.settle(extend(lease)).refusals
    bench.clock.advance(1_100)
    bench.drain()
    assert bench.shard.leave() == 0
    assert bench.settle(ack(lease)).refusals


def test_credit_that_it_was_called_for_goes_to_other_shards() -> None:
    """A shard that left is not waited for."""
    session = PollerSession("poller-0", "i")
    assert session.take_credit(1, 10) == (0, 0) and session.take_credit(2, 10) == (0, 0)
    # One message is worth one call: shard 1 waited longest.
    assert session.add_credit(10, 1_000) == {1}
    assert session.leave(1) == {2}
    assert session.leave(2) == set()


def test_leaving_is_not_stopping(bench: Bench) -> None:
    """Leases that never left the node go back at once."""
    bench.enqueue(bench.event())
    (lease,) = bench.lease()
    bench.shard.leave()
    session = next(iter(bench.shard.leases.values())).session
    bench.drain(FreeLeases(session, [(lease.receipt.sequence, lease.receipt.fence)]))
    assert bench.shard.leave() == 0
