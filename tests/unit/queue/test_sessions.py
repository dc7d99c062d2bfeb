"""How a poller's credit is shared among shards: in worthwhile parts, the longest waiting first, nobody forgotten."""

from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.queue.domain import Wake
from services.queue.sessions import MIN_TAKE_EVENTS, PollerSession, Sessions
from tests.unit.queue.kit import Bench

MIB = 1 << 20
SHARDS = 8


def hungry_session() -> PollerSession:
    """All shards asked in order and got nothing."""
    session = PollerSession("poller-0", "one")
    for shard_id in range(SHARDS):
        assert session.take_credit(shard_id, 1_000) == (0, 0)
    return session


def test_a_small_credit_wakes_as_many_as_it_can_serve_well() -> None:
    """Two parts for two shards, and the others wait on."""
    session = hungry_session()
    assert session.add_credit(2 * MIN_TAKE_EVENTS, MIB) == {0, 1}
    assert session.take_credit(0, 1_000)[0] == MIN_TAKE_EVENTS
    assert session.take_credit(1, 1_000)[0] == MIN_TAKE_EVENTS
    assert session.take_credit(2, 1_000) == (0, 0)


def test_who_was_served_stands_behind_who_was_not() -> None:
    """Over four rounds of credit for two, all eight had their turn."""
    session = hungry_session()
    served: list[int] = []
    for _ in range(SHARDS // 2):
        for shard_id in sorted(session.add_credit(2 * MIN_TAKE_EVENTS, MIB)):
            assert session.take_credit(shard_id, 1_000)[0] == MIN_TAKE_EVENTS
            served.append(shard_id)
    assert sorted(served) == list(range(SHARDS))


def test_a_large_credit_is_shared_evenly() -> None:
    """Whoever comes first leaves enough for those that were woken with it; who wants more stands in line again."""
    session = hungry_session()
    assert session.add_credit(1_600, 16 * MIB) == set(range(SHARDS))
    parts = [session.take_credit(shard_id, 10_000) for shard_id in range(SHARDS)]
    assert all(2 * MIN_TAKE_EVENTS <= events <= 200 for events, _ in parts)
    assert all(MIB // 2 <= payload_bytes <= 2 * MIB for _, payload_bytes in parts)


def test_credit_that_the_woken_cannot_use_goes_on_to_the_next() -> None:
    """A shard may have lost its events by the time it is woken."""
    session = hungry_session()
    assert session.add_credit(MIN_TAKE_EVENTS, MIB) == {0}
    assert session.pass_on(0) == {1}
    events, payload_bytes = session.take_credit(1, 10)
    assert events == 10
    assert session.return_credit(1, 4, payload_bytes) == {2}


def test_no_credit_wakes_nobody() -> None:
    """Neither without events, nor without bytes."""
    session = hungry_session()
    assert session.pass_on(0) == set()
    session.add_credit(1, 1)
    assert session.take_credit(0, 1) == (1, 1)
    assert session.return_credit(0, 0, -100) == set()
    assert session.add_credit(5, 50) == set()
    assert session.add_credit(0, 51) != set()


@given(st.lists(st.tuples(st.integers(0, SHARDS - 1), st.integers(0, 200), st.integers(1, 300)), max_size=60))
def test_no_more_is_taken_than_was_granted_and_credit_never_sleeps(steps: list[tuple[int, int, int]]) -> None:
    """Whatever the order: the sum holds, and while credit is left whoever wants it has been woken."""
    session = PollerSession("poller-0", "one")
    granted = taken = 0
    wants: set[int] = set()
    woken: set[int] = set()
    for shard_id, credit, wanted in steps:
        granted += credit
        woken |= session.add_credit(credit, MIB)
        woken.discard(shard_id)
        wants.discard(shard_id)
        events, _ = session.take_credit(shard_id, wanted)
        taken += events
        if events < wanted:
            wants.add(shard_id)
        woken |= session.pass_on(shard_id)
        assert taken <= granted
        if granted > taken:
            assert woken & wants or not wants


def test_a_shard_with_nothing_for_this_poller_is_not_woken_for_its_own_credit() -> None:
    """Its events are of a function that is paused here: it would turn for ever."""
    session = PollerSession("poller-0", "one")
    session.add_credit(10, MIB)
    events, payload_bytes = session.take_credit(3, 1_000)
    assert events == 10
    assert session.return_credit(3, events, payload_bytes) == set()
    assert session.pass_on(3) == set()


def test_limits_end_with_their_stream() -> None:
    """A limit that was lifted while the stream was down is told by not being told."""
    sessions = Sessions()
    session, _ = sessions.attach("poller-0", "one", print)
    session.set_limit(("t", "f"), 0)
    assert session.acquire(("t", "f"), 1, 0) == 0
    session, _ = sessions.attach("poller-0", "one", print)
    assert session.acquire(("t", "f"), 1, 0) == 1


def test_credit_of_a_drain_that_fails_goes_back(tmp_path: Path) -> None:
    """The poller has the same room for the shard that is opened anew."""
    bench = Bench(tmp_path, window_events=1)
    bench.enqueue(*(bench.event() for _ in range(3)))
    session = bench.poller()
    session.add_credit(10, 1_000)

    def fail(*_: object) -> bool:
        raise apsw.IOError("the disk is gone")

    bench.shard.lanes.refill = fail  # type: ignore[assignment, method-assign]
    with pytest.raises(apsw.IOError):
        bench.drain(Wake(None))
    assert session.take_credit(1, 10) == (10, 1_000)


def test_who_ran_out_of_bytes_is_woken_for_more() -> None:
    """Its events may be there still: a credit of bytes must not wait for the next look around."""
    session = PollerSession("poller-0", "one")
    session.add_credit(10, 1)
    events, payload_bytes = session.take_credit(3, 2)
    assert (events, payload_bytes) == (2, 1)
    # One lease of 1,000 bytes overdrew it.
    assert session.return_credit(3, 1, payload_bytes - 1_000) == set()
    assert session.add_credit(1, MIB) == {3}
