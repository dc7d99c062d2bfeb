"""What the looks after an outage say: drained only where the depth was what it was before."""

from dataclasses import replace

import pytest

from loadtest.plan.outage import _settled_depth, drain_of
from loadtest.plan.site import Shards, memory_by_service
from tests.unit.loadtest.plan.known_fleet import KnownFleet

RESULT = KnownFleet(seconds=4.0).run("drain", 100, 1).result
# 100 events wait; then 50 a second come and 100 a second end.
BEFORE = Shards((60, 40), 0, 1_000)
LOOKS = [(0.5 * n, Shards((100 - 25 * n, 0), 0, 1_000 + 50 * n)) for n in range(1, 4)]


def test_it_is_drained_at_the_depth_of_before_and_arrivals_are_those_that_came() -> None:
    found = drain_of(BEFORE, LOOKS, 25.0, 12.0, RESULT)
    assert (found.backlog, found.seconds) == (100, 1.5)
    assert found.arriving_per_second == pytest.approx(50)
    assert found.depths[-1] == (1.5, 25) and not found.void


def test_a_backlog_that_is_still_there_has_no_time() -> None:
    """Not the bound, and not the last look."""
    assert drain_of(BEFORE, LOOKS, 24.0, 12.0, RESULT).seconds is None


def test_a_void_load_makes_the_drain_void() -> None:
    assert drain_of(BEFORE, LOOKS, 25.0, 12.0, replace(RESULT, void=("late",))).void == ("late",)


def test_without_a_look_nothing_is_told() -> None:
    found = drain_of(BEFORE, [], 25.0, 12.0, RESULT)
    assert found.seconds is None and "before the fleet was looked at" in found.void[0]


def test_the_depth_of_before_is_what_it_varies_by() -> None:
    """A fleet that always has 100 events under way is drained long before it is empty, an idle one is nearly empty."""
    assert 100 < _settled_depth([95, 100, 105]) < 135
    assert _settled_depth([0, 0, 0]) == 3.0


def test_memory_that_cannot_be_read_is_said() -> None:
    """Not 0 bytes, and not left out without a word."""
    roles = {1: "queue", 2: "poller", 3: "poller"}
    found = memory_by_service({1: None, 2: 5, 3: None}, lambda pid: roles[pid])
    assert found == ({"poller": 5}, {"queue": 1, "poller": 1})
