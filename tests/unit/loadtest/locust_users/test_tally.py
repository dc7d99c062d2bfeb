"""What drivers count, and when a run counts for nothing."""

import json
import random

from loadtest.locust_users import order as orders
from loadtest.locust_users import tally
from loadtest.locust_users.order import Order
from loadtest.locust_users.sample import Sample
from loadtest.locust_users.tally import Tally

DRIVERS = ("a", "b")


def good() -> Tally:
    return Tally(planned=500, sent=500, late=5, answered=500, cpu=0.3, is_final=True)


def test_a_run_counts_while_late_are_few_and_every_driver_told_its_end() -> None:
    assert tally.open_loop_void(DRIVERS, {"a": good(), "b": good()}) == ()


def test_late_sends_of_all_drivers_together_make_it_void() -> None:
    """One in a hundred is allowed, over all."""
    late = good()
    late.late = 6
    (reason,) = tally.open_loop_void(DRIVERS, {"a": good(), "b": late})
    assert "11 of 1,000" in reason


def test_sends_dropped_in_time_do_not() -> None:
    """There was no room for them since the fleet did not answer: that is what was to be found out."""
    full = good()
    full.sent, full.dropped = 100, 400
    assert tally.open_loop_void(DRIVERS, {"a": good(), "b": full}) == ()


def test_one_driver_without_idle_cpu_makes_it_void() -> None:
    busy = good()
    busy.cpu = 0.71
    (reason,) = tally.open_loop_void(DRIVERS, {"a": good(), "b": busy})
    assert "71.0 % of a core" in reason


def test_a_driver_that_never_told_its_end_makes_it_void() -> None:
    """Lost, or only its reports on the way are known."""
    on_the_way = good()
    on_the_way.is_final = False
    for tallies in ({"a": good()}, {"a": good(), "b": on_the_way}):
        assert tally.open_loop_void(DRIVERS, tallies) == ("1 of 2 drivers never told how their part ended",)


def test_nothing_sent_is_void() -> None:
    assert "nothing was sent" in tally.open_loop_void(DRIVERS, {})


def test_the_words_say_what_the_dwell_rests_on() -> None:
    """Events that had not settled are missing from the rows, which is said."""
    one = good()
    one.followed, one.settled, one.unfollowed = 20, 18, 3
    lines = tally.lines(DRIVERS, {"a": one}, is_open=True)
    assert lines[0].startswith("driver 0: 500 planned, 500 sent, 5 late, 0 dropped, 0 failed")
    assert lines[1] == "driver 1: silent"
    assert "18 of 20 followed events settled; the others were still under way" in lines[2]
    assert "3 more were not followed" in lines[2]


def test_tallies_and_orders_survive_a_message() -> None:
    """Locust's messages carry plain data."""
    assert tally.from_plain(json.loads(json.dumps(tally.as_plain(good())))) == good()
    order = Order(7, 30.0, DRIVERS, {"HttpEvent": 1.0})
    back = orders.from_plain(json.loads(json.dumps(orders.as_plain(order))))
    assert back == order
    assert back.part_of("b") == 1 and back.part_of("late") is None


def test_an_open_loops_sample_is_drawn_so_that_bursts_weigh_what_they_have() -> None:
    """A tenth of the events, also where they come at the same moment."""
    sample = Sample(10.0, 100.0, random.Random(1).random)
    assert abs(sum(sample.takes(0.0) for _ in range(10_000)) - 1_000) < 100


def test_a_closed_loops_sample_is_one_of_each_stretch() -> None:
    """However many there are; and none when none are asked for."""
    sample = Sample(10.0, 0.0, random.Random(1).random)
    assert abs(sum(sample.takes(at / 1_000) for at in range(5_000)) - 50) <= 1
    assert not Sample(0.0, 0.0, random.Random(1).random).takes(1.0)


def test_a_run_of_which_nothing_was_taken_has_a_hint() -> None:
    lost = Tally(sent=5, answered=5, failed=5)
    missing = tally.hint(lost, ["404 ResourceNotFoundException", "ERROR_REASON_FUNCTION_NOT_FOUND"], "nope", "A and B")
    assert "no function 'nope'" in missing
    assert "fleet at A and B" in tally.hint(lost, ["connection: ConnectionRefusedError", "UNAVAILABLE"], "f", "A and B")
    assert "see the failures" in tally.hint(lost, ["UNAVAILABLE", "THROTTLED"], "f", "A and B")
    assert tally.hint(Tally(sent=5, answered=5, failed=4), ["THROTTLED"], "f", "A and B") == ""
    assert tally.hint(Tally(), [], "f", "A and B") == ""
