"""Deficit round robin: shares, no saved-up credit, and an end."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.policy.fair import QUANTUM, FairOrder


def fill(order: FairOrder[str], backlog: dict[str, int]) -> None:
    """One lane a name "tenant/function"."""
    for name in backlog:
        order.add(name.split("/")[0], name)


def taker(order: FairOrder[str], backlog: dict[str, int], taken: Counter[str], blocked: frozenset[str] = frozenset()):  # type: ignore[no-untyped-def]
    """Takes from the backlog; an emptied lane leaves the order."""

    def take_from(lane: str, offer: int) -> int:
        if lane in blocked:
            return 0
        count = min(offer, backlog[lane])
        backlog[lane] -= count
        taken[lane] += count
        if not backlog[lane]:
            order.discard(lane.split("/")[0], lane)
        return count

    return take_from


def test_tenants_share_evenly_and_functions_inside_them() -> None:
    order: FairOrder[str] = FairOrder()
    backlog = {"a/1": 1_000, "a/2": 1_000, "a/3": 1_000, "b/1": 1_000}
    fill(order, backlog)
    taken: Counter[str] = Counter()
    assert order.take(240, taker(order, backlog, taken)) == 240
    assert taken == {"a/1": 40, "a/2": 40, "a/3": 40, "b/1": 120}


def test_single_takes_are_as_fair_as_one_large_one() -> None:
    order: FairOrder[str] = FairOrder()
    backlog = {"a/1": 1_000, "b/1": 1_000}
    fill(order, backlog)
    taken: Counter[str] = Counter()
    for _ in range(80):
        order.take(1, taker(order, backlog, taken))
    assert taken == {"a/1": 40, "b/1": 40}


def test_lanes_found_empty_do_not_end_the_search() -> None:
    """They leave the order while it is walked; those behind them are asked all the same."""
    order: FairOrder[str] = FairOrder()
    backlog = {"a/1": 0, "a/2": 0, "a/3": 0, "b/1": 0, "c/1": 2}
    fill(order, backlog)
    taken: Counter[str] = Counter()
    assert order.take(2, taker(order, backlog, taken)) == 2
    assert taken["c/1"] == 2


def test_a_quantum_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        FairOrder(0)


backlogs = st.dictionaries(
    st.builds("{}/{}".format, st.sampled_from("abcd"), st.integers(0, 3)), st.integers(1, 60), max_size=10
)


@given(backlogs, st.lists(st.integers(1, 30), max_size=12), st.integers(1, 9), st.data())
def test_takes_what_there_is_and_no_blocked_lane(
    backlog: dict[str, int], wants: list[int], quantum: int, data: st.DataObject
) -> None:
    blocked = frozenset(data.draw(st.sets(st.sampled_from(sorted(backlog))))) if backlog else frozenset()
    order: FairOrder[str] = FairOrder(quantum)
    free = sum(count for lane, count in backlog.items() if lane not in blocked)
    fill(order, backlog)
    taken: Counter[str] = Counter()
    for wanted in wants:
        got = order.take(wanted, taker(order, backlog, taken, blocked))
        assert got == min(wanted, free)
        free -= got
    assert not blocked & taken.keys()


@given(st.lists(st.integers(1, 7), min_size=1, max_size=60))
def test_backlogged_tenants_are_never_more_than_two_turns_apart(wants: list[int]) -> None:
    order: FairOrder[str] = FairOrder()
    backlog = {"a/1": 10_000, "a/2": 10_000, "b/1": 10_000}
    fill(order, backlog)
    taken: Counter[str] = Counter()
    for wanted in wants:
        order.take(wanted, taker(order, backlog, taken))
        assert abs(taken["a/1"] + taken["a/2"] - taken["b/1"]) <= 2 * QUANTUM
