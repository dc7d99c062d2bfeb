"""The search for the highest rate that holds, on systems that are made up: sharp, noisy, without a limit, void."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.plan.search import LEAST_PER_SECOND, Request, Scope, Search, Verdict

System = Callable[[Request], Verdict]


def explore(search: Search, system: System) -> list[tuple[Request, Verdict]]:
    """Make every run that the search asks for, on this system."""
    made: list[tuple[Request, Verdict]] = []
    while (request := search.next()) is not None:
        assert 1 <= search.runs_left() <= search.scope.max_runs - len(made)
        made.append((request, system(request)))
        search.told(made[-1][1])
    assert search.runs_left() == 0
    return made


def carries(limit_per_second: float) -> System:
    """Fails above this rate, plainly above twice it."""

    def verdict(request: Request) -> Verdict:
        if request.per_second > 2 * limit_per_second:
            return Verdict.OVERLOADED
        return Verdict.HELD if request.per_second <= limit_per_second else Verdict.FAILED

    return verdict


def rates_of(made: list[tuple[Request, Verdict]], purpose: str) -> list[float]:
    """In the order in which they ran."""
    return [request.per_second for request, _ in made if request.purpose == purpose]


@settings(deadline=None, max_examples=50)
@given(
    limit=st.floats(LEAST_PER_SECOND * 1.5, 90_000),
    start=st.floats(LEAST_PER_SECOND, 100_000),
    part=st.floats(0.01, 0.5),
)
def test_a_sharp_limit_is_found_within_the_resolution(limit: float, start: float, part: float) -> None:
    """Wherever it starts: what held is at most the limit, and one resolution above it is beyond the limit."""
    search = Search(Scope(start_per_second=start, max_per_second=200_000, resolution=part))
    explore(search, carries(limit))
    assert search.best_per_second <= limit < search.best_per_second * (1 + part) * (1 + 1e-9)
    assert search.notes == []


def test_the_whole_order_of_runs() -> None:
    """Doubling, bisecting, repeats, neighbours, overload, the curve, closed loops; no seed twice."""
    search = Search(Scope(start_per_second=100, repeats=5, around=2))
    made = explore(search, carries(500))
    purposes = [request.purpose for request, _ in made]
    assert purposes == sorted(purposes, key=["search", "repeat", "around", "overload", "curve", "closed"].index)
    assert rates_of(made, "search")[:4] == [100, 200, 400, 800]
    best = search.best_per_second
    assert rates_of(made, "repeat") == [best] * 5
    assert rates_of(made, "around") == pytest.approx([best / 1.05] * 2 + [best * 1.05] * 2)
    assert rates_of(made, "overload") == pytest.approx([1.5 * best] * 5)
    assert rates_of(made, "curve") == pytest.approx([times * best for times in search.scope.curve])
    assert [request.callers for request, _ in made if request.purpose == "closed"] == [1, 2, 4, 8, 16, 32, 64]
    assert all(request.callers == 0 for request, _ in made if request.purpose != "closed")
    seeds = [request.seed for request, _ in made]
    assert len(set(seeds)) == len(seeds)


def test_a_failure_is_confirmed_and_a_plain_one_is_not() -> None:
    """1,600/s is far beyond 500/s: once is enough. 800/s fails twice; nothing that held is run twice."""
    search = Search(Scope(start_per_second=1_600, curve=(), callers=()))
    made = explore(search, carries(500))
    rates = rates_of(made, "search")
    assert rates.count(1_600) == 1
    assert rates.count(800) == 2
    assert rates.count(400) == 1


def test_one_failure_among_three_runs_does_not_count() -> None:
    """A stall in the first run at 400/s: the second and the third one hold, and the search goes on upwards."""
    stalls = [400.0]

    def system(request: Request) -> Verdict:
        if request.per_second in stalls:
            stalls.remove(request.per_second)
            return Verdict.FAILED
        return carries(1_000)(request)

    search = Search(Scope(start_per_second=100))
    made = explore(search, system)
    assert rates_of(made, "search")[:6] == [100, 200, 400, 400, 400, 800]
    assert 950 < search.best_per_second <= 1_000


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), limit=st.floats(50, 5_000))
def test_a_noisy_limit_is_found_nearly(seed: int, limit: float) -> None:
    """Whether a run holds is a matter of chance within 10 % of the limit; the answer stays near it."""
    draw = random.Random(seed)
    search = Search(Scope(start_per_second=100))

    def system(request: Request) -> Verdict:
        return carries(limit * draw.uniform(0.9, 1.1))(request)

    explore(search, system)
    assert 0.85 * limit / 1.05 <= search.best_per_second <= 1.1 * limit


def test_a_best_rate_that_its_repeats_do_not_hold_is_left() -> None:
    """It held in the search by luck; the repeats tell, and the next lower step is repeated instead."""

    def system(request: Request) -> Verdict:
        return carries(500 if request.purpose == "search" else 470)(request)

    search = Search(Scope(start_per_second=100, resolution=0.02))
    explore(search, system)
    assert 470 / 1.02 < search.best_per_second <= 470
    assert any("one step down" in note for note in search.notes)


def test_void_repeats_are_made_up_for() -> None:
    """One repeat is void twice over: there are five that count all the same."""
    voids = [True, True]

    def system(request: Request) -> Verdict:
        if request.purpose == "repeat" and voids:
            voids.pop()
            return Verdict.VOID
        return carries(500)(request)

    made = explore(Search(Scope(start_per_second=100, repeats=5)), system)
    assert [verdict for request, verdict in made if request.purpose == "repeat"].count(Verdict.HELD) == 5


def test_always_holding_ends_at_the_highest_rate() -> None:
    """No failure at all: the plan says that the limit is above what was asked for."""
    search = Search(Scope(start_per_second=100, max_per_second=1_000))
    made = explore(search, lambda _: Verdict.HELD)
    assert rates_of(made, "search") == [100, 200, 400, 800, 1_000]
    assert search.best_per_second == 1_000
    assert "still held" in search.notes[0]
    # Never beyond what was asked for, and then mu is not known.
    assert max(request.per_second for request, _ in made) == 1_000
    assert not rates_of(made, "overload") and "highest throughput was not measured" in search.notes[1]


def test_never_holding_ends_without_a_rate() -> None:
    """Down to the lowest rate that means anything; no curve around nothing, but closed loops all the same."""
    search = Search(Scope(start_per_second=100))
    made = explore(search, lambda _: Verdict.FAILED)
    assert search.best_per_second == 0
    assert min(rates_of(made, "search")) == LEAST_PER_SECOND
    assert not rates_of(made, "repeat") and not rates_of(made, "curve")
    assert len(rates_of(made, "closed")) == 7
    assert "no rate" in search.notes[0]


@settings(deadline=None, max_examples=50)
@given(generator=st.floats(5, 50_000), fleet=st.floats(5, 50_000))
def test_a_void_run_counts_neither_way(generator: float, fleet: float) -> None:
    """The generator does not keep up above its own limit: the best rate is below both limits, and the end says why."""

    def system(request: Request) -> Verdict:
        return Verdict.VOID if request.per_second > generator else carries(fleet)(request)

    search = Search(Scope(start_per_second=100))
    made = explore(search, system)
    assert search.best_per_second <= min(fleet, generator)
    assert any("void" in note for note in search.notes) or search.best_per_second * 1.05 >= fleet * (1 - 1e-9)
    held = [request.per_second for request, verdict in made if verdict is Verdict.HELD and request.purpose == "search"]
    assert search.best_per_second == max(held)


def test_more_drivers_are_taken_for_a_void_run_and_kept() -> None:
    """One driver carries 300/s: with more of them the search goes on, and never falls back to one."""

    def system(request: Request) -> Verdict:
        return Verdict.FULL if request.per_second > 300 * request.drivers else carries(1_000)(request)

    search = Search(Scope(start_per_second=100))
    made = explore(search, system)
    drivers = [request.drivers for request, _ in made]
    assert drivers == sorted(drivers)
    assert set(drivers) == {1, 2, 4, 8}
    assert 950 < search.best_per_second <= 1_000
    assert search.notes == []


def test_more_drivers_are_no_help_where_something_else_held_sends_up() -> None:
    """Void without a full generator: run again with as many."""
    search = Search(Scope(start_per_second=100))
    made = explore(search, lambda request: Verdict.VOID if request.per_second > 300 else Verdict.HELD)
    assert {request.drivers for request, _ in made} == {1}


def test_a_generator_that_is_always_void_ends() -> None:
    """Nothing is known then, and nothing is claimed."""
    search = Search(Scope(start_per_second=100))
    made = explore(search, lambda _: Verdict.VOID)
    assert search.best_per_second == 0
    assert len(made) < 50


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_whatever_comes_the_number_of_runs_is_bounded(data: st.DataObject) -> None:
    """Verdicts without any sense: the search ends within its bound all the same."""
    draw = random.Random(data.draw(st.integers(0, 100_000)))
    verdicts = data.draw(st.lists(st.sampled_from(list(Verdict)), min_size=1, max_size=4))
    most = data.draw(st.integers(1, 60))
    search = Search(Scope(start_per_second=100, resolution=0.01, max_runs=most))
    made = explore(search, lambda _: draw.choice(verdicts))
    assert len(made) <= most
    assert len(made) < most or search.next() is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"start_per_second": 0.5},
        {"start_per_second": 10, "max_per_second": 5},
        {"resolution": 0},
        {"drivers": 9},
        {"repeats": 0},
    ],
)
def test_a_scope_without_sense_is_refused(wrong: dict[str, float]) -> None:
    """Before anything is started."""
    with pytest.raises(ValueError, match=r"rate|resolution|drivers|repeat"):
        Scope(**wrong)  # type: ignore[arg-type]


def test_an_answer_without_a_question_is_refused() -> None:
    """After the last run there is nothing to be told of."""
    search = Search(Scope(repeats=1, around=0, curve=(), callers=(), max_runs=1))
    search.told(Verdict.HELD)
    assert search.next() is None
    with pytest.raises(RuntimeError, match="no run"):
        search.told(Verdict.HELD)
