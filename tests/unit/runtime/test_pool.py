"""When a further sandbox is started and which one is ended."""

from collections.abc import Iterator

from services.runtime import pool
from services.runtime.pool import Demand, Idle, Need, ScaleRules, expired, runs_ahead, smoothed, starts_wanted, victims

RULES = ScaleRules(after_ms=5, backlog_ms=25)


def demand(**changes: float | None) -> Demand:
    fields: dict[str, float | None] = {
        "idle": 0, "busy": 0, "starting": 0, "waiting_sync": 0, "waiting_async": 0,
        "oldest_wait_ms": 0.0, "quiet_ms": 0.0, "service_ms": None, **changes,
    }  # fmt: skip
    return Demand(**fields)  # type: ignore[arg-type]


def test_who_waits_synchronously_gets_a_start_at_once() -> None:
    """As many as are not covered by idle ones and starts under way."""
    assert starts_wanted(demand(waiting_sync=3, busy=10), RULES) == 3
    assert starts_wanted(demand(waiting_sync=3, starting=2, busy=10), RULES) == 1


def test_the_first_async_one_gets_a_start_the_next_wait() -> None:
    """One start when there is nothing; then patience."""
    assert starts_wanted(demand(waiting_async=50), RULES) == 1
    assert starts_wanted(demand(waiting_async=50, starting=1), RULES) == 0
    assert starts_wanted(demand(waiting_async=50, busy=5, oldest_wait_ms=4.9), RULES) == 0


def test_handlers_that_do_not_turn_over_scale_out() -> None:
    """Waited long enough and nothing ended since: one for each that waits."""
    assert starts_wanted(demand(waiting_async=50, busy=5, oldest_wait_ms=6, quiet_ms=6), RULES) == 50
    assert starts_wanted(demand(waiting_async=50, busy=5, starting=4, oldest_wait_ms=6, quiet_ms=6), RULES) == 46


def test_fast_handlers_scale_only_with_the_backlog() -> None:
    """128 that take 0.1 ms need no third sandbox; 128 that take 2 ms need ten."""
    fast = demand(waiting_async=128, busy=2, oldest_wait_ms=20, service_ms=0.1)
    assert starts_wanted(fast, RULES) == 0
    slow = demand(waiting_async=128, busy=2, oldest_wait_ms=20, service_ms=2.0)
    assert starts_wanted(slow, RULES) == 8


def test_victims_are_the_least_recently_used_of_other_functions() -> None:
    """Never one's own, never nobody's, no more than needed."""
    idle = [Idle(1, "mine", 0.0), Idle(3, "b", 20.0), Idle(2, "a", 30.0)]
    assert victims(idle, {"mine"}, Need(0, 1)) == [3]
    assert victims(idle, {"mine"}, Need(0, 2)) == [3, 2]
    assert victims(idle[:1], {"mine"}, Need(0, 1)) == []


def test_as_many_are_ended_as_make_the_memory() -> None:
    """Also all there are when that is not enough: what comes free later is added to it."""
    idle = [Idle(n, "other", float(n), 128) for n in range(20)]
    assert victims(idle, {"big"}, Need(1_024, 0)) == list(range(8))
    assert victims(idle, {"big"}, Need(1_025, 0)) == list(range(9))
    assert victims(idle[:3], {"big"}, Need(1_024, 0)) == [0, 1, 2]


def test_small_ones_before_a_large_one_are_spared_when_it_is_enough() -> None:
    """The newest of them first."""
    idle = [Idle(1, "a", 1.0, 128), Idle(2, "b", 2.0, 256), Idle(3, "c", 3.0, 1_024)]
    assert victims(idle, {"big"}, Need(1_024, 0)) == [3]
    assert victims(idle, {"big"}, Need(1_100, 0)) == [1, 3]
    assert victims(idle, {"big"}, Need(1_000, 2)) == [1, 3]


def test_an_eviction_looks_at_no_more_than_it_ends() -> None:
    """Thousands of idle ones beside do not cost anything."""
    looked = 0

    def idle() -> Iterator[Idle]:
        nonlocal looked
        for number in range(100_000):
            looked += 1
            yield Idle(number, "other", 0.0)

    assert victims(idle(), {"mine"}, Need(128, 1)) == [0]
    assert looked <= 2


def test_idle_ones_end_after_their_time() -> None:
    """At the bound, not before."""
    assert expired([Idle(1, "a", 0.0), Idle(2, "a", 1.0)], 100.0, 100.0) == [1]
    assert smoothed(None, 4.0) == 4.0 and smoothed(4.0, 14.0) == 5.0


def test_only_short_handlers_are_sent_runs_ahead() -> None:
    """Two milliseconds of them at most, and eight at most; none while the time is not known."""
    assert runs_ahead(None) == 0
    assert [runs_ahead(ms) for ms in (0.0, 0.02, 0.25, 0.5, 1.0, 2.0, 2.1, 1_000.0)] == [8, 8, 8, 4, 2, 1, 0, 0]


def in_line(owner: str, present: int, oldest_ms: float, passed_over_ms: float | None = None) -> pool.InLine:
    return pool.InLine(owner, present, oldest_ms, oldest_ms if passed_over_ms is None else passed_over_ms)


def test_the_share_goes_to_the_longest_waiting_of_those_that_crowd_least() -> None:
    """Not turn by turn: one with a backlog would have as many turns as one that sends a little."""
    quiet, early, noisy = in_line("quiet", 1, 90.0), in_line("early", 4, 80.0), in_line("noisy", 24, 10.0)
    assert pool.next_in_line([noisy, quiet, early], 30, 100.0) is early
    assert pool.next_in_line([noisy, quiet], 30, 100.0) is quiet
    assert pool.next_in_line([noisy], 30, 100.0) is noisy


def test_of_two_that_crowd_the_one_with_much_less_is_first() -> None:
    """A burst of somebody who sends little is not put behind a flood."""
    burst, noisy = in_line("burst", 8, 90.0), in_line("noisy", 24, 10.0)
    assert pool.next_in_line([noisy, burst], 40, 100.0) is burst
    alike = in_line("alike", 20, 90.0)
    assert pool.next_in_line([alike, noisy], 50, 100.0) is noisy


def test_nobody_is_passed_over_for_long() -> None:
    """After a second without a run it is the waiting alone that counts; a backlog by itself is no reason."""
    quiet, noisy = in_line("quiet", 1, 5_000.0), in_line("noisy", 24, 10.0, passed_over_ms=4_500.0)
    assert pool.next_in_line([noisy, quiet], 30, 5_499.0) is quiet
    assert pool.next_in_line([noisy, quiet], 30, 5_500.0) is noisy
