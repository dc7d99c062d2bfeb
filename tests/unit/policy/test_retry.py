"""Retry and age rules, row by row as AWS states them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.policy.retry import (
    TOO_OLD,
    Cause,
    Ending,
    Finish,
    Progress,
    Retry,
    Rules,
    Why,
    before_run,
    decide,
    delivery_delay_ms,
)

MINUTE_MS = 60_000


def after_error(errors_before: int, rules: Rules, at_ms: int = 0) -> Retry | Finish:
    """The decision after one more function error of an event accepted at 0."""
    return decide(Ending.FUNCTION_ERROR, Progress(errors_before, 0, 0), rules, at_ms, 0.5)


def test_function_errors_come_back_after_one_minute_then_two_then_never() -> None:
    """MaximumRetryAttempts is 2 unless configured."""
    assert after_error(0, Rules()) == Retry(MINUTE_MS, Cause.FUNCTION_ERROR)
    assert after_error(1, Rules()) == Retry(2 * MINUTE_MS, Cause.FUNCTION_ERROR)
    assert after_error(2, Rules()) == Finish(Why.RETRIES_EXHAUSTED)


def test_no_retries_configured_ends_after_the_first_error() -> None:
    """MaximumRetryAttempts 0."""
    assert after_error(0, Rules(max_retries=0)) == Finish(Why.RETRIES_EXHAUSTED)


def test_the_age_check_looks_ahead() -> None:
    """Age 60 ends after attempt 1; age 90 allows one retry, whose failure at 60 s would come back at 180 s and ends."""
    assert after_error(0, Rules(max_age_ms=60_000)) == TOO_OLD
    assert after_error(0, Rules(max_age_ms=90_000)) == Retry(MINUTE_MS, Cause.FUNCTION_ERROR)
    assert after_error(1, Rules(max_age_ms=90_000), at_ms=60_000) == TOO_OLD


@pytest.mark.parametrize("ending", [Ending.THROTTLED, Ending.SYSTEM_ERROR])
def test_throttles_and_system_errors_are_outside_the_attempts(ending: Ending) -> None:
    """They come back from a second on, doubling to five minutes, however often the handler failed before."""
    waits = []
    for throttles in range(12):
        decision = decide(ending, Progress(2, throttles, 0), Rules(), 0, 0.999999)
        assert isinstance(decision, Retry)
        assert decision.cause is Cause.THROTTLE
        waits.append(decision.delay_ms)
    assert 900 <= waits[0] <= 1_000
    assert waits == sorted(waits)
    assert 290_000 <= waits[-1] <= 300_000


def test_a_throttle_ends_the_event_at_its_age() -> None:
    """Six hours of throttles, then EventAgeExceeded."""
    decision = decide(Ending.THROTTLED, Progress(0, 5, 0), Rules(), 21_599_999, 0.5)
    assert decision == TOO_OLD


def test_no_room_grows_no_counter() -> None:
    """A host that leaves is nobody's fault: the event comes back untouched after the shortest wait."""
    decision = decide(Ending.NO_ROOM, Progress(1, 9, 0), Rules(), 0, 0.0)
    assert decision == Retry(500, Cause.UNSTARTED)


def test_success_ends_it() -> None:
    """Whatever happened before."""
    assert decide(Ending.SUCCEEDED, Progress(2, 3, 0), Rules(), 10**12, 0.5) == Finish(Why.SUCCESS)


@given(
    ending=st.sampled_from([Ending.FUNCTION_ERROR, Ending.THROTTLED, Ending.SYSTEM_ERROR, Ending.NO_ROOM]),
    errors=st.integers(0, 3),
    throttles=st.integers(0, 100),
    now_ms=st.integers(0, 30_000_000),
    age_ms=st.integers(60_000, 21_600_000),
    kept_until_ms=st.integers(0, 30_000_000),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_no_retry_ever_falls_past_the_age(
    ending: Ending, errors: int, throttles: int, now_ms: int, age_ms: int, kept_until_ms: int, draw: float
) -> None:
    """Neither past the function's age of now nor past the time for which the shard promised to keep the event."""
    progress = Progress(errors, throttles, 0, kept_until_ms)
    decision = decide(ending, progress, Rules(max_age_ms=age_ms), now_ms, draw)
    if isinstance(decision, Retry):
        comes_ms = now_ms + decision.delay_ms
        assert comes_ms < age_ms
        assert not kept_until_ms or comes_ms < kept_until_ms


def check(now_ms: int = 0, *, is_expired: bool = False, is_closed: bool = False, chain_depth: int = 0) -> Finish | None:
    """`before_run` of an event accepted at 0 that its shard keeps for a minute."""
    rules = Rules(max_age_ms=MINUTE_MS)
    return before_run(
        Progress(0, 0, 0, MINUTE_MS), rules, now_ms, is_expired=is_expired, is_closed=is_closed, chain_depth=chain_depth
    )


def test_what_must_not_run_is_ended_before() -> None:
    """Age first, then zero reservation, then the recursion stop."""
    assert check() is None
    assert check(MINUTE_MS - 1) is None
    assert check(MINUTE_MS) == TOO_OLD
    assert check(is_expired=True, is_closed=True) == TOO_OLD
    assert check(is_closed=True) == Finish(Why.ZERO_RESERVED_CONCURRENCY)
    assert check(chain_depth=15) is None
    assert check(chain_depth=16) == Finish(Why.RECURSION_STOPPED)


def test_an_age_made_longer_since_counts() -> None:
    """The shard hands an event out as expired by the age of its accept; the function allows more by now."""
    progress = Progress(0, 0, 0, MINUTE_MS)
    longer = Rules(max_age_ms=10 * MINUTE_MS)
    assert before_run(progress, longer, 2 * MINUTE_MS, is_expired=True, is_closed=False, chain_depth=0) is None


def test_deliveries_back_off() -> None:
    """A destination that is down is asked less and less often, at least every five minutes."""
    assert delivery_delay_ms(1, Rules(), 0.0) == 500
    assert delivery_delay_ms(60, Rules(), 0.999999) <= 300_000
