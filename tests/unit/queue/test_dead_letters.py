"""Dead letters as a queue of their own: filters, pages while others work on them, bounds of a turn, age, pace."""

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from evenflow.queue.v1 import queue_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.queue import dead_letters
from services.queue.dead_letters import Filter, Moved
from services.queue.domain import Action, Call, Settle
from services.queue.redriving import Pace, Redriver
from services.shared.clock import FakeClock
from tests.unit.queue.kit import RAN, Bench, bury

Ids = list[bytes]


@pytest.fixture
def bench(run_dir: Path) -> Iterator[Bench]:
    made = Bench(run_dir)
    yield made
    made.shard.database.close()


def bury_as(lease: queue_pb2.Lease, error: str) -> Settle:
    """The event dies of this error."""
    receipt = lease.receipt
    return Settle(
        0, receipt.sequence, receipt.fence, Action.DEAD_LETTER, RAN, condition=2, error_type=error, payload=b"out"
    )


def fill(bench: Bench, count: int = 60, payload_bytes: int = 2) -> dict[bytes, tuple[str, str, str]]:
    """Dead letters of two tenants, three functions and four errors: (tenant, function, error) by id, oldest first."""
    events = [
        bench.event(f"f{n % 3}", f"t{n % 5 == 4:d}", payload=b'"%s"' % (b"x" * (payload_bytes - 2)))
        for n in range(count)
    ]
    for at in range(0, count, 50):
        bench.enqueue(*events[at : at + 50])
    leases = bench.lease(count)
    found: dict[bytes, tuple[str, str, str]] = {}
    bench.settle(*(bury_as(lease, f"E{number % 4}") for number, lease in enumerate(leases)))
    for number, lease in enumerate(leases):
        error = f"E{number % 4}"
        found[lease.event.request_id] = (lease.event.tenant_id, lease.event.function_name, error)
    return found


def pages(bench: Bench, which: Filter, limit: int) -> Iterator[Ids]:
    """Page after page, as a client asks for them."""
    after_id = 0
    while True:
        page, after_id = dead_letters.page(bench.shard, which, after_id, limit)
        yield [one.status.request_id for one in page]
        if not after_id:
            return


def move(bench: Bench, which: Filter, limit: int = 10, after_id: int = 0, *, purge: bool = False) -> Moved:
    """One turn of a redrive or a purge."""
    found: list[Moved] = []
    act = dead_letters.purge if purge else dead_letters.redrive
    call = Call(lambda shard: act(shard, which, limit, after_id), lambda moved, _: found.append(moved), writes=True)
    bench.drain(call)
    return found[0]


@pytest.mark.parametrize("scan_rows", [1, 3, 1_000])
@pytest.mark.parametrize("limit", [1, 4, 200])
def test_every_filter_pages_through_exactly_its_own(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, limit: int, scan_rows: int
) -> None:
    """Oldest first, each once, also where the looking itself is cut short; another tenant's are never among them."""
    monkeypatch.setattr(dead_letters, "SCAN_ROWS", scan_rows)
    known = fill(bench)
    for tenant in ("t0", "t1", "nobody"):
        for function in ("", "f1", "unknown"):
            for error in ("", "E2", "Unknown"):
                expected = [
                    request_id
                    for request_id, (its_tenant, its_function, its_error) in known.items()
                    if its_tenant == tenant and function in ("", its_function) and error in ("", its_error)
                ]
                which = Filter(tenant, function_name=function, error_type=error)
                found = [request_id for page in pages(bench, which, limit) for request_id in page]
                assert found == expected, which
    some = next(iter(known))
    assert next(pages(bench, Filter("t0", request_id=some), 5)) == [some]
    assert next(pages(bench, Filter("t0", request_id=some, error_type="E3"), 5)) == []
    assert next(pages(bench, Filter("t1", request_id=some), 5)) == []


@pytest.mark.parametrize("purge", [False, True])
def test_redrive_and_purge_take_exactly_what_the_filter_says(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, purge: bool
) -> None:
    monkeypatch.setattr(dead_letters, "SCAN_ROWS", 2)
    known = fill(bench)
    which = Filter("t0", function_name="f1", error_type="E2")
    gone = [k for k, v in known.items() if v == ("t0", "f1", "E2")]
    total = after_id = 0
    while True:
        moved = move(bench, which, 1, after_id, purge=purge)
        total, after_id = total + moved, moved.next_id
        if not after_id:
            break
    left = [request_id for tenant in ("t0", "t1") for page in pages(bench, Filter(tenant), 50) for request_id in page]
    assert total == len(gone) > 2 and set(left) == set(known) - set(gone)
    assert bench.shard.dead_count == len(left)
    assert {lease.event.request_id for lease in bench.lease(60)} == (set() if purge else set(gone))


def test_pages_while_others_redrive_and_purge(bench: Bench) -> None:
    """What stays is seen once; what goes is seen at most once; what dies again comes last."""
    known = [k for k, v in fill(bench, 200).items() if v[0] == "t0"]
    seen: Ids = []
    gone: set[bytes] = set()
    for number, page in enumerate(pages(bench, Filter("t0"), 7)):
        seen += page
        victims = (page[0], known[-1 - number])
        for victim, purge in zip(victims, (True, False), strict=True):
            if victim not in gone:
                gone.add(victim)
                assert move(bench, Filter("t0", request_id=victim), purge=purge) == 1
        for lease in bench.lease(5):
            bench.settle(bury(lease))
    assert max(seen.count(request_id) for request_id in known if request_id not in gone) == 1
    assert set(known) - gone <= set(seen)
    again = [request_id for request_id in seen if seen.count(request_id) > 1]
    assert set(again) <= gone


def test_a_turn_is_bounded_in_rows_and_bytes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte of payload a letter: one turn takes few of them, at least one, and says where to go on."""
    fill(bench, 10, payload_bytes=400_000)
    page, after_id = dead_letters.page(bench.shard, Filter("t0"), 0, 100)
    assert 1 <= len(page) <= 3 and after_id
    for purge in (False, True):
        moved = move(bench, Filter("t0"), 100, purge=purge)
        assert 1 <= moved <= 3 and moved.next_id
    monkeypatch.setattr(dead_letters, "BATCH_BYTES", 10)
    assert len(dead_letters.page(bench.shard, Filter("t1"), 0, 100)[0]) == 1


def test_dead_letters_end_by_age_and_not_before(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the shard's clock, oldest first; a backlog of them goes in turns that follow each other."""
    monkeypatch.setattr(dead_letters, "PURGE_BATCH", 10)
    bench = Bench(run_dir, dead_letter_keep_seconds=3_600)
    fill(bench, 35)
    bench.clock.advance(1_800_000)
    late = set(fill(bench, 5))
    bench.clock.advance(1_799_000)
    bench.drain()
    assert bench.shard.dead_count == 40
    bench.clock.advance(2_001)
    bench.drain()
    assert bench.shard.dead_count == 30, "one turn"
    for left in (20, 10, 5):
        # Much sooner than the next look at the house would be.
        assert bench.shard.seconds_until_due() <= 0.05
        bench.clock.advance(50)
        bench.drain()
        assert bench.shard.dead_count == left
    assert {r for t in ("t0", "t1") for page in pages(bench, Filter(t), 50) for r in page} == late
    bench.clock.jump_wall(86_400_000)
    bench.clock.advance(1_000)
    bench.drain()
    assert bench.shard.dead_count == 5, "a clock that jumps ends nothing"
    bench.clock.advance(1_800_000)
    bench.drain()
    assert bench.shard.dead_count == 0
    bench.shard.database.close()


@given(
    st.integers(1, 10_000),
    st.lists(st.tuples(st.integers(0, 200), st.floats(0, 5_000)), min_size=2, max_size=30),
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_stretch_of_time_gets_more_than_the_rate(per_second: int, steps: list[tuple[int, float]]) -> None:
    """Whatever the callers do, from the start of a step to the start of a later one the rate holds."""
    pace, now_ms = Pace(), 0.0
    starts: list[tuple[float, int]] = []
    for events, idle_ms in steps:
        now_ms += idle_ms
        now_ms += pace.wait_ms(now_ms)
        starts.append((now_ms, events))
        pace.note(now_ms, events, per_second)
    for first in range(len(starts)):
        went = 0
        for at_ms, events in starts[first:]:
            assert went <= (at_ms - starts[first][0]) * per_second / 1_000 + 1e-6
            went += events


class PassingClock(FakeClock):
    """Time that passes, a millisecond at a time, only while somebody waits; several may."""

    async def sleep(self, seconds: float) -> None:
        """Wait on this clock."""
        until_ms = self.monotonic_ms() + seconds * 1_000
        await _yield(0)
        while self.monotonic_ms() < until_ms:
            self.advance(min(1.0, until_ms - self.monotonic_ms()))
            await _yield(0)


_yield = asyncio.sleep


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> PassingClock:
    """The clock that a redriver waits on."""
    made = PassingClock()
    monkeypatch.setattr("services.queue.redriving.asyncio.sleep", made.sleep)
    return made


class Moves:
    """Moves whatever is asked for, and remembers when."""

    def __init__(self, clock: PassingClock) -> None:
        self._clock = clock
        self.steps: list[tuple[float, int]] = []

    async def __call__(self, after_id: int, count: int) -> Moved:
        self.steps.append((self._clock.monotonic_ms(), count))
        await _yield(0)
        return Moved(count, after_id + count)

    def gaps_ms(self) -> set[int]:
        """Times between steps."""
        return {round(later[0] - sooner[0]) for sooner, later in pairwise(self.steps)}


async def test_a_redrive_is_even_and_under_the_nodes_bound(clock: PassingClock) -> None:
    """Steps of a twentieth of a second; a higher wish is cut; calls after each other keep the rate."""
    redriver, moves, started_ms = Redriver(clock, 100), Moves(clock), clock.monotonic_ms()
    assert await redriver.run(0, 50, 0, moves) == 50
    assert clock.monotonic_ms() - started_ms == pytest.approx(500, abs=1)
    assert await redriver.run(0, 20, 5_000, moves) == 20
    assert clock.monotonic_ms() - started_ms == pytest.approx(700, abs=1)
    assert {count for _, count in moves.steps} == {5} and moves.gaps_ms() == {50}


async def test_a_slow_redrive_ends_in_time_for_its_callers_deadline(clock: PassingClock) -> None:
    """With what went by then."""
    redriver, moves, started_ms = Redriver(clock, 100), Moves(clock), clock.monotonic_ms()
    assert await redriver.run(0, 4, 2, moves) == 4
    assert clock.monotonic_ms() - started_ms == pytest.approx(2_000, abs=1)
    assert await redriver.run(0, 1_000, 2, moves) == 11
    assert clock.monotonic_ms() - started_ms == pytest.approx(7_500, abs=1)


async def test_redrives_of_one_shard_share_its_bound(clock: PassingClock) -> None:
    """Two callers get half each and never a step at once; another shard has its own; a slow one is in nobody's way."""
    redriver, moves, others = Redriver(clock, 100), Moves(clock), Moves(clock)
    started_ms = clock.monotonic_ms()
    await asyncio.gather(redriver.run(1, 50, 0, moves), redriver.run(1, 50, 0, moves), redriver.run(2, 50, 0, others))
    assert clock.monotonic_ms() - started_ms >= 950
    assert min(moves.gaps_ms()) >= 49 and len(moves.steps) == 20
    assert others.steps[-1][0] - started_ms < 500
    started_ms = clock.monotonic_ms()
    quick = Moves(clock)
    slow = asyncio.create_task(redriver.run(3, 3, 1, Moves(clock)))
    await redriver.run(3, 50, 0, quick)
    assert clock.monotonic_ms() - started_ms < 700
    await slow
