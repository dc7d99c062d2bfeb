"""Whole lives of events in virtual time: hours of retries, decided by the same code as a poller's, in no time."""

import itertools
from collections.abc import Iterator

from services.policy.retry import Cause, Ending, Finish, Progress, Rules, Why, before_run, decide

SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000


def life(endings: Iterator[Ending], rules: Rules, unit_random: float = 0.5) -> tuple[list[int], Why, int]:
    """When each try of an event accepted at 0 took place, why it ended, and when; a run takes no time."""
    now_ms = errors = throttles = 0
    tries: list[int] = []
    while True:
        progress = Progress(errors, throttles, 0, 6 * HOUR_MS)
        finish = before_run(progress, rules, now_ms, is_expired=False, is_closed=False, chain_depth=0)
        if finish is not None:
            return tries, finish.why, now_ms
        tries.append(now_ms)
        decision = decide(next(endings), progress, rules, now_ms, unit_random)
        if isinstance(decision, Finish):
            return tries, decision.why, now_ms
        now_ms += decision.delay_ms
        if decision.cause is Cause.FUNCTION_ERROR:
            errors, throttles = errors + 1, 0
        elif decision.cause is Cause.THROTTLE:
            throttles += 1


def always(ending: Ending) -> Iterator[Ending]:
    """The same every time."""
    while True:
        yield ending


def test_a_failing_event_lives_for_three_minutes() -> None:
    """At once, after one minute, after two more."""
    tries, why, ended_ms = life(always(Ending.FUNCTION_ERROR), Rules())
    assert (tries, why, ended_ms) == ([0, MINUTE_MS, 3 * MINUTE_MS], Why.RETRIES_EXHAUSTED, 3 * MINUTE_MS)


def test_ages_cut_that_short_and_look_ahead() -> None:
    """60 s: one attempt; 90 s: two; 179 s: two; 181 s: three. It ends when it is known, not when the age is over."""
    lives = {age: life(always(Ending.FUNCTION_ERROR), Rules(max_age_ms=age * SECOND_MS)) for age in (60, 90, 179, 181)}
    assert {age: (len(tries), ended_ms) for age, (tries, _, ended_ms) in lives.items()} == {
        60: (1, 0),
        90: (2, MINUTE_MS),
        179: (2, MINUTE_MS),
        181: (3, 3 * MINUTE_MS),
    }
    assert {lives[age][1] for age in (60, 90, 179)} == {Why.EVENT_AGE_EXCEEDED}
    assert lives[181][1] is Why.RETRIES_EXHAUSTED


def test_a_throttled_event_is_tried_for_six_hours() -> None:
    """Ever more seldom, at last every five minutes at most; it never ran, and ends by its age."""
    tries, why, ended_ms = life(always(Ending.THROTTLED), Rules())
    gaps = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert gaps[0] <= SECOND_MS and gaps[:9] == sorted(gaps[:9])
    assert 150 * SECOND_MS <= max(gaps) <= 300 * SECOND_MS
    assert why is Why.EVENT_AGE_EXCEEDED
    assert 6 * HOUR_MS - 300 * SECOND_MS <= ended_ms <= 6 * HOUR_MS
    assert 80 <= len(tries) <= 160


def test_throttles_between_errors_take_time_and_no_attempt() -> None:
    """Three errors end it, however many throttles lie between; an error ends the row that the back-off counts."""

    def endings() -> Iterator[Ending]:
        yield from (Ending.THROTTLED, Ending.FUNCTION_ERROR, Ending.SYSTEM_ERROR, Ending.THROTTLED)
        yield from always(Ending.FUNCTION_ERROR)

    tries, why, _ = life(endings(), Rules(), unit_random=0.0)
    assert why is Why.RETRIES_EXHAUSTED
    assert tries == [0, 500, 60_500, 61_000, 62_000, 182_000]
