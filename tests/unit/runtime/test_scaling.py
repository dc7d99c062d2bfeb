"""The scaling rate: so many sandboxes at once, and as many again over ten seconds; each host has its part."""

from services.runtime.scaling import MAX_FUNCTIONS, WINDOW_MS, ScalingRate

F, G = ("t", "f"), ("t", "g")


def taken(rate: ScalingRate, now_ms: float, key: tuple[str, str] = F) -> int:
    """Starts until one is refused."""
    count = 0
    while rate.take(key, now_ms):
        count += 1
    return count


def test_a_full_rate_at_once_then_as_time_goes_by() -> None:
    rate = ScalingRate(1_000)
    assert taken(rate, 0.0) == 1_000
    assert taken(rate, WINDOW_MS / 10) == 100
    assert taken(rate, WINDOW_MS * 5) == 1_000


def test_functions_do_not_count_for_one_another() -> None:
    rate = ScalingRate(10)
    assert (taken(rate, 0.0), taken(rate, 0.0, G)) == (10, 10)


def test_hosts_have_equal_parts_and_one_at_least() -> None:
    rate = ScalingRate(10)
    rate.set_hosts(3)
    assert taken(rate, 0.0) == 3
    rate.set_hosts(50)
    assert taken(rate, WINDOW_MS, G) == 1
    rate.set_hosts(0)
    assert taken(rate, WINDOW_MS * 9, G) == 10


def test_a_start_that_was_none_is_given_back() -> None:
    rate = ScalingRate(1)
    assert rate.take(F, 0.0) and not rate.take(F, 0.0)
    rate.give_back(F)
    assert rate.take(F, 0.0)


def test_as_many_functions_as_there_are_are_not_all_remembered() -> None:
    rate = ScalingRate(1)
    for n in range(MAX_FUNCTIONS + 10):
        rate.take(("t", str(n)), 0.0)
    assert len(rate._left) == MAX_FUNCTIONS
